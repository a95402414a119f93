//! Live transactions: messages of a few of them, each recorded whole, under the identity its producer gave it.
//!
//! A message travels as `assay.live.v1` to the predictors and as `assay.scored_live.v1` to the writer. Its rows are
//! numbered from 1. The writer assigns each message a place in the live run of its producer and day ([`LivePlacement`]);
//! from there on it is a chunk like any other.
//!
//! Producers unaware of Assay send plain JSON, which `plain` parses.

mod identity;
mod plain;

use chrono::{DateTime, TimeDelta, Utc};
pub use identity::{Day, LiveId, ParseProducerError, Producer};
pub use plain::{LiveBodyError, LiveRules, MAX_LIVE_ROWS, split_transactions};
use serde::{Deserialize, Serialize};

use crate::{
    ChunkId, Entry, FailedRow, FailureClass, IdScheme, Lane, Predicted, RejectedRow, RowRange, RunId, ScoredChunk,
    Timestamp,
};

/// A message of live transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveMessage {
    /// Its identity.
    #[serde(flatten)]
    pub id: LiveId,
    /// The scheme of the ids of its transactions. A message of an earlier version names none: it is the first.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The valid transactions, in row order.
    pub transactions: Vec<Entry>,
    /// The rejected rows, in row order. A streamer sends none: it refuses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
}

/// A message of live transactions, each with an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredLive {
    /// Its identity, as before.
    #[serde(flatten)]
    pub id: LiveId,
    /// The scheme of the ids of its transactions. A message of an earlier version names none: it is the first.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// When it was scored.
    pub predicted_at: Timestamp,
    /// Scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicted: Vec<Predicted>,
    /// Not scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRow>,
    /// Rejected, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
}

/// The place of a message in its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePlacement {
    /// The chunk it is recorded as.
    pub id: ChunkId,
    /// Its first row number in the run.
    pub first_row: u64,
}

crate::message::message!(LiveMessage, "assay.live.v1", LiveMessage::check);
crate::message::message!(ScoredLive, "assay.scored_live.v1", ScoredLive::check);

/// Checks that a message can be recorded: its rows are numbered from 1 without gaps, and its name is valid.
fn check(id: &LiveId, rows: impl Iterator<Item = u64>) -> Result<(), &'static str> {
    let mut rows: Vec<u64> = rows.collect();
    rows.sort_unstable();
    if rows.is_empty() || rows.len() > MAX_LIVE_ROWS {
        return Err("a message has 1 to 1000 rows");
    }
    if (1..).zip(&rows).any(|(expected, row)| expected != *row) {
        return Err("its rows are not numbered from 1 without gaps");
    }
    id.check()
}

impl LiveMessage {
    fn check(&self) -> Result<(), &'static str> {
        let rows = self.transactions.iter().map(|entry| entry.row);
        check(&self.id, rows.chain(self.rejected.iter().map(|rejected| rejected.row)))
    }

    /// Number of rows, whatever their outcome.
    pub fn rows(&self) -> u64 {
        (self.transactions.len() + self.rejected.len()) as u64
    }
}

impl ScoredLive {
    fn check(&self) -> Result<(), &'static str> {
        let rows = self.predicted.iter().map(|predicted| predicted.entry.row);
        let rows = rows.chain(self.failed.iter().map(|failed| failed.entry.row));
        check(&self.id, rows.chain(self.rejected.iter().map(|rejected| rejected.row)))
    }

    /// Number of rows, whatever their outcome.
    pub fn rows(&self) -> u64 {
        (self.predicted.len() + self.failed.len() + self.rejected.len()) as u64
    }

    /// A message that will not be scored: all of its transactions fail.
    pub fn all_failed(message: LiveMessage, at: Timestamp, class: &FailureClass, reason: &str) -> Self {
        let LiveMessage { id, ids, transactions, rejected } = message;
        let failed = FailedRow::all(transactions, class, reason);
        Self { id, ids, predicted_at: at, predicted: Vec::new(), failed, rejected }
    }

    /// The message without its predictions: scored rows fail, failed rows stay as they are.
    #[must_use]
    pub fn without_predictions(mut self, class: &FailureClass, reason: &str) -> Self {
        FailedRow::fail_all(&mut self.predicted, &mut self.failed, class, reason);
        self
    }

    /// The chunk it becomes in its place.
    #[must_use]
    pub fn into_chunk(self, place: LivePlacement) -> ScoredChunk {
        let rows = self.rows();
        let Self { id: _, ids, predicted_at, mut predicted, mut failed, mut rejected } = self;
        let before = place.first_row.saturating_sub(1);
        let entries = predicted.iter_mut().map(|predicted| &mut predicted.entry);
        for entry in entries.chain(failed.iter_mut().map(|failed| &mut failed.entry)) {
            entry.row += before;
        }
        for rejected in &mut rejected {
            rejected.row += before;
        }
        let range = RowRange { first_row: place.first_row, rows };
        ScoredChunk {
            id: place.id,
            range,
            ids,
            lane: Lane::Realtime,
            predicted_at,
            predicted,
            failed,
            rejected,
            known: Vec::new(),
        }
    }
}

/// A run of live transactions, as stored in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRun {
    /// Its name.
    pub run_id: RunId,
    /// The producer.
    pub producer: Producer,
    /// The UTC day.
    pub day: Day,
    /// Whether the producer counts what it sends, so that losses show.
    pub counted: bool,
    /// Rows confirmed by the producer's processes; none if it does not count.
    pub accepted: Option<u64>,
    /// Rows the broker may also have taken without a confirmation.
    pub doubtful: u64,
    /// Rows of earlier days that arrived after their own run was sealed.
    pub late: u64,
    /// Rows with a place in the run: recorded, or about to be.
    pub numbered: u64,
    /// The messages they came in.
    pub messages: u64,
    /// Processes of the producer that have not reported a final count.
    pub open_counts: u64,
}

/// How long after its day a live run accepts messages of that day.
const LATE: TimeDelta = TimeDelta::hours(1);

impl LiveRun {
    /// Whether no more rows are due than those confirmed by its producer.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        now >= self.day.end() + LATE
    }

    /// Confirmed rows without a place yet: in flight, or lost.
    pub fn missing(&self) -> u64 {
        self.accepted.map_or(0, |accepted| accepted.saturating_sub(self.numbered.saturating_sub(self.late)))
    }

    /// Confirmed rows that may have no place: the missing ones, and one for each unconfirmed row that did arrive, as it
    /// can mask a lost one.
    pub fn possibly_missing(&self) -> u64 {
        let arrived = self.numbered.saturating_sub(self.late);
        self.accepted.map_or(0, |accepted| accepted.saturating_sub(arrived.saturating_sub(self.doubtful)))
    }

    /// Rows with a place that no count, unconfirmed row or crashed process explains.
    pub fn unexplained(&self) -> u64 {
        let Some(accepted) = self.accepted.filter(|_| self.open_counts == 0) else { return 0 };
        self.numbered.saturating_sub(accepted + self.doubtful + self.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{Prediction, RejectReason, ScoreFailure, TimeZone};

    fn id() -> LiveId {
        let day = "2026-01-11".parse().unwrap();
        LiveId::new("shop".parse().unwrap(), day, "m-1".into(), b"body", true)
    }

    fn rejected(row: u64) -> RejectedRow {
        let message = "`side` is empty".to_owned();
        RejectedRow { row, line: row, reason: RejectReason::SideEmpty, message, raw: "{}".into() }
    }

    #[test]
    fn live_v1_is_pinned() {
        let message =
            LiveMessage { id: id(), ids: IdScheme::V5, transactions: vec![entry(1)], rejected: vec![rejected(2)] };
        let body = String::from_utf8(message.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(LiveMessage::decode(body.as_bytes()).unwrap(), message);
    }

    fn scored() -> ScoredLive {
        let prediction = Prediction { prediction: "fraud".into(), fraud_score: Some(0.97), ..Prediction::default() };
        let failed = FailedRow::new(entry(3), ScoreFailure::given_up(&FailureClass::Rejected, "422"));
        ScoredLive {
            id: id(),
            ids: IdScheme::V5,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", TimeZone::UTC).unwrap(),
            predicted: vec![Predicted { entry: entry(1), prediction }],
            failed: vec![failed],
            rejected: vec![rejected(2)],
        }
    }

    #[test]
    fn scored_live_v1_is_pinned() {
        let body = String::from_utf8(scored().encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(ScoredLive::decode(body.as_bytes()).unwrap(), scored());
    }

    #[test]
    fn an_unrecordable_message_is_unreadable() {
        let good =
            LiveMessage { id: id(), ids: IdScheme::V5, transactions: vec![entry(1)], rejected: vec![rejected(2)] };
        let named = |message: &str| LiveMessage { id: LiveId { message: message.to_owned(), ..id() }, ..good.clone() };
        for (bad, why) in [
            (LiveMessage { transactions: vec![entry(2)], ..good.clone() }, "numbered"),
            (LiveMessage { transactions: vec![entry(1), entry(1)], ..good.clone() }, "numbered"),
            (LiveMessage { transactions: vec![], rejected: vec![], ..good.clone() }, "1 to 1000"),
            (named(""), "name"),
            (named("a\0b"), "name"),
            (named(&"x".repeat(256)), "name"),
        ] {
            let error = LiveMessage::decode(&bad.encode().unwrap()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let day = String::from_utf8(good.encode().unwrap()).unwrap().replace("2026-01-11\"", "+58026-01-11\"");
        assert!(LiveMessage::decode(day.as_bytes()).is_err());
    }

    #[test]
    fn missing_and_unexplained_rows_are_counted() {
        let run = |accepted, doubtful, late, numbered, open_counts| LiveRun {
            run_id: id().run_id(),
            producer: id().producer,
            day: id().day,
            counted: true,
            accepted,
            doubtful,
            late,
            numbered,
            messages: 1,
            open_counts,
        };
        for (run, expected) in [
            (run(Some(10), 0, 0, 10, 0), (0, 0, 0)),
            (run(Some(10), 0, 0, 9, 0), (1, 1, 0)),
            (run(Some(10), 0, 2, 11, 0), (1, 1, 0)),
            (run(Some(10), 2, 3, 15, 0), (0, 0, 0)),
            (run(Some(10), 2, 3, 14, 0), (0, 1, 0)),
            (run(Some(10), 2, 3, 12, 0), (1, 3, 0)),
            (run(Some(1), 2, 0, 1, 0), (0, 1, 0)),
            (run(Some(10), 2, 3, 16, 0), (0, 0, 1)),
            (run(Some(10), 0, 0, 16, 1), (0, 0, 0)),
            (run(None, 0, 0, 16, 0), (0, 0, 0)),
        ] {
            assert_eq!((run.missing(), run.possibly_missing(), run.unexplained()), expected, "{run:?}");
        }
    }

    #[test]
    fn a_message_becomes_the_chunk_of_its_place() {
        let place = LivePlacement { id: ChunkId { run_id: id().run_id(), chunk: 7 }, first_row: 101 };
        let chunk = scored().into_chunk(place.clone());
        assert!(chunk.accounts_for_its_rows());
        assert_eq!((chunk.id, chunk.range), (place.id, RowRange { first_row: 101, rows: 3 }));
        let rows = [chunk.predicted[0].entry.row, chunk.rejected[0].row, chunk.failed[0].entry.row];
        assert_eq!(rows, [101, 102, 103]);
    }
}

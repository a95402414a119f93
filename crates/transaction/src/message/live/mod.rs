//! Live transactions: messages of a few of them, each booked as one, under the identity its producer gave it.
//!
//! A message travels as `assay.live.v1` to the predictors and as `assay.scored_live.v1` to the writer; both forms are JSON and
//! read as [`crate::message::chunk`] says. Its rows are numbered from 1 within it. The writer gives every message a place in the live
//! run of its producer and day ([`Numbered`]), and from there on it is a chunk like any other.
//!
//! Producers that know nothing of Assay send plain JSON; `plain` reads it.

mod identity;
mod plain;

use chrono::{DateTime, TimeDelta, Utc};
pub use identity::{Day, LiveId, ParseProducerError, Producer};
pub use plain::{LiveRules, MAX_LIVE_ROWS, PlainError, split_transactions};
use serde::{Deserialize, Serialize};

use crate::{
    ChunkId, Entry, FailedRow, FailureClass, Lane, Predicted, RejectedRow, RowRange, RunId, ScoredChunk, Timestamp,
};

/// A message of live transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveMessage {
    /// Who it is.
    #[serde(flatten)]
    pub id: LiveId,
    /// The transactions that passed the rules, in row order.
    pub transactions: Vec<Entry>,
    /// The rows that did not, in row order. A streamer sends none: it refuses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
}

/// A message of live transactions, each of which has an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredLive {
    /// Who it is: the same as before.
    #[serde(flatten)]
    pub id: LiveId,
    /// When its answer came.
    pub predicted_at: Timestamp,
    /// Scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicted: Vec<Predicted>,
    /// Not scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRow>,
    /// Not valid, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
}

/// The place of a message in its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Where it is booked.
    pub id: ChunkId,
    /// The number of its first row there.
    pub first_row: u64,
}

crate::message::message!(LiveMessage, "assay.live.v1", LiveMessage::check);
crate::message::message!(ScoredLive, "assay.scored_live.v1", ScoredLive::check);

/// Why a message cannot be booked, if it cannot: its rows are not numbered from 1 to their end, or its name is none.
fn check(id: &LiveId, rows: impl Iterator<Item = u64>) -> Result<(), &'static str> {
    let mut rows: Vec<u64> = rows.collect();
    rows.sort_unstable();
    if rows.is_empty() || rows.len() > MAX_LIVE_ROWS {
        return Err("a message has 1 to 1000 rows");
    }
    if (1..).zip(&rows).any(|(expected, row)| expected != *row) {
        return Err("its rows are not numbered from 1 to their end");
    }
    id.check()
}

impl LiveMessage {
    fn check(&self) -> Result<(), &'static str> {
        let rows = self.transactions.iter().map(|entry| entry.row);
        check(&self.id, rows.chain(self.rejected.iter().map(|rejected| rejected.row)))
    }

    /// How many rows it has, whatever becomes of them.
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

    /// How many rows it has, whatever became of them.
    pub fn rows(&self) -> u64 {
        (self.predicted.len() + self.failed.len() + self.rejected.len()) as u64
    }

    /// A message that is not going to be scored: each of its transactions fails.
    pub fn given_up(message: LiveMessage, at: Timestamp, class: &FailureClass, reason: &str) -> Self {
        let LiveMessage { id, transactions, rejected } = message;
        let failed = transactions.into_iter().map(|entry| FailedRow::given_up(entry, class.clone(), reason)).collect();
        Self { id, predicted_at: at, predicted: Vec::new(), failed, rejected }
    }

    /// The same message without its predictions: what was scored fails, what had failed before stays as it is.
    #[must_use]
    pub fn without_predictions(mut self, class: &FailureClass, reason: &str) -> Self {
        FailedRow::fail_all(&mut self.predicted, &mut self.failed, class, reason);
        self
    }

    /// The chunk that it is, in the place it was given.
    #[must_use]
    pub fn numbered(self, place: Numbered) -> ScoredChunk {
        let rows = self.rows();
        let Self { id: _, predicted_at, mut predicted, mut failed, mut rejected } = self;
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
            lane: Lane::Realtime,
            predicted_at,
            predicted,
            failed,
            rejected,
            known: Vec::new(),
        }
    }
}

/// A run of live transactions, as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRun {
    /// Its name.
    pub run_id: RunId,
    /// Who sends.
    pub producer: Producer,
    /// In which UTC day.
    pub day: Day,
    /// Whether the producer counts what it sends, so that a loss would show.
    pub counted: bool,
    /// Rows that the producer's processes have answered for; none where it does not count.
    pub accepted: Option<u64>,
    /// Rows that the broker may have taken as well, although nobody was told so.
    pub doubtful: u64,
    /// Rows of earlier days that came after their own run was sealed.
    pub late: u64,
    /// Rows that have a place in the run: they are booked, or are about to be.
    pub numbered: u64,
    /// The messages that they came in.
    pub messages: u64,
    /// Processes of the producer that have not said that they counted to their end.
    pub open_counts: u64,
}

/// How long after its day a live run takes messages of that day.
const LATE: TimeDelta = TimeDelta::hours(1);

impl LiveRun {
    /// Whether nothing more is to come than what its producer has answered for.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        now >= self.day.end() + LATE
    }

    /// Rows that were answered for and have no place yet: they are on their way, or lost.
    pub fn missing(&self) -> u64 {
        self.accepted.map_or(0, |accepted| accepted.saturating_sub(self.numbered.saturating_sub(self.late)))
    }

    /// How many of the rows that were answered for may have no place: those that are missing, and as many more as have arrived of
    /// those in doubt, which cannot be told from them.
    pub fn possibly_missing(&self) -> u64 {
        let arrived = self.numbered.saturating_sub(self.late);
        self.accepted.map_or(0, |accepted| accepted.saturating_sub(arrived.saturating_sub(self.doubtful)))
    }

    /// Rows that have a place and that nothing explains: neither a count, nor a doubt, nor a process that died before it could
    /// count them.
    pub fn unexplained(&self) -> u64 {
        let Some(accepted) = self.accepted.filter(|_| self.open_counts == 0) else { return 0 };
        self.numbered.saturating_sub(accepted + self.doubtful + self.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Prediction, RejectReason, TimeZone};

    fn entry(row: u64) -> Entry {
        let transaction = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"Café","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}"#;
        Entry { row, external_id: None, transaction: serde_json::from_str(transaction).unwrap() }
    }

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
        let message = LiveMessage { id: id(), transactions: vec![entry(1)], rejected: vec![rejected(2)] };
        let body = String::from_utf8(message.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(LiveMessage::decode(body.as_bytes()).unwrap(), message);
    }

    fn scored() -> ScoredLive {
        let prediction = Prediction { prediction: "fraud".into(), fraud_score: Some(0.97), model_version: None };
        let failed = FailedRow::given_up(entry(3), FailureClass::Rejected, "422");
        ScoredLive {
            id: id(),
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
    fn what_cannot_be_booked_cannot_be_read() {
        let good = LiveMessage { id: id(), transactions: vec![entry(1)], rejected: vec![rejected(2)] };
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
    fn says_what_is_missing_and_what_nothing_explains() {
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
    fn a_message_becomes_the_chunk_that_its_place_says() {
        let place = Numbered { id: ChunkId { run_id: id().run_id(), chunk: 7 }, first_row: 101 };
        let chunk = scored().numbered(place.clone());
        assert!(chunk.accounts_for_its_rows());
        assert_eq!((chunk.id, chunk.range), (place.id, RowRange { first_row: 101, rows: 3 }));
        let rows = [chunk.predicted[0].entry.row, chunk.rejected[0].row, chunk.failed[0].entry.row];
        assert_eq!(rows, [101, 102, 103]);
    }
}

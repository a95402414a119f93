//! Live transactions: messages of a few of them, each booked as one, under the identity its producer gave it.
//!
//! A message travels as `assay.live.v1` to the predictors and as `assay.scored_live.v1` to the writer; both forms are JSON and
//! read as [`crate::chunk`] says. Its rows are numbered from 1 within it. The writer gives every message a place in the live
//! run of its producer and day ([`Numbered`]), and from there on it is a chunk like any other.
//!
//! Producers that know nothing of Assay send plain JSON; `plain` reads it.

mod identity;
mod plain;

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

crate::chunk::message!(LiveMessage, "assay.live.v1");
crate::chunk::message!(ScoredLive, "assay.scored_live.v1");

impl LiveMessage {
    /// How many rows it has, whatever becomes of them.
    pub fn rows(&self) -> u64 {
        (self.transactions.len() + self.rejected.len()) as u64
    }
}

impl ScoredLive {
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
        predicted.iter_mut().for_each(|predicted| predicted.entry.row += before);
        failed.iter_mut().for_each(|failed| failed.entry.row += before);
        rejected.iter_mut().for_each(|rejected| rejected.row += before);
        let range = RowRange { first_row: place.first_row, rows };
        ScoredChunk { id: place.id, range, lane: Lane::Realtime, predicted_at, predicted, failed, rejected }
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
    /// Rows that have a place in the run: they are booked, or are about to be.
    pub numbered: u64,
    /// The messages that they came in.
    pub messages: u64,
    /// Processes of the producer that have not said that they counted to their end.
    pub open_counts: u64,
}

impl LiveRun {
    /// How many rows were sent, once that can be said: none while rows that were answered for have no place yet. Where more
    /// have one than were counted, those are taken that somebody may have sent without hearing of it: in doubt, or by a
    /// process that died before it could count them.
    pub fn rows_read(&self) -> Option<u64> {
        let Some(accepted) = self.accepted else { return Some(self.numbered) };
        let explained = self.open_counts > 0 || self.numbered <= accepted + self.doubtful;
        match self.numbered {
            numbered if numbered < accepted => None,
            numbered if explained => Some(numbered),
            // The law will show it.
            _ => Some(accepted),
        }
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
    fn a_message_becomes_the_chunk_that_its_place_says() {
        let place = Numbered { id: ChunkId { run_id: id().run_id(), chunk: 7 }, first_row: 101 };
        let chunk = scored().numbered(place.clone());
        assert!(chunk.accounts_for_its_rows());
        assert_eq!((chunk.id, chunk.range), (place.id, RowRange { first_row: 101, rows: 3 }));
        let rows = [chunk.predicted[0].entry.row, chunk.rejected[0].row, chunk.failed[0].entry.row];
        assert_eq!(rows, [101, 102, 103]);
    }
}

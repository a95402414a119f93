//! Chunks: contiguous ranges of a source's rows, as the loader sends them to the predictors, `assay.chunk.v1`.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::encoded::EncodedTransaction;
use crate::{IdScheme, Prediction, RejectedRow, RunId, ValidRow, WireError};

/// The queue of a stage a chunk goes through, so that neither kind of work waits behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Historical transactions.
    Batch,
    /// Live transactions.
    Realtime,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Batch, Self::Realtime];

    /// The routing key of the lane.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Realtime => "realtime",
        }
    }
}

/// The identity of a chunk. A chunk whose identity is already recorded changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkId {
    /// Its run.
    pub run_id: RunId,
    /// Counted from 0 within the run.
    pub chunk: u64,
}

/// `run/chunk`, also the `message_id`.
impl fmt::Display for ChunkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.run_id, self.chunk)
    }
}

/// The rows a chunk covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRange {
    /// The first row, 1-based.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
}

/// A valid transaction in its chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// 1-based over the data rows of the source.
    pub row: u64,
    /// The original id, if that is not a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// As the ML API receives it.
    pub transaction: EncodedTransaction,
}

impl Entry {
    /// Encodes a valid row.
    pub fn new(row: u64, valid: &ValidRow) -> Result<Self, WireError> {
        let transaction = EncodedTransaction::new(&valid.transaction)?;
        Ok(Self { row, external_id: valid.external_id.clone(), transaction })
    }
}

/// A contiguous range of a source's rows: its valid transactions and its rejected rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chunk {
    /// Its identity.
    #[serde(flatten)]
    pub id: ChunkId,
    /// The range; `rows` counts entries and rejected rows together.
    #[serde(flatten)]
    pub range: RowRange,
    /// The scheme of the transactions' ids.
    #[serde(skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The valid rows, in row order.
    pub transactions: Vec<Entry>,
    /// The rejected rows, in row order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
    /// Valid rows already stored with the same content, which need not be scored again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<KnownRow>,
}

/// An already stored transaction, with its stored prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownRow {
    /// Its row in the chunk.
    pub row: u64,
    /// Its prediction.
    pub prediction: Prediction,
}

/// A chunk as it is read: of a valid row, the rejected rows, and a known row, each stage reads what it needs.
#[derive(Deserialize)]
pub(super) struct ReceivedChunk<Valid, Rejected, Known> {
    pub(super) run_id: RunId,
    pub(super) chunk: u64,
    pub(super) first_row: u64,
    pub(super) rows: u64,
    #[serde(default)]
    pub(super) ids: IdScheme,
    pub(super) transactions: Vec<Valid>,
    #[serde(default)]
    pub(super) rejected: Rejected,
    #[serde(default = "Vec::new")]
    pub(super) known: Vec<Known>,
}

impl<'a, Valid, Rejected, Known> ReceivedChunk<Valid, Rejected, Known>
where
    Self: Deserialize<'a>,
{
    pub(super) fn read(body: &'a [u8]) -> Result<Self, WireError> {
        serde_json::from_slice(body).map_err(|source| WireError::new(Chunk::MESSAGE_TYPE, &source))
    }
}

/// A valid row, whose transaction stays where it is in the body.
#[derive(Deserialize)]
struct ReceivedEntry<'a> {
    row: u64,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(borrow)]
    transaction: &'a RawValue,
}

impl Chunk {
    /// The `type` of the message.
    pub const MESSAGE_TYPE: &str = "assay.chunk.v1";

    /// The message's body.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        serde_json::to_vec(self).map_err(|source| WireError::new(Self::MESSAGE_TYPE, &source))
    }

    /// Reads a message's body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        Self::decode_within(&Bytes::copy_from_slice(body))
    }

    /// Reads a message's body; the transactions share it.
    pub fn decode_within(body: &Bytes) -> Result<Self, WireError> {
        let received = ReceivedChunk::<ReceivedEntry<'_>, Vec<RejectedRow>, KnownRow>::read(body)?;
        let entry = |ReceivedEntry { row, external_id, transaction }| Entry {
            row,
            external_id,
            transaction: EncodedTransaction::within(body, transaction),
        };
        Ok(Self {
            id: ChunkId { run_id: received.run_id, chunk: received.chunk },
            range: RowRange { first_row: received.first_row, rows: received.rows },
            ids: received.ids,
            transactions: received.transactions.into_iter().map(entry).collect(),
            rejected: received.rejected,
            known: received.known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{FailedRow, FailureClass, Predicted, RejectReason, ScoredChunk, Timestamp};

    fn example() -> Chunk {
        let entry = |row| Entry { external_id: Some("4711".into()), ..entry(row) };
        let rejected = RejectedRow {
            row: 102,
            line: 103,
            reason: RejectReason::AmountScale,
            message: "`amount` has more than 4 decimals: `1.00001`".into(),
            raw: "7;x;1.00001".into(),
        };
        Chunk {
            id: ChunkId { run_id: "batch_20260111_100000".parse().unwrap(), chunk: 1 },
            range: RowRange { first_row: 101, rows: 3 },
            ids: IdScheme::V5,
            transactions: vec![entry(101), entry(103)],
            rejected: vec![rejected],
            known: Vec::new(),
        }
    }

    fn prediction() -> Prediction {
        Prediction {
            prediction: "fraud".into(),
            fraud_score: Some(0.97),
            model_version: Some("demo-1".into()),
            ..Prediction::default()
        }
    }

    #[test]
    fn chunk_v1_is_pinned() {
        let chunk = example();
        let body = String::from_utf8(chunk.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(Chunk::decode(body.as_bytes()).unwrap(), chunk);
    }

    #[test]
    fn scored_v1_is_pinned() {
        let Chunk { id, range, transactions, rejected, .. } = example();
        let [first, second] = <[Entry; 2]>::try_from(transactions).unwrap();
        let prediction = prediction();
        let failed = FailedRow {
            transaction_id: second.transaction.id().unwrap(),
            entry: second,
            class: FailureClass::Rejected,
            reason: "422 Unprocessable Entity".into(),
            attempts: 2,
        };
        let scored = ScoredChunk {
            id,
            range,
            ids: IdScheme::V5,
            lane: Lane::Batch,
            predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", crate::TimeZone::UTC).unwrap(),
            predicted: vec![Predicted { entry: first, prediction }],
            failed: vec![failed],
            rejected,
            known: Vec::new(),
        };
        assert!(scored.accounts_for_its_rows());
        let body = String::from_utf8(scored.encode().unwrap()).unwrap();
        insta::assert_snapshot!(body);
        assert_eq!(ScoredChunk::decode(body.as_bytes()).unwrap(), scored);
    }

    #[test]
    fn known_rows_are_pinned() {
        let mut chunk = example();
        chunk.known = vec![KnownRow { row: 103, prediction: prediction() }];
        let body = String::from_utf8(chunk.encode().unwrap()).unwrap();
        let expected =
            r#""known":[{"row":103,"prediction":{"prediction":"fraud","fraud_score":0.97,"model_version":"demo-1"}}]}"#;
        assert!(body.ends_with(expected), "{body}");
        assert_eq!(Chunk::decode(body.as_bytes()).unwrap(), chunk);
    }

    #[test]
    fn another_scheme_of_ids_is_named() {
        let chunk = Chunk { ids: IdScheme::V8, ..example() };
        let body = chunk.encode().unwrap();
        assert!(String::from_utf8_lossy(&body).contains(r#""rows":3,"ids":8,"transactions""#));
        assert_eq!(Chunk::decode(&body).unwrap(), chunk);
    }

    #[test]
    fn a_newer_version_may_add_fields() {
        let body = String::from_utf8(example().encode().unwrap()).unwrap();
        let newer = body.replacen('{', r#"{"priority":3,"#, 1);
        assert_eq!(Chunk::decode(newer.as_bytes()).unwrap(), example());
    }
}

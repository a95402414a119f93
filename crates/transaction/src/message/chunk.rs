//! Chunks: contiguous ranges of a source's rows, as the loader sends them to the predictors, `assay.chunk.v1`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::message;
use crate::message::transaction::has_attributes;
use crate::{Amount, Predicted, Prediction, RejectedRow, RunId, Timestamp, Transaction, ValidRow, WireError};

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

/// A transaction in the exact bytes the ML API receives: encoded once by the loader, and passed through.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedTransaction(Box<RawValue>);

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(source: serde_json::Error) -> WireError {
    WireError::new("transaction", &source)
}

impl EncodedTransaction {
    /// Encodes a transaction.
    pub fn new(transaction: &Transaction) -> Result<Self, WireError> {
        serde_json::value::to_raw_value(transaction).map(Self).map_err(unreadable)
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// The transaction's id, without decoding the rest.
    pub fn id(&self) -> Result<Uuid, WireError> {
        #[derive(Deserialize)]
        struct Id {
            id: Uuid,
        }
        // Our encoding puts it first; any other JSON is parsed.
        let written = self.as_json().strip_prefix(r#"{"id":""#).and_then(|rest| rest.split_once('"'));
        if let Some(id) = written.and_then(|(id, _)| Uuid::try_parse(id).ok()) {
            return Ok(id);
        }
        serde_json::from_str::<Id>(self.as_json()).map(|found| found.id).map_err(unreadable)
    }

    /// The transaction without attributes, and its attributes as a JSON object, none if there are none. They are
    /// checked to be texts by name, and not decoded: a row may have thousands of them.
    pub fn decode_with_raw_attributes(&self) -> Result<(Transaction, Option<&str>), WireError> {
        let TransactionWithRawAttributes {
            attributes,
            id,
            description,
            amount,
            timestamp,
            merchant,
            operation_type,
            side,
        } = serde_json::from_str(self.as_json()).map_err(unreadable)?;
        let attributes = match attributes {
            Some(json) if has_attributes(json.get()).map_err(unreadable)? => Some(json.get()),
            _ => None,
        };
        let rest = BTreeMap::new();
        let transaction =
            Transaction { id, description, amount, timestamp, merchant, operation_type, side, attributes: rest };
        Ok((transaction, attributes))
    }

    /// The whole transaction.
    pub fn decode(&self) -> Result<Transaction, WireError> {
        serde_json::from_str(self.as_json()).map_err(unreadable)
    }
}

#[derive(Deserialize)]
struct TransactionWithRawAttributes<'a> {
    id: Uuid,
    description: String,
    amount: Amount,
    timestamp: Timestamp,
    #[serde(default)]
    merchant: Option<String>,
    operation_type: String,
    side: String,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
}

impl PartialEq for EncodedTransaction {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its identity.
    #[serde(flatten)]
    pub id: ChunkId,
    /// The range; `rows` counts entries and rejected rows together.
    #[serde(flatten)]
    pub range: RowRange,
    /// The valid rows, in row order.
    pub transactions: Vec<Entry>,
    /// The rejected rows, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
    /// Valid rows already stored with the same content, which need not be scored again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

impl Chunk {
    /// Takes out the transactions that need not be scored, each with its stored prediction.
    pub fn take_known(&mut self) -> Vec<Predicted> {
        let mut known: HashMap<u64, Prediction> =
            self.known.drain(..).map(|known| (known.row, known.prediction)).collect();
        if known.is_empty() {
            return Vec::new();
        }
        let (mut taken, mut rest) = (Vec::with_capacity(known.len()), Vec::new());
        for entry in self.transactions.drain(..) {
            match known.remove(&entry.row) {
                Some(prediction) => taken.push(Predicted { entry, prediction }),
                None => rest.push(entry),
            }
        }
        self.transactions = rest;
        taken
    }
}

message!(Chunk, "assay.chunk.v1");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::example::entry;
    use crate::{FailedRow, FailureClass, RejectReason, ScoredChunk, Timestamp};

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
            transactions: vec![entry(101), entry(103)],
            rejected: vec![rejected],
            known: Vec::new(),
        }
    }

    fn prediction() -> Prediction {
        Prediction { prediction: "fraud".into(), fraud_score: Some(0.97), model_version: Some("demo-1".into()) }
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
    fn known_rows_are_pinned_and_taken_out() {
        let mut chunk = example();
        chunk.known = vec![KnownRow { row: 103, prediction: prediction() }];
        let body = String::from_utf8(chunk.encode().unwrap()).unwrap();
        let expected =
            r#""known":[{"row":103,"prediction":{"prediction":"fraud","fraud_score":0.97,"model_version":"demo-1"}}]}"#;
        assert!(body.ends_with(expected), "{body}");
        let mut read = Chunk::decode(body.as_bytes()).unwrap();
        assert_eq!(read, chunk);
        let [first, second] = <[Entry; 2]>::try_from(example().transactions).unwrap();
        assert_eq!(read.take_known(), [Predicted { entry: second, prediction: prediction() }]);
        assert_eq!((read.transactions, read.known), (vec![first], vec![]));
        // A row that is not among the transactions changes nothing.
        let mut strange = Chunk { known: vec![KnownRow { row: 102, prediction: prediction() }], ..example() };
        assert_eq!((strange.take_known(), strange.transactions), (vec![], example().transactions));
    }

    #[test]
    fn a_newer_version_may_add_fields() {
        let body = String::from_utf8(example().encode().unwrap()).unwrap();
        let newer = body.replacen('{', r#"{"priority":3,"#, 1);
        assert_eq!(Chunk::decode(newer.as_bytes()).unwrap(), example());
    }

    #[test]
    fn the_exact_bytes_of_a_transaction_pass_through() {
        let spaced = r#"{ "id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "amount": 1.50 }"#;
        let encoded: EncodedTransaction = serde_json::from_str(spaced).unwrap();
        assert_eq!(encoded.as_json(), spaced);
        assert_eq!(encoded.id().unwrap().to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert!(encoded.decode().is_err(), "a transaction has more fields");
        assert!(encoded.decode_with_raw_attributes().is_err());
    }

    #[test]
    fn attributes_stay_json_and_are_checked() {
        let whole = |attributes: &str| -> EncodedTransaction {
            let fields = r#""id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"x","amount":1.50,"timestamp":"2023-11-28T06:35:12Z","operation_type":"refund","side":"debit""#;
            serde_json::from_str(&format!("{{{fields}{attributes}}}")).unwrap()
        };
        for (attributes, expected) in [
            ("", None),
            (r#","attributes":{}"#, None),
            (r#","attributes":{ }"#, None),
            (r#","attributes":{"country":"F\u0052","b":""}"#, Some(r#"{"country":"F\u0052","b":""}"#)),
        ] {
            let encoded = whole(attributes);
            let (part, json) = encoded.decode_with_raw_attributes().unwrap();
            assert_eq!(json, expected);
            let attributes = json.map(|json| serde_json::from_str(json).unwrap()).unwrap_or_default();
            assert_eq!(Transaction { attributes, ..part }, encoded.decode().unwrap());
        }
        for attributes in [r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{"b":"c"}}"#, "[]", "7", r#"{"a":"\ud800"}"#] {
            let encoded = whole(&format!(r#","attributes":{attributes}"#));
            assert!(encoded.decode().is_err(), "{attributes}");
            assert!(encoded.decode_with_raw_attributes().is_err(), "{attributes}");
        }
    }
}

//! A chunk as a predictor reads it, and the outcomes of its transactions.
//!
//! A predictor passes the chunk's body on as it came, so it reads no more than it needs: transactions stay where they are in the
//! body, and external ids and rejected rows are not read at all. What it makes of the chunk is [`ChunkScores`](crate::ChunkScores).

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::chunk::ReceivedChunk;
use super::encoded::EncodedTransaction;
use crate::{ChunkId, FailureClass, IdScheme, Prediction, RowRange, WireError};

/// What became of a transaction at the ML API.
pub type ScoreOutcome = Result<Prediction, ScoreFailure>;

/// Why a transaction was not scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreFailure {
    /// The kind of failure.
    pub class: FailureClass,
    /// For a person; bounded, and without anything the API echoed.
    pub reason: String,
    /// Number of attempts, bisection included.
    pub attempts: u32,
}

impl ScoreFailure {
    /// That of a transaction that will not be scored, through no fault of its own.
    pub(super) fn given_up(class: &FailureClass, reason: &str) -> Self {
        Self { class: class.clone(), reason: reason.to_owned(), attempts: 0 }
    }
}

/// A chunk whose transactions have no outcome yet.
#[derive(Debug, Clone, PartialEq)]
pub struct UnscoredChunk {
    /// Its identity.
    pub id: ChunkId,
    /// Its range.
    pub range: RowRange,
    /// The scheme of the transactions' ids.
    pub ids: IdScheme,
    /// The valid rows, in row order.
    pub(super) rows: Vec<UnscoredRow>,
    /// Their transactions.
    pub(super) transactions: Vec<EncodedTransaction>,
    known: usize,
}

/// A valid row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnscoredRow {
    pub(super) row: u64,
    /// Whether it is already stored with the same content, and need not be scored.
    pub(super) is_known: bool,
}

#[derive(Deserialize)]
struct UnscoredEntry<'a> {
    row: u64,
    #[serde(borrow)]
    transaction: &'a RawValue,
}

#[derive(Deserialize)]
struct KnownRowNumber {
    row: u64,
}

impl UnscoredChunk {
    /// Reads the body of a chunk; the transactions share it.
    pub fn decode_within(body: &Bytes) -> Result<Self, WireError> {
        let received = ReceivedChunk::<UnscoredEntry<'_>, IgnoredAny, KnownRowNumber>::read(body)?;
        let mut known: HashSet<u64> = received.known.into_iter().map(|known| known.row).collect();
        let mut rows = Vec::with_capacity(received.transactions.len());
        let mut transactions = Vec::with_capacity(received.transactions.len());
        for UnscoredEntry { row, transaction } in received.transactions {
            let is_known = !known.is_empty() && known.remove(&row);
            rows.push(UnscoredRow { row, is_known });
            transactions.push(EncodedTransaction::within(body, transaction));
        }
        Ok(Self {
            id: ChunkId { run_id: received.run_id, chunk: received.chunk },
            range: RowRange { first_row: received.first_row, rows: received.rows },
            ids: received.ids,
            known: rows.iter().filter(|row| row.is_known).count(),
            rows,
            transactions,
        })
    }

    /// The transactions to score, in row order.
    pub fn to_score(&self) -> Cow<'_, [EncodedTransaction]> {
        if self.known == 0 {
            return (&self.transactions).into();
        }
        let unknown = self.rows.iter().zip(&self.transactions).filter(|(row, _)| !row.is_known);
        unknown.map(|(_, transaction)| transaction.clone()).collect()
    }

    /// How many transactions are to be scored.
    pub fn unknown(&self) -> usize {
        self.transactions.len() - self.known
    }

    /// How many transactions are already stored with the same content, and need not be scored.
    pub fn known(&self) -> usize {
        self.known
    }

    /// How many rows the loader has rejected.
    pub fn rejected(&self) -> usize {
        let rows = usize::try_from(self.range.rows).unwrap_or(usize::MAX);
        rows.saturating_sub(self.transactions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#;
    const B: &str = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c9"}"#;

    fn read(fields: &str) -> Result<UnscoredChunk, WireError> {
        let body = format!(r#"{{"run_id":"r","chunk":1,"first_row":11,"rows":4{fields}}}"#);
        UnscoredChunk::decode_within(&Bytes::from(body))
    }

    #[test]
    fn no_more_is_read_than_is_needed() {
        let chunk = read(&format!(
            r#","ids":8,"transactions":[{{"row":11,"external_id":7,"transaction":{A}}},{{"row":13,"transaction":{B}}}],
            "rejected":"not read","newer":[]"#
        ))
        .unwrap();
        assert_eq!((chunk.id.to_string().as_str(), chunk.range.rows, chunk.ids), ("r/1", 4, IdScheme::V8));
        let texts: Vec<&str> = chunk.transactions.iter().map(EncodedTransaction::as_json).collect();
        assert_eq!(texts, [A, B]);
        assert_eq!((chunk.unknown(), chunk.known(), chunk.rejected()), (2, 0, 2));
        assert!(matches!(chunk.to_score(), Cow::Borrowed(all) if all.len() == 2));
        assert!(read("").is_err() && read(r#","transactions":[{"row":11}]"#).is_err());
    }

    #[test]
    fn known_rows_are_not_scored() {
        let entries = format!(r#"{{"row":11,"transaction":{A}}},{{"row":12,"transaction":{B}}}"#);
        for (known, unknown) in [(11, B), (12, A)] {
            let chunk = read(&format!(
                r#","transactions":[{entries}],"known":[{{"row":{known},"prediction":{{"prediction":"x"}}}},{{"row":99,"prediction":{{}}}}]"#
            ))
            .unwrap();
            let texts: Vec<String> =
                chunk.to_score().iter().map(|transaction| transaction.as_json().to_owned()).collect();
            assert_eq!(texts, [unknown]);
            assert_eq!(
                (chunk.unknown(), chunk.known()),
                (1, 1),
                "a row that is not among the transactions changes nothing"
            );
        }
    }
}

//! What a predictor makes of a chunk and the writer records. It travels as `assay.scored.v2` (`scores`); earlier versions sent it
//! whole, as `assay.scored.v1`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Chunk, ChunkId, Entry, FailureClass, IdScheme, Lane, Prediction, RejectedRow, RowRange, ScoreFailure, Timestamp,
};

/// A transaction with its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The transaction in its chunk.
    pub entry: Entry,
    /// Its prediction.
    pub prediction: Prediction,
}

/// A valid transaction that could not be scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedRow {
    /// The transaction in its chunk, which a replay sends again.
    pub entry: Entry,
    /// Its stored identity.
    pub transaction_id: Uuid,
    /// The kind of failure.
    pub class: FailureClass,
    /// For a person; bounded, and without anything the API echoed.
    pub reason: String,
    /// Number of attempts, bisection included.
    pub attempts: u32,
}

impl FailedRow {
    /// A transaction with its failure.
    pub fn new(entry: Entry, failure: ScoreFailure) -> Self {
        let ScoreFailure { class, reason, attempts } = failure;
        Self { transaction_id: entry.transaction.id_or_nil(), entry, class, reason, attempts }
    }

    fn given_up(entry: Entry, class: &FailureClass, reason: &str) -> Self {
        Self::new(entry, ScoreFailure::given_up(class, reason))
    }

    /// Fails transactions that will not be scored.
    pub(crate) fn all(entries: Vec<Entry>, class: &FailureClass, reason: &str) -> Vec<Self> {
        entries.into_iter().map(|entry| Self::given_up(entry, class, reason)).collect()
    }

    /// Moves scored rows to failed ones, in row order.
    pub(crate) fn fail_all(scored: &mut Vec<Predicted>, failed: &mut Vec<Self>, class: &FailureClass, reason: &str) {
        failed.extend(scored.drain(..).map(|scored| Self::given_up(scored.entry, class, reason)));
        failed.sort_by_key(|failed| failed.entry.row);
    }
}

/// A chunk whose every transaction has an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredChunk {
    /// Its identity, as before.
    #[serde(flatten)]
    pub id: ChunkId,
    /// The range; `rows` counts predicted, failed and rejected rows together.
    #[serde(flatten)]
    pub range: RowRange,
    /// The scheme of the transactions' ids.
    #[serde(default, skip_serializing_if = "IdScheme::is_default")]
    pub ids: IdScheme,
    /// The lane it came by.
    pub lane: Lane,
    /// When it was scored.
    pub predicted_at: Timestamp,
    /// Scored, in row order.
    pub predicted: Vec<Predicted>,
    /// Not scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRow>,
    /// Rejected, in row order, passed on from the loader.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
    /// Rows of `predicted` that were not scored, as they were already stored: their prediction is the stored one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<u64>,
}

crate::message::message!(ScoredChunk, "assay.scored.v1");

impl ScoredChunk {
    /// A chunk that will not be scored: all of its transactions fail.
    pub fn all_failed(chunk: Chunk, lane: Lane, at: Timestamp, class: &FailureClass, reason: &str) -> Self {
        let Chunk { id, range, ids, transactions, rejected, .. } = chunk;
        let failed = FailedRow::all(transactions, class, reason);
        Self { id, range, ids, lane, predicted_at: at, predicted: Vec::new(), failed, rejected, known: Vec::new() }
    }

    /// The chunk without its predictions: scored rows fail, failed rows stay as they are.
    #[must_use]
    pub fn without_predictions(mut self, class: &FailureClass, reason: &str) -> Self {
        FailedRow::fail_all(&mut self.predicted, &mut self.failed, class, reason);
        self.known.clear();
        self
    }

    /// Whether each row of the range has exactly one outcome, by count.
    pub fn accounts_for_its_rows(&self) -> bool {
        self.range.rows == (self.predicted.len() + self.failed.len() + self.rejected.len()) as u64
    }
}

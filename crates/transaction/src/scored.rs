//! What a predictor makes of a chunk, and what the writer books.
//!
//! The wire form is JSON, `assay.scored.v1`; see [`crate::chunk`] for how it is read.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chunk::WireError;
use crate::{ChunkId, Entry, FailureClass, Lane, RejectedRow, RowRange, Timestamp};

/// What the ML API said of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The label: `fraud`, `legitimate`, or whatever the model tells apart.
    pub prediction: String,
    /// How likely it is fraud, from 0 to 1, where the model says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraud_score: Option<f64>,
    /// Which model, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
}

/// A transaction with its prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The transaction in its chunk.
    pub entry: Entry,
    /// What became of it.
    pub prediction: Prediction,
}

/// A valid transaction that could not be scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedRow {
    /// The transaction in its chunk: what a replay sends again.
    pub entry: Entry,
    /// Its stored identity.
    pub transaction_id: Uuid,
    /// What kind of failure.
    pub class: FailureClass,
    /// For a person; bounded and free of what the API echoed.
    pub reason: String,
    /// How often it was tried, bisection included.
    pub attempts: u32,
}

/// A chunk whose every transaction has an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredChunk {
    /// Who it is: the same as before.
    #[serde(flatten)]
    pub id: ChunkId,
    /// What it covers: `rows` is the number of predicted, failed and rejected rows together.
    #[serde(flatten)]
    pub range: RowRange,
    /// The lane it came by.
    pub lane: Lane,
    /// When its answer came.
    pub predicted_at: Timestamp,
    /// Scored, in row order.
    pub predicted: Vec<Predicted>,
    /// Not scored, in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRow>,
    /// Not valid, in row order, passed on from the loader.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRow>,
}

impl ScoredChunk {
    /// The `type` of the message.
    pub const MESSAGE_TYPE: &str = "assay.scored.v1";

    /// The message's body.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        serde_json::to_vec(self).map_err(|source| WireError::new(Self::MESSAGE_TYPE, source))
    }

    /// Reads a message's body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice(body).map_err(|source| WireError::new(Self::MESSAGE_TYPE, source))
    }

    /// Whether each row of the range has exactly one outcome, as far as counting can tell.
    pub fn accounts_for_its_rows(&self) -> bool {
        self.range.rows == (self.predicted.len() + self.failed.len() + self.rejected.len()) as u64
    }
}

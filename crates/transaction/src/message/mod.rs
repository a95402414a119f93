//! The messages between the stages, as JSON. `docs/wire-format.md` describes the forms, and snapshot tests pin them.
//!
//! Readers ignore unknown fields, so that a newer version may add some.

mod chunk;
mod chunk_body;
mod encoded;
mod feed;
mod hold;
mod identities;
pub(crate) mod json_writer;
mod live;
mod prediction;
mod replay;
mod scored;
mod scores;
mod stop;
mod transaction;
mod unscored;
mod view;

use crate::value::redact::json_problem;

pub use chunk::{Chunk, ChunkId, Entry, KnownRow, Lane, RowRange};
pub(crate) use chunk_body::ChunkBody;
pub use chunk_body::EncodedChunk;
pub use encoded::EncodedTransaction;
pub use feed::PredictionNotice;
pub use hold::{HoldKind, HoldNotice, PredictorNotice};
pub use identities::IdentitiesNotice;
pub use live::{
    Day, LiveBodyError, LiveId, LiveMessage, LivePlacement, LiveRules, LiveRun, MAX_LIVE_ROWS, ParseProducerError,
    Producer, ScoredLive, split_transactions,
};
pub use prediction::{ModelEndpoint, Prediction, ReasonCode};
pub use replay::{ReplayId, ReplayPart, ScoredReplay};
pub use scored::{FailedRow, Predicted, ScoredChunk};
pub use scores::{ChunkScores, FailedScore, RowReasons, ScoredLabel};
pub use stop::StopNotice;
pub use transaction::{Transaction, has_attributes};
pub use unscored::{ScoreFailure, ScoreOutcome, UnscoredChunk};
pub use view::TransactionView;

/// A body that is not a readable message of Assay. The text is short and quotes nothing, as it goes to logs and to the
/// headers of dead letters.
#[derive(Debug, thiserror::Error)]
#[error("not a readable {kind}: {problem}")]
pub struct WireError {
    kind: &'static str,
    problem: String,
}

impl WireError {
    const MAX_PROBLEM: usize = 200;

    /// A readable body with invalid content.
    pub(crate) fn refused(kind: &'static str, problem: &str) -> Self {
        Self { kind, problem: problem.to_owned() }
    }

    pub(crate) fn new(kind: &'static str, source: &serde_json::Error) -> Self {
        Self { kind, problem: json_problem(source).chars().take(Self::MAX_PROBLEM).collect() }
    }
}

/// Encodes and decodes a message's body.
macro_rules! message {
    ($name:ident, $kind:literal) => {
        $crate::message::message!($name, $kind, |_: &$name| Ok(()));
    };
    // With a check after decoding.
    ($name:ident, $kind:literal, $check:expr) => {
        impl $name {
            /// The `type` of the message.
            pub const MESSAGE_TYPE: &str = $kind;

            /// The message's body.
            pub fn encode(&self) -> Result<Vec<u8>, $crate::WireError> {
                serde_json::to_vec(self).map_err(|source| $crate::WireError::new(Self::MESSAGE_TYPE, &source))
            }

            /// Reads a message's body.
            pub fn decode(body: &[u8]) -> Result<Self, $crate::WireError> {
                let read: Self = serde_json::from_slice(body)
                    .map_err(|source| $crate::WireError::new(Self::MESSAGE_TYPE, &source))?;
                let check: fn(&Self) -> Result<(), &'static str> = $check;
                check(&read).map_err(|problem| $crate::WireError::refused(Self::MESSAGE_TYPE, problem))?;
                Ok(read)
            }
        }
    };
}
pub(crate) use message;

#[cfg(test)]
mod example {
    use super::Entry;

    pub(super) fn entry(row: u64) -> Entry {
        let transaction = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"Café","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}"#;
        Entry { row, external_id: None, transaction: serde_json::from_str(transaction).unwrap() }
    }
}

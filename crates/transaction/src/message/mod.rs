//! What the stages send each other, as JSON. `docs/wire-format.md` describes the forms, and snapshot tests pin them.
//!
//! Readers ignore unknown fields, so that a newer version may add some.

pub(crate) mod chunk;
mod feed;
mod live;
mod replay;
mod scored;
pub(crate) mod transaction;

pub use chunk::{Chunk, ChunkId, EncodedTransaction, Entry, KnownRow, Lane, RowRange, WireError};
pub use feed::PredictionNotice;
pub use live::{
    Day, LiveId, LiveMessage, LiveRules, LiveRun, MAX_LIVE_ROWS, Numbered, ParseProducerError, PlainError, Producer,
    ScoredLive, split_transactions,
};
pub use replay::{ReplayId, ReplayPart, ScoredReplay};
pub use scored::{FailedRow, Predicted, Prediction, ScoredChunk};
pub use transaction::{Transaction, has_attributes};

//! Runs: one pass over one source.
//!
//! `settings` holds a run's frozen settings, state and position, `totals` what its source should contain, and `stop` orders to end it
//! early. `chunker` cuts rows into chunks by the sizes of `cutting`. `namespace`,
//! `id_scheme`, `ordered_id`, `occurrences` and `lookalikes` deal with ids.

mod budgets;
mod checkpoint;
mod chunker;
mod cutting;
mod id_scheme;
mod lookalikes;
mod namespace;
mod occurrences;
mod ordered_id;
mod settings;
mod state;
mod stop;
mod totals;

pub use budgets::{Budgets, ParseRatioError, Ratio};
pub use checkpoint::{Checkpoint, CheckpointCounts, Position, SealedTotals};
pub use chunker::{CheckedRow, Chunker, CutChunk};
pub use cutting::{RowByteRule, RowBytes};
pub use id_scheme::{IdScheme, UnknownIdScheme};
pub use lookalikes::{SimilarIdCount, SimilarIds};
pub use namespace::Namespace;
pub use occurrences::{IdOccurrences, TooManyRows};
pub use settings::RunSettings;
pub use state::{Exit, ParseRunError, Run, RunId, RunRemoval, RunState, SourceIdentity, Tally};
pub use stop::{StopKind, StopOrder};
pub use totals::{ExpectedTotals, TrailerPattern};

//! Runs: one pass over one source.
//!
//! `settings` holds a run's frozen settings, state and position, `totals` what its source should contain, and `stop` orders to end it
//! early. `chunker` cuts rows into chunks by the sizes of `cutting`. `namespace`, `occurrences` and `lookalikes` deal with ids.

mod budgets;
mod checkpoint;
mod chunker;
mod cutting;
mod lookalikes;
mod namespace;
mod occurrences;
mod settings;
mod state;
mod stop;
mod totals;

pub use budgets::{Budgets, ParseShareError, Share};
pub use checkpoint::{Checkpoint, Counted, Position, Sealed};
pub use chunker::{Chunker, Cut, Judged};
pub use cutting::{Cutting, RowBytes};
pub use lookalikes::{LookalikeCount, Lookalikes};
pub use namespace::Namespace;
pub use occurrences::{Occurrences, TooManyRows};
pub use settings::RunSettings;
pub use state::{Exit, ParseRunError, Removal, Run, RunId, RunState, SourceIdentity, Tally};
pub use stop::{StopKind, StopOrder};
pub use totals::{Expected, Trailer};

//! Runs: one pass over one source.
//!
//! `settings` holds a run's frozen settings, state and position, `totals` what its source should contain, and `stop` orders to end it
//! early. `chunker` cuts rows into chunks by the sizes of `cutting`. `namespace`, `occurrences` and `lookalikes` deal with ids.

mod chunker;
mod cutting;
mod exit;
mod lookalikes;
mod namespace;
mod occurrences;
mod settings;
mod stop;
mod totals;

pub use chunker::{Chunker, Cut, Judged};
pub use cutting::{Cutting, RowBytes};
pub use exit::Exit;
pub use lookalikes::{LookalikeCount, Lookalikes};
pub use namespace::Namespace;
pub use occurrences::{Occurrences, TooManyRows};
pub use settings::{
    Checkpoint, Counted, ParseRunError, Position, Removal, Run, RunId, RunSettings, RunState, Sealed, SourceIdentity,
    Tally,
};
pub use stop::{Budgets, ParseShareError, Share, StopKind, StopNotice, StopOrder};
pub use totals::{Expected, Trailer};

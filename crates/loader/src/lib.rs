//! The loader: one source becomes validated chunks on the broker, and a run in the ledger.
//!
//! [`run`] loads one source: `load/begin` begins or resumes its run, the rest of `load/` reads, publishes and seals it, and `wait`
//! stays until every row is stored. `many_sources` loads several; [`watch`] loads objects of a bucket as they arrive; [`repair`]
//! publishes the chunks that the ledger lacks, and [`reread_row`] reads one row again. `totals` are the control totals of a source.
//!
//! Guarantees: memory is bounded for sources of any size; a checkpoint never passes an unconfirmed chunk; a restarted loader
//! resumes at the checkpoint and makes the same chunks.

mod arguments;
mod error;
mod load;
mod many_sources;
mod measure;
mod metrics;
mod options;
mod progress;
mod remaining;
mod repair;
mod retry;
mod run;
mod totals;
mod wait;
mod watch;

pub use arguments::{Arguments, Command, LoaderConnections, WatchArguments};
pub use error::LoadError;
pub use load::lease_owner::{LeaseOwner, evict_if_gone};
pub use load::warnings::LoadWarnings;
pub use many_sources::report::LoadReport;
pub use many_sources::{
    ManySourcesOptions, SelectedSources, SourceResult, find_sources, log_summary, run_many, run_sources,
    select_sources, worst_exit,
};
pub use measure::{ReadRate, measure_reading};
pub use metrics::describe as describe_metrics;
pub use options::{LeaseOptions, LoadOptions, ReadOptions, WaitOptions};
pub use progress::LoadProgress;
pub use remaining::RemainingTime;
pub use repair::reread::{RereadRow, reread_row};
pub use repair::{RepairCounts, RepairOptions, repair};
pub use run::{Dependencies, LoadSummary, run};
pub use watch::{Switch, WatchOptions, WatchTarget, check_listing, watch};

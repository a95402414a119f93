//! The loader: one source becomes validated chunks on the broker, and a run in the ledger.
//!
//! The way of a row: [`run`] identifies the source and begins its run (`begin`), unless
//! another run has its content (`copies`); `load` makes one pass over the source, in
//! which `reading` cuts rows into chunks as `judging` judges them, `known` marks the rows that are stored already, `publishing` sends the chunks and moves the checkpoint over what is
//! confirmed, and `ordering` keeps the run's lease and hears of an order to end it early; `conclude` makes of the pass's end
//! what becomes of the run, and seals it; and `waiting` stays until it is complete, where asked to. [`repair`] makes such a pass for what the
//! ledger lacks; [`reread`] reads one row again; `many` loads several sources; [`watch`] loads objects as they come.
//!
//! Guarantees: memory is bounded whatever the source's size; a checkpoint never passes a chunk that is not confirmed; a
//! loader that starts again goes on at the checkpoint and makes the very same chunks.

mod arguments;
mod error;
mod load;
mod many_sources;
mod metrics;
mod options;
mod patience;
mod progress;
mod repair;
mod run;
mod totals;
mod wait;
mod watch;

pub use arguments::{Arguments, Command, ConnectOptions, WatchArguments};
pub use error::LoadError;
pub use load::lease_owner::{Holder, evict_if_gone};
pub use load::remarks::Remarks;
pub use many_sources::report::Report;
pub use many_sources::{ManyOptions, SourceEnded, choose, find, gravest, log_summary, run_many};
pub use metrics::describe as describe_metrics;
pub use options::{LeaseOptions, LoadOptions, ReadOptions, WaitOptions};
pub use progress::LoadProgress;
pub use repair::reread::{Reread, reread};
pub use repair::{RepairOptions, Repaired, repair};
pub use run::{Dependencies, Ended, run};
pub use watch::{Switch, WatchOptions, Watched, is_there, watch};

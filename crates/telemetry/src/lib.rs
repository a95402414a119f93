//! What every program of Assay shares: how it reads its command line, logs, hears signals and ends.
//!
//! A program's `main` is three steps: [`parse`] its options, name its work as an async function of a shutdown token, and
//! give both to [`run`], or to [`run_observed`] where others watch over it. Results go to stdout, logs to stderr. Traces will
//! join here.

mod arguments;
mod health;
mod logs;
mod mistyped;
mod observe;
mod program;
mod shutdown;

pub use arguments::{ShutdownOptions, StartupOptions, parse, taken_for_mistyped};
pub use health::Health;
pub use logs::{LogFormat, LogOptions, about_run, init_logs, init_logs_to, name_run, one_of_several, run_span};
pub use observe::MetricsOptions;
pub use program::{Failure, run, run_observed};
pub use shutdown::shutdown_signal;

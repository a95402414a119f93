//! What every program of Assay shares: how it reads its command line, logs, hears signals and ends.
//!
//! A program's `main` is three steps: [`parse`] its options, name its work as an async function of a shutdown token, and
//! give both to [`run`]. Results go to stdout, logs to stderr. Metrics and traces will join here.

mod arguments;
mod logs;
mod program;
mod shutdown;

pub use arguments::{ShutdownOptions, StartupOptions, parse};
pub use logs::{LogFormat, LogOptions, init_logs, init_logs_to};
pub use program::{Failure, run};
pub use shutdown::shutdown_signal;

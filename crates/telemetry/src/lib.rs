//! What all programs of Assay share: command line, logs, signals, health, metrics and exit codes.
//!
//! A program's `main` has three steps: [`parse`] the arguments, name the work as an async function of a shutdown token, and
//! pass both to [`run_program`]. Results go to stdout, logs to stderr.

mod arguments;
mod color;
mod failure;
mod health;
mod logs;
mod metrics_server;
mod program;
mod traces;

pub use arguments::{
    CommonArgs, ConfigOption, ProcessArgs, ResolvedSetting, SettingOrigin, ShutdownOptions, StartupOptions,
    find_mistyped_setting, parse, resolve_settings,
};
pub use color::{ColorChoice, ColorOption};
pub use failure::{Failure, is_json};
pub use health::Health;
pub use logs::{LogFormat, LogOptions, in_run_span, init_logs_to, record_run_id, run_span, several_runs_span};
pub use metrics_server::MetricsOptions;
pub use program::{print_json, run_program};
pub use traces::TraceOptions;

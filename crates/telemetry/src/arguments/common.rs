//! Settings that all programs have in common.

use std::time::Duration;

use assay_transaction::parse_duration;
use clap::Args;

use crate::{LogOptions, MetricsOptions, TraceOptions};

/// The settings of every stage.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Waiting for dependencies.
    #[command(flatten)]
    pub startup: StartupOptions,
    /// Draining.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
    /// Logs and metrics.
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// What is observed of a process.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// Where health and metrics are served.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
    /// What is traced.
    #[command(flatten)]
    pub traces: TraceOptions,
}

/// Waiting for dependencies.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Startup")]
pub struct StartupOptions {
    /// Longest wait for each dependency (database, broker, ML API) at startup; then exit code 3
    #[arg(long, env = "STARTUP_TIMEOUT", default_value = "30s", value_parser = parse_duration, value_name = "DURATION")]
    pub startup_timeout: Duration,
}

/// Draining.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownOptions {
    /// Longest time to finish the work at hand after SIGTERM or Ctrl-C; the rest is redelivered
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub drain_timeout: Duration,
}

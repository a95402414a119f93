//! The command line of `writer`.

use assay_queue::BrokerOptions;
use assay_store::DatabaseOptions;
use assay_telemetry::{LogOptions, MetricsOptions, ShutdownOptions, StartupOptions};
use clap::Parser;

use crate::options::WriterOptions;

/// Takes scored chunks from the broker and writes them into the database in bulk.
///
/// Runs until SIGTERM or Ctrl-C, then writes what it has collected and exits 0. One is enough for most databases; more
/// may run side by side.
#[derive(Debug, Parser)]
#[command(name = "writer", version)]
pub struct Arguments {
    /// How it writes.
    #[command(flatten)]
    pub writer: WriterOptions,
    /// Where to.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Where chunks come from.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How long to wait for both.
    #[command(flatten)]
    pub startup: StartupOptions,
    /// How long to take to end.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

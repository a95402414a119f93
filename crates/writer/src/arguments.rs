//! The command line of `writer`.

use assay_queue::BrokerOptions;
use assay_store::DatabaseOptions;
use assay_telemetry::{CommonArgs, ConfigOption};
use clap::Parser;

use crate::options::WriterOptions;

/// Consumes scored chunks and writes them to the database in bulk.
///
/// Runs until SIGTERM or Ctrl-C, then writes the chunks at hand and exits 0. One is enough for most databases; several may
/// run in parallel.
#[derive(Debug, Parser)]
#[command(name = "writer", version)]
pub struct Arguments {
    /// Where settings are.
    #[command(flatten)]
    pub config: ConfigOption,
    /// Batches.
    #[command(flatten)]
    pub writer: WriterOptions,
    /// Where rows go.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Where chunks come from.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

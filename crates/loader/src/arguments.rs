//! The command line of `loader`.

use assay_queue::BrokerOptions;
use assay_source::{S3Options, SourceUrl};
use assay_store::DatabaseOptions;
use assay_telemetry::{LogOptions, ShutdownOptions, StartupOptions};
use clap::Parser;

use crate::options::{LeaseOptions, LoadOptions, WaitOptions};

/// Loads one CSV object or file: every row is validated and published in chunks for the predictors.
///
/// Exits 0 when every chunk is confirmed by the broker (with --wait: when every row is in the database), or when the
/// source had been loaded before; 1 where rows failed (with --wait); 2 for wrong settings; 3 when the broker, the database
/// or the S3 endpoint is away; 4 when the source cannot be read. A loader that is stopped goes on where it was when it is
/// started again.
#[derive(Debug, Parser)]
#[command(name = "loader", version)]
pub struct Arguments {
    /// What to load: s3://bucket/key, or the path of a file
    #[arg(env = "SOURCE_URL", value_name = "SOURCE_URL")]
    pub source_url: SourceUrl,
    /// How to load it.
    #[command(flatten)]
    pub load: LoadOptions,
    /// Whether to stay.
    #[command(flatten)]
    pub wait: WaitOptions,
    /// How long the run is this loader's.
    #[command(flatten)]
    pub lease: LeaseOptions,
    /// Where objects lie.
    #[command(flatten)]
    pub s3: S3Options,
    /// Where the ledger is.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Where chunks go.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How long to wait for both.
    #[command(flatten)]
    pub startup: StartupOptions,
    /// Who is recorded as the operator where a load is forced
    #[arg(long, env = "ASSAY_OPERATOR", value_name = "NAME", default_value = "loader")]
    pub operator: String,
    /// How long to take to end.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

//! The command line of `loader`.

use assay_queue::BrokerOptions;
use assay_source::{S3Options, SourcePattern};
use assay_store::DatabaseOptions;
use assay_telemetry::{CommonArgs, ConfigOption};
use clap::{Args, Parser, Subcommand};

use crate::ManySourcesOptions;
use crate::options::{LeaseOptions, LoadOptions, WaitOptions};
use crate::watch::{WatchOptions, WatchTarget};

/// Loads objects or files: validates each row, and publishes rows in chunks for the predictors.
///
/// Exits 0 when the broker has confirmed every chunk (with --wait: when every row is in the database), or when the source was
/// loaded before; with --wait 1 if rows failed, now or in that earlier run; 2 for invalid settings; 3 when the broker, the
/// database or the S3 endpoint is unreachable; 4 when the source cannot be read. A stopped loader resumes when it is started
/// again. Of several sources, each has its own run, a broken one does not stop the others, and the exit code is the most
/// severe: 3 before 2, 4 and 1.
#[derive(Debug, Parser)]
#[command(name = "loader", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// Where settings are.
    #[command(flatten)]
    pub config: ConfigOption,
    /// Another command than loading sources once.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to load: s3://bucket/key, a prefix (s3://bucket/2026/), a pattern (s3://bucket/**/*.csv.gz), the same for local
    /// files, or - for stdin
    #[arg(env = "SOURCE_URL", value_name = "SOURCE_URL", required = true, num_args = 1..)]
    pub source_url: Vec<SourcePattern>,
    /// Print the result of each source as JSON, on stdout
    #[arg(long)]
    pub json: bool,
    /// How to load a source.
    #[command(flatten)]
    pub load: LoadOptions,
    /// How to load several.
    #[command(flatten)]
    pub many: ManySourcesOptions,
    /// Whether to wait until rows are stored.
    #[command(flatten)]
    pub wait: WaitOptions,
    /// Services.
    #[command(flatten)]
    pub connect: LoaderConnections,
    /// Operator to record for a forced load
    #[arg(long, env = "ASSAY_OPERATOR", value_name = "NAME", default_value = "loader")]
    pub operator: String,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The services that a loader needs, and its lease.
#[derive(Debug, Args)]
pub struct LoaderConnections {
    /// How long a run belongs to this loader.
    #[command(flatten)]
    pub lease: LeaseOptions,
    /// The S3 endpoint.
    #[command(flatten)]
    pub s3: S3Options,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerOptions,
}

/// Other commands of the loader.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the objects of a bucket, and new ones as they arrive, until stopped
    Watch(Box<WatchArguments>),
}

/// Load the objects of a bucket, and new ones as they arrive, until stopped
///
/// Receives events of new objects through RabbitMQ (EVENTS_EXCHANGE), SQS (SQS_QUEUE_URL) or a webhook (WEBHOOK_ADDR), and
/// lists the bucket every WATCH_INTERVAL for objects without an event. Loads each version of an object once. Several watchers
/// share the work, and take over the runs of a dead one.
///
/// Exits 0 when stopped; 2 for invalid settings; 3 when a dependency is unreachable at startup; 4 when the bucket cannot be
/// read.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// What to watch: s3://bucket, or s3://bucket/prefix
    #[arg(env = "WATCH_URL", value_name = "WATCH_URL")]
    pub watched: WatchTarget,
    /// Events and listings.
    #[command(flatten)]
    pub watch: WatchOptions,
    /// How to load each object.
    #[command(flatten)]
    pub load: LoadOptions,
    /// Services.
    #[command(flatten)]
    pub connect: LoaderConnections,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

//! The command line of `loader`.

use assay_queue::BrokerOptions;
use assay_source::{S3Options, SourcePattern};
use assay_store::DatabaseOptions;
use assay_telemetry::{LogOptions, MetricsOptions, ShutdownOptions, StartupOptions};
use clap::{Args, Parser, Subcommand};

use crate::ManyOptions;
use crate::options::{LeaseOptions, LoadOptions, WaitOptions};
use crate::watch::{WatchOptions, Watched};

/// Loads objects or files: every row is validated and published in chunks for the predictors.
///
/// Exits 0 when every chunk is confirmed by the broker (with --wait: when every row is in the database), or when the
/// source had been loaded before; with --wait 1 where rows failed, now or in the run that had loaded it before; 2 for wrong settings; 3 when the broker, the database
/// or the S3 endpoint is away; 4 when the source cannot be read. A loader that is stopped goes on where it was when it is
/// started again. Several sources have a run each, one that is broken keeps no other from being loaded, and the exit code
/// is the gravest: 3 before 2, 4 and 1.
#[derive(Debug, Parser)]
#[command(name = "loader", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// What to do instead of loading what is named.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to load: s3://bucket/key, a prefix such as s3://bucket/2026/, a pattern such as s3://bucket/**/*.csv.gz, the path
    /// of a file, a directory or a pattern of files, or - for stdin
    #[arg(env = "SOURCE_URL", value_name = "SOURCE_URL", required = true, num_args = 1..)]
    pub source_url: Vec<SourcePattern>,
    /// Print what became of each source as JSON, on stdout
    #[arg(long)]
    pub json: bool,
    /// How to load it.
    #[command(flatten)]
    pub load: LoadOptions,
    /// How to load several.
    #[command(flatten)]
    pub many: ManyOptions,
    /// Whether to stay.
    #[command(flatten)]
    pub wait: WaitOptions,
    /// Where everything is.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Who is recorded as the operator where a load is forced
    #[arg(long, env = "ASSAY_OPERATOR", value_name = "NAME", default_value = "loader")]
    pub operator: String,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Where everything is, how long it may take to answer, and how long a loader has for what is its own.
#[derive(Debug, Args)]
pub struct ConnectOptions {
    /// How long a run is this loader's.
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
    /// How long to take to end.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
}

/// What a loader does beside loading one source.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load what lies in a bucket, and what comes to lie there, until it is stopped
    Watch(Box<WatchArguments>),
}

/// Load what lies in a bucket, and what comes to lie there, until it is stopped
///
/// It hears of new objects through RabbitMQ (EVENTS_EXCHANGE), SQS (SQS_QUEUE_URL) or a webhook (WEBHOOK_ADDR), and lists the
/// bucket every WATCH_INTERVAL for what no event told of. Each version of an object is loaded once. Several watchers share the
/// work, and take over what one that died has left.
///
/// Exits 0 when it is stopped; 2 for wrong settings; 3 when something it depends on is away at the start; 4 when the bucket
/// cannot be read.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// What to watch: s3://bucket, or s3://bucket/prefix
    #[arg(env = "WATCH_URL", value_name = "WATCH_URL")]
    pub watched: Watched,
    /// What for.
    #[command(flatten)]
    pub watch: WatchOptions,
    /// How to load it.
    #[command(flatten)]
    pub load: LoadOptions,
    /// Where everything is.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

//! The arguments of `assay run`.

use assay_loader::{LeaseOptions, LoadOptions, ManySourcesOptions};
use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_source::{S3Options, SourcePattern};
use assay_store::DatabaseOptions;
use assay_telemetry::CommonArgs;
use assay_writer::WriterOptions;
use clap::Args;

use crate::commands::ledger::operator::OperatorOptions;

/// Load, score and store sources in this process, with nothing to install
///
/// By default, the broker is in this process, the database is the SQLite file assay.db in this folder, and the ML API is the
/// reference model. AMQP_URL, DATABASE_URL, ML_API_URL and ENDPOINT_URL replace each of them. Queues that others use are
/// refused: `loader` loads into a fleet.
///
/// Exits 0 when every row is stored, or was before; 1 if rows failed, now or in the earlier run of the source; 2 for invalid
/// settings; 3 when a dependency is unreachable; 4 when the source cannot be read. Repeat the command to resume a stopped
/// load. Of several sources, each has its own run, a broken one does not stop the others, and the exit code is the most
/// severe: 3 before 2, 4 and 1.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// What to load: a file, a folder, a pattern of files, - for stdin, s3://bucket/key, a prefix (s3://bucket/2026/), or a
    /// pattern (s3://bucket/**/*.csv.gz)
    #[arg(env = "SOURCE_URL", value_name = "FILE_OR_S3_URL", required = true, num_args = 1..)]
    pub(crate) source_url: Vec<SourcePattern>,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Also score and store what is in the queues of AMQP_URL, such as chunks of a stopped `assay run`
    #[arg(long)]
    pub(crate) take_queued: bool,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) lease: LeaseOptions,
    #[command(flatten)]
    pub(crate) many: ManySourcesOptions,
    #[command(flatten)]
    pub(crate) api: ApiOptions,
    #[command(flatten)]
    pub(crate) writer: WriterOptions,
    #[command(flatten)]
    pub(crate) s3: S3Options,
    #[command(flatten)]
    pub(crate) database: DatabaseOptions,
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    #[command(flatten)]
    pub(crate) operator: OperatorOptions,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

//! The command line of `assay`. The commands of the desk have their arguments with them.

use assay_generator::GenerateOptions;
use assay_loader::{LeaseOptions, LoadOptions, ManyOptions};
use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_source::{S3Options, SourcePattern};
use assay_store::DatabaseOptions;
use assay_telemetry::{LogOptions, MetricsOptions, ShutdownOptions, StartupOptions};
use assay_writer::WriterOptions;
use clap::{Args, Parser, Subcommand};

use crate::commands::change::cancel::CancelArguments;
use crate::commands::change::remove::RemoveArguments;
use crate::commands::change::repair::RepairArguments;
use crate::commands::change::replay::ReplayArguments;
use crate::commands::ledger::OperatorOptions;
use crate::commands::load::inspect::InspectArguments;
use crate::commands::load::put::PutArguments;
use crate::commands::query::audit::AuditArguments;
use crate::commands::query::failures::FailuresArguments;
use crate::commands::query::invalid::InvalidArguments;
use crate::commands::query::operations::OperationsArguments;
use crate::commands::query::row::RowArguments;
use crate::commands::query::runs::RunsArguments;
use crate::commands::query::status::StatusArguments;
use crate::commands::query::transaction::TransactionArguments;
use crate::commands::setup::declare::DeclareArguments;
use crate::commands::setup::health::HealthArguments;
use crate::commands::setup::watch_setup::WatchSetupArguments;

/// Fraud scoring for transactions, in bulk: every row validated, scored by an ML API and stored, and none lost or doubled.
#[derive(Debug, Parser)]
#[command(name = "assay", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArguments>),
    Inspect(InspectArguments),
    Runs(RunsArguments),
    Status(StatusArguments),
    Row(RowArguments),
    Transaction(TransactionArguments),
    Audit(AuditArguments),
    Failures(FailuresArguments),
    Invalid(InvalidArguments),
    Replay(Box<ReplayArguments>),
    Repair(Box<RepairArguments>),
    Cancel(CancelArguments),
    Remove(RemoveArguments),
    Operations(OperationsArguments),
    Generate(GenerateArguments),
    Migrate(MigrateArguments),
    Declare(DeclareArguments),
    Put(PutArguments),
    Health(HealthArguments),
    WatchSetup(Box<WatchSetupArguments>),
}

/// Load, score and store sources in this one process, with nothing installed
///
/// Without further settings the broker is in this process, the database is the SQLite file assay.db here, and the ML API
/// is the reference model behind HTTP on loopback. AMQP_URL, DATABASE_URL, ML_API_URL and ENDPOINT_URL each put the real
/// part in its place. Queues of AMQP_URL that somebody else uses are refused: `loader` loads into a fleet.
///
/// Exits 0 when every row is stored, or had been before; 1 where rows failed, now or in the run that had loaded the source
/// before; 2 for wrong settings; 3 when something it
/// depends on is away; 4 when the source cannot be read. What was stopped goes on when it is started again.
/// Several sources have a run each, one that is broken keeps no other from being loaded, and the exit code is the gravest: 3
/// before 2, 4 and 1.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// What to load: the path of a file, a directory or a pattern of files, - for stdin, or s3://bucket/key, a prefix such as
    /// s3://bucket/2026/, or a pattern such as s3://bucket/**/*.csv.gz
    #[arg(env = "SOURCE_URL", value_name = "FILE_OR_S3_URL", required = true, num_args = 1..)]
    pub(crate) source_url: Vec<SourcePattern>,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Score and store what waits in the queues of AMQP_URL as well, such as chunks of an `assay run` that was stopped
    #[arg(long)]
    pub(crate) take_queued: bool,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) lease: LeaseOptions,
    #[command(flatten)]
    pub(crate) many: ManyOptions,
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
    pub(crate) startup: StartupOptions,
    #[command(flatten)]
    pub(crate) shutdown: ShutdownOptions,
    #[command(flatten)]
    pub(crate) operator: OperatorOptions,
    #[command(flatten)]
    pub(crate) metrics: MetricsOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Write realistic transactions as CSV, with planted fraud, and with invalid rows and duplicates where asked for
///
/// The same seed gives the same bytes on every machine. Rows stream to stdout, or to --output.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    #[command(flatten)]
    pub(crate) options: GenerateOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Bring the tables of a database up to date; safe to repeat
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    #[command(flatten)]
    pub(crate) database: DatabaseOptions,
    #[command(flatten)]
    pub(crate) startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

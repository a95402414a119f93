//! Why a command ends early.

use assay_console::ConsoleError;
use assay_generator::GenerateError;
use assay_loader::LoadError;
use assay_predictor::PredictError;
use assay_queue::BrokerError;
use assay_scoring::ScoringError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, RunId, RunState, Tally, WireError};
use assay_writer::WriteError;

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Scoring(#[from] ScoringError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("cannot start the reference ML API on loopback: {0}; set ML_API_URL to use another")]
    MlApi(std::io::Error),
    #[error("a stage ended unexpectedly: {0}")]
    Stage(String),
    #[error("the row accounting of run {run_id} failed: {rows_read} rows were read, but {} have an outcome ({tally:?})", tally.total())]
    RowAccounting { run_id: RunId, rows_read: u64, tally: Tally },
    #[error("no program to check: {0}")]
    NoHealthTarget(String),
    #[error(
        "nothing to check: set AMQP_URL, DATABASE_URL or ML_API_URL as the programs have them, or name a bucket, as in `assay doctor s3://bucket`"
    )]
    NothingToCheck,
    #[error("cannot print the result: {0}")]
    Print(std::io::Error),
    #[error("cannot write {path} ({error}): check --output")]
    Output { path: String, error: std::io::Error },
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Settings(String),
    #[error("no database: there is no assay.db in this folder, and DATABASE_URL is not set")]
    NoDatabase,
    #[error("there is no run {0}: `assay runs` lists all runs")]
    NoRun(String),
    #[error("no stored or failed transaction has the id {0}")]
    NoTransaction(String),
    #[error("nothing was done: give {missing}, as there is no terminal to ask on")]
    Unconfirmed { missing: &'static str },
    #[error("nothing was done")]
    Declined,
    #[error("run {run_id} is {state}: nothing is left to cancel")]
    Finished { run_id: RunId, state: RunState },
    #[error("run {0} is not finished: wait for it or end it with `assay cancel {0}`, then remove it")]
    Unfinished(RunId),
    #[error("chunks of run {0} are missing: publish them with `assay repair {0}`, then remove it")]
    Incomplete(RunId),
    #[error(
        "what run {0} replaced was purged, so it cannot be removed: `assay erase` takes its transactions by their ids"
    )]
    NothingToRestore(RunId),
    #[error("the removal of run {0} is not finished: resume it with `assay remove {0}` first")]
    OtherRemoval(RunId),
    #[error("run {0} was removed and cannot be {1}; its source can be loaded again")]
    RunRemoved(RunId, &'static str),
    #[error("stopped before all of run {0} was removed: `assay remove {0}` resumes")]
    RemovalStopped(RunId),
    #[error("stopped before everything was purged: the same command takes the rest")]
    PurgeStopped,
    #[error("stopped before everything was erased: the same command with the same list takes the rest")]
    ErasureStopped,
    #[error("the content of row {0} was removed, purged or erased: it cannot be compared with its source")]
    RowGone(u64),
    #[error("--before must be in the past")]
    NotInThePast,
    // Without the name of the file, which may be an id by mistake.
    #[error(
        "cannot read the list ({0}): name a file of ids, one a line, or - for stdin; ids are not taken as arguments, as they would stay in the history of the shell"
    )]
    List(std::io::Error),
    #[error("line {line} of the list {what}")]
    ListLine { line: u64, what: &'static str },
    #[error("the list has more than {0} lines: split it")]
    LongList(usize),
    #[error(
        "run {0} was loaded through a broker: set AMQP_URL to send its rows to that fleet, or ML_API_URL to score them in this process"
    )]
    NoFleet(RunId),
    #[error(
        "{queue} has {consumers} consumers: a fleet uses the queues of AMQP_URL; load with `loader`, or set another QUEUE_PREFIX"
    )]
    FleetRuns { queue: String, consumers: u32 },
    #[error(
        "{queue} holds {messages} messages, which this process would score and store: load with `loader`, or set another QUEUE_PREFIX; --take-queued accepts them, such as chunks of a stopped `assay run`"
    )]
    QueueNotEmpty { queue: String, messages: u64 },
    #[error("stopped before anything was sent")]
    NotBegun,
    #[error("stopped after {rows} rows of run {run_id} were sent: rows that are still failed can be replayed again")]
    ReplayStopped { run_id: RunId, rows: u64 },
    #[error(
        "replay {replay} of run {run_id} is incomplete after WAIT_TIMEOUT: {recorded} of {parts} parts are recorded; check that predictors and writers run"
    )]
    ReplayTimeout { run_id: RunId, replay: u64, recorded: u64, parts: u64 },
    #[error("a part of the replay has {bytes} bytes, more than the broker accepts: raise its max_message_size")]
    PartTooLarge { bytes: usize },
    #[error(
        "stopped before run {0} was complete: published chunks are still processed, and `assay repair {0}` can be repeated"
    )]
    RepairStopped(RunId),
    #[error(
        "run {run_id} is incomplete after WAIT_TIMEOUT: {recorded} of {chunks} chunks are recorded; check that predictors and writers run"
    )]
    RepairTimeout { run_id: RunId, recorded: u64, chunks: u64 },
}

impl Failure for CommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::Load(error) => error.exit(),
            Self::Predict(error) => error.exit(),
            Self::Write(error) => error.exit(),
            Self::Source(error) => error.exit(),
            Self::Broker(error) => error.exit(),
            Self::Scoring(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Generate(error) => error.exit(),
            Self::MlApi(_)
            | Self::Stage(_)
            | Self::NotBegun
            | Self::ReplayStopped { .. }
            | Self::ReplayTimeout { .. }
            | Self::RepairStopped(_)
            | Self::RemovalStopped(_)
            | Self::PurgeStopped
            | Self::ErasureStopped
            | Self::RepairTimeout { .. } => Exit::DependencyUnavailable,
            Self::RowAccounting { .. } => Exit::FailedRows,
            Self::Console(_)
            | Self::NoHealthTarget(_)
            | Self::NothingToCheck
            | Self::Print(_)
            | Self::Output { .. }
            | Self::Wire(_)
            | Self::Settings(_)
            | Self::NoDatabase
            | Self::RowGone(_)
            | Self::NotInThePast
            | Self::List(_)
            | Self::ListLine { .. }
            | Self::LongList(_)
            | Self::NoRun(_)
            | Self::NoTransaction(_)
            | Self::Unconfirmed { .. }
            | Self::Declined
            | Self::Finished { .. }
            | Self::Unfinished(_)
            | Self::Incomplete(_)
            | Self::OtherRemoval(_)
            | Self::NothingToRestore(_)
            | Self::RunRemoved(..)
            | Self::NoFleet(_)
            | Self::FleetRuns { .. }
            | Self::QueueNotEmpty { .. }
            | Self::PartTooLarge { .. } => Exit::Usage,
        }
    }
}

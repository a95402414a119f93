//! Why a load ends early.

use assay_credentials::CredentialsError;
use assay_queue::BrokerError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, HeaderError, Prevailing, RunId, StopKind, WireError};

/// Why a load ends early. What was published stays valid in every case.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source cannot be read, or not to its end.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source is no file that can be loaded.
    #[error("{location}: {cause}")]
    Layout {
        /// Which source.
        location: String,
        /// What is wrong with it.
        cause: Box<SourceError>,
    },
    /// The source cannot be read to its end; what was read before stays.
    #[error("{location} cannot be read from row {row} (line {line}) on: {cause}; the rows before it are kept")]
    BrokenOff {
        /// Which source.
        location: String,
        /// The first row that is missing.
        row: u64,
        /// The line it would start at.
        line: u64,
        /// Why.
        cause: Box<SourceError>,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A secret or a certificate cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A setting is wrong, or missing beside another one.
    #[error("{0}")]
    Setting(String),
    /// The header frozen in the ledger is not one that this version reads.
    #[error("the header of the run cannot be used: {0}")]
    Header(#[from] HeaderError),
    /// A transaction cannot be written as JSON.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The broker takes no message of the size of a chunk.
    #[error(
        "chunk {chunk} has {bytes} bytes, more than the broker takes: raise its max_message_size, or load the source anew with --force and a lower API_BATCH_SIZE"
    )]
    ChunkTooLarge {
        /// Which.
        chunk: u64,
        /// Its size.
        bytes: usize,
    },
    /// The run does not end where this loader read to.
    #[error("{0}")]
    NotSealed(String),
    /// The source is read to its end, and is not what it should be; its rows are kept.
    #[error("{0}")]
    ControlTotals(String),
    /// The source has rows, and each of them is rejected.
    #[error("not one of {rows} rows is valid{}; nothing of it counts as loaded: load it again once it can be read", explained(most.as_deref()))]
    NothingValid {
        /// How many rows it has.
        rows: u64,
        /// Why most of those are rejected that this loader has read.
        most: Option<Box<Prevailing>>,
    },
    /// Another run has the same content, and lost what was to be stored of it with its process.
    #[error(
        "run {run_id} has loaded the same content, as {location}, and lost chunks that were not stored with the process that held \
         them: load {location} again, which completes it, or this source with --force"
    )]
    CopyUnfinished {
        /// Which run.
        run_id: RunId,
        /// What it read.
        location: String,
    },
    /// The file that says what the source should hold.
    #[error("the manifest {location} cannot be used ({cause}): check MANIFEST_SUFFIX")]
    Manifest {
        /// Where it should be.
        location: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The process was asked to stop.
    #[error(
        "stopped before run {run_id} was complete ({rows} rows are published): start the loader again{again} to go on"
    )]
    Stopped {
        /// Which run.
        run_id: RunId,
        /// Rows that are published.
        rows: u64,
        /// How, where the source alone would not find the run.
        again: String,
    },
    /// The run was ended early, by a person or by a budget.
    #[error("run {run_id} is {}: {reason}", kind.as_str())]
    Ended {
        /// Which run.
        run_id: RunId,
        /// By whom.
        kind: StopKind,
        /// Why.
        reason: String,
    },
    /// Another loader went on with the run, as this one gave no sign of life.
    #[error("run {run_id} was taken over{}: nothing more is done about it here", by_whom(by.as_deref()))]
    TakenOver {
        /// Which run.
        run_id: RunId,
        /// By whom, where somebody has it now.
        by: Option<String>,
    },
    /// Another loader is at the run.
    #[error("run {run_id} is being loaded by {by}: wait until it is loaded, or end it with `assay cancel {run_id}`")]
    Held {
        /// Which run.
        run_id: RunId,
        /// Which loader.
        by: String,
    },
    /// Chunks of the run are among the dead letters, and cannot be read.
    #[error(
        "run {run_id} is stalled, as {letters} of its dead letters cannot be booked: see `assay failures {run_id}`, then `assay repair {run_id}`"
    )]
    Stalled {
        /// Which run.
        run_id: RunId,
        /// How many.
        letters: u64,
    },
    /// The source of a run that is to be read again has been replaced.
    #[error(
        "the source of run {run_id} cannot be read again: it read version {read} of {location}, which now has version {found}"
    )]
    SourceReplaced {
        /// Which run.
        run_id: RunId,
        /// What it reads.
        location: String,
        /// The version it read.
        read: String,
        /// The version that is there now.
        found: String,
    },
    /// What a producer sends is no source that could be read again.
    #[error("run {run_id} has no source that could be read again: its rows came from a producer")]
    NoSource {
        /// Which run.
        run_id: RunId,
    },
    /// The process was asked to stop before there was a run.
    #[error("stopped before anything was loaded")]
    NotBegun,
    /// `WAIT_TIMEOUT` passed.
    #[error(
        "run {run_id} is not complete after WAIT_TIMEOUT ({timeout}): {recorded} of {total} chunks are stored{hint}"
    )]
    WaitTimeout {
        /// Which run.
        run_id: RunId,
        /// As it was set.
        timeout: String,
        /// Chunks that are stored.
        recorded: u64,
        /// Chunks that there are.
        total: u64,
        /// What is in the way, where that is known.
        hint: String,
    },
    /// One name for several runs.
    #[error("BATCH_RUN_ID names one run, but there are {sources} sources: leave it out, or load them one by one")]
    OneName {
        /// How many there are.
        sources: usize,
    },
    /// Nothing takes what is printed.
    #[error("cannot print the result: {0}")]
    Print(std::io::Error),
    /// The task that reads the source died.
    #[error("the reading of the source ended unexpectedly")]
    Reader,
}

impl Failure for LoadError {
    fn exit(&self) -> Exit {
        match self {
            Self::Source(error) => error.exit(),
            Self::Layout { cause, .. } | Self::BrokenOff { cause, .. } => cause.exit(),
            Self::Store(error) => error.exit(),
            Self::Broker(error) => error.exit(),
            Self::Ended { .. }
            | Self::Stalled { .. }
            | Self::NotSealed(_)
            | Self::ControlTotals(_)
            | Self::NothingValid { .. } => Exit::FailedRows,
            Self::SourceReplaced { .. } | Self::NoSource { .. } | Self::Manifest { .. } => Exit::SourceUnreadable,
            Self::Credentials(_)
            | Self::Setting(_)
            | Self::Header(_)
            | Self::Wire(_)
            | Self::ChunkTooLarge { .. }
            | Self::Print(_)
            | Self::OneName { .. } => Exit::Usage,
            Self::Stopped { .. }
            | Self::TakenOver { .. }
            | Self::Held { .. }
            | Self::CopyUnfinished { .. }
            | Self::NotBegun
            | Self::WaitTimeout { .. }
            | Self::Reader => Exit::DependencyAway,
        }
    }
}

fn by_whom(by: Option<&str>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

fn explained(most: Option<&Prevailing>) -> String {
    most.map(|most| format!(": {most}")).unwrap_or_default()
}

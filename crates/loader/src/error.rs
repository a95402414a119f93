//! Why a load ends early.

use assay_connect::SettingError;
use assay_queue::BrokerError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, HeaderError, PrevailingReason, RunId, StopKind, WireError};

/// Why a load ends early. Published chunks stay valid in every case.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source cannot be read, or not to its end.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source is not a file that can be loaded.
    #[error("{location}: {cause}")]
    Layout {
        /// The source.
        location: String,
        /// What is wrong with it.
        cause: Box<SourceError>,
    },
    /// The source cannot be read to its end. The rows before stay.
    #[error("{location} cannot be read from row {row} (line {line}) on: {cause}; the rows before it are kept")]
    SourceBroken {
        /// The source.
        location: String,
        /// The first row that is missing.
        row: u64,
        /// Its line.
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
    Credentials(#[from] SettingError),
    /// A setting is wrong, or requires another one.
    #[error("{0}")]
    Setting(String),
    /// This version cannot read the header frozen in the ledger.
    #[error("the header of the run cannot be used: {0}")]
    Header(#[from] HeaderError),
    /// A transaction cannot be encoded as JSON.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The broker accepts no message as large as a chunk.
    #[error(
        "chunk {chunk} has {bytes} bytes, more than the broker accepts: raise its max_message_size, or load the source again with --force and a lower CHUNK_ROWS"
    )]
    ChunkTooLarge {
        /// Its number.
        chunk: u64,
        /// Its size.
        bytes: usize,
    },
    /// The run does not end where this loader stopped reading.
    #[error("{0}")]
    NotSealed(String),
    /// The source differs from its control totals. Its rows are kept.
    #[error("{0}")]
    ControlTotals(String),
    /// The source has rows, and all of them are rejected.
    #[error("not one of {rows} rows is valid{}; it does not count as loaded: load it again once it can be read", explained(most.as_deref()))]
    NothingValid {
        /// Number of rows.
        rows: u64,
        /// The most frequent reason among the rows that this loader has read.
        most: Option<Box<PrevailingReason>>,
    },
    /// Another run has the same content, and lost chunks with its process.
    #[error(
        "run {run_id} has loaded the same content, as {location}, and lost unstored chunks with its process: complete it by loading \
         {location} again, or load this source with --force"
    )]
    CopyUnfinished {
        /// The run.
        run_id: RunId,
        /// Its source.
        location: String,
    },
    /// The manifest cannot be used.
    #[error("the manifest {location} cannot be used ({cause}): check MANIFEST_SUFFIX")]
    Manifest {
        /// Its location.
        location: String,
        /// Why.
        cause: String,
    },
    /// The process was stopped.
    #[error(
        "stopped before run {run_id} was complete ({rows} rows are published): repeat the command{again} to resume"
    )]
    Stopped {
        /// The run.
        run_id: RunId,
        /// Published rows.
        rows: u64,
        /// Further arguments that are needed to resume the run.
        again: String,
    },
    /// The run was ended early.
    #[error("run {run_id} is {}: {reason}", kind.as_str())]
    EndedEarly {
        /// The run.
        run_id: RunId,
        /// Cancelled or aborted.
        kind: StopKind,
        /// Why.
        reason: String,
    },
    /// Another loader took over the run, as this one did not renew its lease.
    #[error("run {run_id} was taken over{}: this loader stops", by_whom(by.as_deref()))]
    TakenOver {
        /// The run.
        run_id: RunId,
        /// The new lease owner, if there is one.
        by: Option<String>,
    },
    /// Another loader holds the run.
    #[error("run {run_id} is being loaded by {by}: wait until it is loaded, or end it with `assay cancel {run_id}`")]
    Held {
        /// The run.
        run_id: RunId,
        /// Its lease owner.
        by: String,
    },
    /// Dead letters of the run cannot be recorded.
    #[error(
        "run {run_id} is stalled: {letters} of its dead letters cannot be recorded; see `assay failures {run_id}`, then `assay repair {run_id}`"
    )]
    Stalled {
        /// The run.
        run_id: RunId,
        /// Number of these dead letters.
        letters: u64,
    },
    /// The source of the run was replaced.
    #[error(
        "the source of run {run_id} cannot be read again: it read version {read} of {location}, which now has version {found}"
    )]
    SourceReplaced {
        /// The run.
        run_id: RunId,
        /// Its source.
        location: String,
        /// The version that the run has read.
        read: String,
        /// The current version.
        found: String,
    },
    /// Rows of a producer have no source.
    #[error("run {run_id} has no source to read again: its rows came from a producer")]
    NoSource {
        /// The run.
        run_id: RunId,
    },
    /// The process was stopped before there was a run.
    #[error("stopped before anything was loaded")]
    StoppedBeforeStart,
    /// `WAIT_TIMEOUT` passed.
    #[error(
        "run {run_id} is not complete after WAIT_TIMEOUT ({timeout}): {recorded} of {total} chunks are stored{hint}"
    )]
    WaitTimeout {
        /// The run.
        run_id: RunId,
        /// Its value.
        timeout: String,
        /// Stored chunks.
        recorded: u64,
        /// All chunks.
        total: u64,
        /// The cause, if it is known.
        hint: String,
    },
    /// One run name for several sources.
    #[error("BATCH_RUN_ID names one run, but there are {sources} sources: omit it, or load them one by one")]
    RunNameForSeveral {
        /// Number of sources.
        sources: usize,
    },
    /// The output cannot be written.
    #[error("cannot print the result: {0}")]
    Print(std::io::Error),
    /// The reader task panicked.
    #[error("the reader of the source ended unexpectedly")]
    Reader,
}

impl Failure for LoadError {
    fn exit(&self) -> Exit {
        match self {
            Self::Source(error) => error.exit(),
            Self::Layout { cause, .. } | Self::SourceBroken { cause, .. } => cause.exit(),
            Self::Store(error) => error.exit(),
            Self::Broker(error) => error.exit(),
            Self::EndedEarly { .. }
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
            | Self::RunNameForSeveral { .. } => Exit::Usage,
            Self::Stopped { .. }
            | Self::TakenOver { .. }
            | Self::Held { .. }
            | Self::CopyUnfinished { .. }
            | Self::StoppedBeforeStart
            | Self::WaitTimeout { .. }
            | Self::Reader => Exit::DependencyUnavailable,
        }
    }
}

fn by_whom(by: Option<&str>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

fn explained(most: Option<&PrevailingReason>) -> String {
    most.map(|most| format!(": {most}")).unwrap_or_default()
}

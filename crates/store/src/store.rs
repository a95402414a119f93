//! The seam: what a database of Assay can do. `postgres` and `sqlite` implement it under one contract suite.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use assay_transaction::{
    Checkpoint, Entry, KnownRow, RowRange, Run, RunId, RunSettings, RunState, ScoredChunk, Sealed, SourceIdentity,
    Tally,
};
use async_trait::async_trait;
use serde::Serialize;

use crate::{Lease, LiveLedger, Operations, Renewed, StoreError, Taken};

/// What happens to a transaction whose id is stored already, with different content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum IdConflict {
    /// It becomes a failed transaction, class `id_conflict`, whose reason shows both contents.
    #[default]
    Fail,
    /// It replaces the stored one and its prediction, which are kept in `transaction_history`; its row counts as a duplicate.
    Update,
}

/// What a loader asks for at the start of a run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The name that the run gets, if it is a new one.
    pub run_id: RunId,
    /// Whether a person chose that name (`BATCH_RUN_ID`).
    pub explicit_id: bool,
    /// What it reads: its natural key.
    pub source: SourceIdentity,
    /// What is frozen, if it is a new one.
    pub settings: RunSettings,
    /// Whether a new run begins although this source was loaded before.
    pub force: bool,
    /// The size of the source, where that is known.
    pub source_bytes: Option<u64>,
    /// What its bytes are, where that is known: unless it is forced, no run begins beside one of the same content.
    pub fingerprint: Option<String>,
    /// Who asks, in words that no other loader has.
    pub holder: String,
    /// How long the run is the holder's, unless it renews the lease.
    pub lease: Duration,
}

/// Which run it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A new one.
    Started(Run, Lease),
    /// One of this source that a loader before left unfinished; its settings hold.
    Resumed(Run, Lease),
    /// One of this source, or of another with the same content, that another loader is at, which lives.
    Held {
        /// The run.
        run: Run,
        /// Which loader.
        by: String,
        /// How long its lease lasts unless it renews it.
        remaining: Duration,
    },
    /// One of this source that was read to its end without an error; its chunks may still be on their way. A run that ended
    /// with an error is not: it gives its source free when it is sealed.
    AlreadyLoaded(Run),
    /// One of another source, or of another version, that has the same content and was read to its end without an error; its
    /// chunks may still be on their way.
    Copied(Run),
}

/// What [`Store::write`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Of each chunk, in the order they were given in.
    pub outcomes: Vec<ChunkOutcome>,
    /// How many transactions are stored that were not before.
    pub transactions: u64,
    /// Scored rows of recorded chunks whose prediction was not stored now, as their transaction is stored already or cannot
    /// be: where their chunk stands among those given, and the row.
    pub passed_over: BTreeSet<(usize, u64)>,
    /// What became of the rows of the chunks that are recorded now.
    pub tally: Tally,
    /// How many of them failed, by class.
    pub failed: BTreeMap<String, u64>,
    /// Whether rows that the database refuses had to be looked for.
    pub is_bisected: bool,
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// It is recorded now, and each of its rows is accounted for.
    Recorded,
    /// It was recorded before; nothing changed.
    Known,
    /// Its run was stopped before it, or removed: nothing of it counts, and nothing of it is stored.
    Dropped,
    /// It contradicts itself or what is recorded; nothing of it is stored.
    Refused {
        /// For a person.
        reason: String,
    },
}

/// What came of sealing a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// It is sealed there, by this call or by the same one before.
    Done,
    /// It was sealed elsewhere, in place of a loader that was taken to be gone; nothing changed.
    Elsewhere {
        /// For a person.
        reason: String,
    },
    /// A chunk is recorded that lies beyond, so that the run cannot end there; nothing changed.
    RecordedBeyond {
        /// For a person.
        reason: String,
    },
}

/// How much of a run is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Chunks.
    pub chunks_recorded: u64,
    /// Their rows, whatever became of them.
    pub rows_recorded: u64,
}

/// A chunk that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedChunk {
    /// Counted from 0 within its run.
    pub chunk: u64,
    /// The rows it covers.
    pub range: RowRange,
}

/// How far runs have come with a version of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// No run has begun to read it.
    Not,
    /// The only runs of it are loading, or were left so.
    Loading,
    /// One has read it, or has failed to.
    Read,
}

/// Which ids other runs may have stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// None: there is no other run.
    Nothing,
    /// Ids that are UUIDs in their source, and so the same in every namespace.
    Uuids,
    /// Any: another run has the same namespace.
    Any,
}

/// How often a label was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictionCount {
    /// The label.
    pub prediction: String,
    /// Of how many transactions.
    pub count: u64,
    /// The mean of their fraud scores, where the model gave some.
    pub mean_score: Option<f64>,
}

/// A database of Assay. Every method is one transaction, or a read.
///
/// # The law
///
/// `rows_read = predicted + invalid + failed + duplicate` for each finished run, counted from data rows at any time
/// ([`Store::tally`]). A transaction belongs for good to the run and row that stored it first: when
/// [`IdConflict::Update`] replaces its content, the row that brought the new content is booked as a duplicate of its own run,
/// and `transaction_history` names it. So neither run's count changes afterwards, but for rows that failed and are replayed
/// ([`Operations::exchange`]), each of which leaves one outcome for another.
#[async_trait]
pub trait Store: Operations + LiveLedger {
    /// Begins a run, or finds the one of the same source, and takes the lease of it, all at once. A holder that asks again
    /// is given a new lease, and its former one ends. The id of another source's run is refused.
    async fn begin_run(&self, run: &NewRun) -> Result<Begun, StoreError>;

    /// What [`Store::begin_run`] would find in the way of a new run of this content: a run that has it, [`Begun::Copied`] or
    /// [`Begun::Held`]. One that has failed, was cancelled, or has lost its loader is not in the way.
    async fn copy_of(&self, fingerprint: &str) -> Result<Option<Begun>, StoreError>;

    /// Takes the lease of a run that is loading, where it is free, has run out, or is the holder's own.
    async fn take_lease(&self, run_id: &RunId, holder: &str, lease: Duration) -> Result<Taken, StoreError>;

    /// Keeps a lease for so long from now on, also one that has run out and that nobody has taken; brings the order to end
    /// the run. Cheap: a loader asks every second.
    async fn renew_lease(&self, lease: &Lease, time: Duration) -> Result<Renewed, StoreError>;

    /// Gives a lease up, so that another may take it at once. Does nothing to one that is lost.
    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Gives up the lease of a holder that is known to be gone. Should it live after all, it finds its lease lost.
    async fn evict(&self, run_id: &RunId, holder: &str) -> Result<(), StoreError>;

    /// Says where a restarted loader goes on. Never moves backwards: an earlier position changes nothing. So does that of a
    /// loader that has lost its lease, which is told ([`StoreError::is_lease_lost`]).
    async fn checkpoint(&self, lease: &Lease, at: Checkpoint) -> Result<(), StoreError>;

    /// Says that the source was read to its end, or how far it was read until the `error`; the run will then close as
    /// failed, and its source is free for another run at once. So it does where it was ordered to stop: it ends as the order
    /// says, and for its reason. The lease ends with it.
    ///
    /// The first seal counts: sealing again at the same rows and chunks changes nothing, and neither does a seal at others,
    /// or below what is recorded. A seal without the lease is an error ([`StoreError::is_lease_lost`]). No chunk is recorded
    /// afterwards that lies beyond it.
    async fn seal(&self, lease: &Lease, sealed: Sealed, error: Option<&str>) -> Result<Sealing, StoreError>;

    /// Finishes a run that is sealed and whose chunks are all recorded; tells its state. Safe to repeat, and to call at the
    /// same time. A run that is not known yet is loading.
    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError>;

    /// Records chunks with all of their rows in one transaction. Chunks that are recorded already change nothing, so after
    /// any error, even one of the commit, the same call may be repeated. A new chunk of a run that has not begun is refused; one
    /// beyond the end of a sealed run is refused, or dropped where the run was ordered to stop. Rows left over from a chunk whose record was deleted by hand count once: transactions stay as they are
    /// stored, invalid and failed rows are booked anew.
    ///
    /// Of several rows with one id, the first stored one wins; within one call, the first in (run, chunk, row) order. A row
    /// whose data the database refuses becomes a failed transaction, class `database`, and all others are stored.
    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<Written, StoreError>;

    /// A run.
    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError>;

    /// How far any run has come with each of these versions of sources, whatever became of it.
    async fn known(&self, sources: &[SourceIdentity]) -> Result<Vec<Known>, StoreError>;

    /// Which ids of a run's source other runs may have stored.
    async fn earlier(&self, run: &Run) -> Result<Earlier, StoreError>;

    /// Those entries that are stored with the same content, and have a prediction: that prediction. Takes the memory of one stored
    /// transaction at a time, whatever is stored.
    async fn stored_alike(&self, entries: &[&Entry]) -> Result<Vec<KnownRow>, StoreError>;

    /// How much of a run is recorded.
    async fn progress(&self, run_id: &RunId) -> Result<Progress, StoreError>;

    /// Recorded chunks of a run from `chunk` on, in order, at most `limit` of them.
    async fn recorded_from(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError>;

    /// What became of a run's rows, counted from the data rows.
    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError>;

    /// How often each label was predicted in a run, the most frequent first.
    async fn prediction_counts(&self, run_id: &RunId) -> Result<Vec<PredictionCount>, StoreError>;

    /// How many rows of a run are invalid, by reason code, the most frequent first.
    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError>;

    /// How many transactions of a run failed, by class, the most frequent first.
    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError>;

    /// Settings of the server under which a crash loses or spoils what it has confirmed, and which no program can set for itself.
    async fn hazards(&self) -> Result<Vec<String>, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Ends all connections, once their work is done.
    async fn close(&self);
}

/// Asks a database whether it answers, in the form that a process's health is told in.
pub fn health_check(
    store: &Arc<dyn Store>,
) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + 'static {
    let store = Arc::clone(store);
    move || {
        let store = Arc::clone(&store);
        Box::pin(async move { store.ping().await.map_err(|error| error.to_string()) })
    }
}

//! The ledger of runs: what loaders ask of a database, and the rules that need no I/O. The SQL is in `sql::ledger`.
//!
//! - `begin`: whether a run is new, resumed, or in the way of another
//! - `lease`: which loader reads the source of a run
//! - `sealing`: where a run ends, and which chunks lie beyond that
//! - `live`: the trait [`LiveLedger`](crate::LiveLedger), runs of live transactions
//! - `first_gap`: where to look for the first missing chunk

pub(crate) mod begin;
pub(crate) mod first_gap;
pub(crate) mod lease;
pub(crate) mod live;
pub(crate) mod sealing;

use std::time::Duration;

use assay_transaction::{Checkpoint, Entry, KnownRow, RowRange, Run, RunId, RunState, SealedTotals, SourceIdentity};
use async_trait::async_trait;

use crate::{EarlierIds, Lease, LeaseAttempt, LeaseRenewal, NewRun, RunStart, SealOutcome, SourceState, StoreError};

/// How much of a run is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordedProgress {
    /// Recorded chunks.
    pub chunks_recorded: u64,
    /// Their rows, whatever their outcome.
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

/// The ledger of runs, as loaders use it. Every method is one transaction, or a read.
#[async_trait]
pub trait RunLedger: Send + Sync {
    /// Begins a run, or finds the one of the same source, and takes its lease, all in one transaction. An owner that asks
    /// again gets a new lease, and its former one ends. The id of another source's run is refused.
    async fn begin_run(&self, run: &NewRun) -> Result<RunStart, StoreError>;

    /// The run that keeps [`RunLedger::begin_run`] from beginning one of this content: [`RunStart::Copied`] or [`RunStart::Held`].
    /// Runs that failed, were cancelled, or lost their loader do not count.
    async fn copy_of(&self, fingerprint: &str) -> Result<Option<RunStart>, StoreError>;

    /// Takes the lease of a loading run if it is free, has run out, or belongs to this owner.
    async fn take_lease(&self, run_id: &RunId, owner: &str, lease: Duration) -> Result<LeaseAttempt, StoreError>;

    /// Extends a lease to this long from now, even one that has run out, unless another loader took it. Returns the order to
    /// stop the run, if there is one. Cheap: a loader calls it every second.
    async fn renew_lease(&self, lease: &Lease, time: Duration) -> Result<LeaseRenewal, StoreError>;

    /// Releases a lease, so that another loader may take it at once. Does nothing to a lost one.
    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Releases the lease of an owner that is known to be gone. If it is alive after all, it finds its lease lost.
    async fn evict(&self, run_id: &RunId, owner: &str) -> Result<(), StoreError>;

    /// Records where a restarted loader resumes. It never moves backwards: an earlier position changes nothing. A loader
    /// without the lease changes nothing either, and gets an error ([`StoreError::is_lease_lost`]).
    async fn checkpoint(&self, lease: &Lease, at: Checkpoint) -> Result<(), StoreError>;

    /// Records that the source was read to its end, or how far it was read until `error`: then the run closes as failed, and
    /// its source is free for another run at once. The same holds for a run with a stop order, which ends as ordered, for the
    /// order's reason. The lease ends with the seal, and no chunk beyond it is recorded afterwards.
    ///
    /// The first seal counts: the same one again changes nothing, and neither does a different one, or one below what is
    /// recorded. Sealing without the lease is an error ([`StoreError::is_lease_lost`]).
    async fn seal(&self, lease: &Lease, sealed: SealedTotals, error: Option<&str>) -> Result<SealOutcome, StoreError>;

    /// Finishes a run that is sealed and whose chunks are all recorded; returns its state. Safe to repeat and to call
    /// concurrently. An unknown run counts as loading.
    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError>;

    /// A run.
    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError>;

    /// How far runs have come with each of these versions of sources, whatever their end.
    async fn source_states(&self, sources: &[SourceIdentity]) -> Result<Vec<SourceState>, StoreError>;

    /// Which ids of a run's source other runs may have stored.
    async fn earlier_ids(&self, run: &Run) -> Result<EarlierIds, StoreError>;

    /// The stored predictions of those entries that are stored with the same content. Holds one stored transaction in memory
    /// at a time.
    async fn stored_predictions(&self, entries: &[&Entry]) -> Result<Vec<KnownRow>, StoreError>;

    /// How much of a run is recorded.
    async fn progress(&self, run_id: &RunId) -> Result<RecordedProgress, StoreError>;

    /// Recorded chunks of a run from `chunk` on, in order, at most `limit` of them.
    async fn recorded_chunks(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError>;

    /// How many rows of a run failed, and how many are recorded: the error budget compares them.
    async fn failed_share(&self, run_id: &RunId) -> Result<(u64, u64), StoreError>;
}

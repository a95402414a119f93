//! What operators ask and order. The SQL is in `sql::operations`.
//!
//! - `records`: the types that describe runs, rows, replays and dead letters
//! - `overview`: how far runs are; `filters`: which runs and rows are selected
//! - `audit`: what an audit finds, and whether that is lawful
//! - `privacy`: what a purge and an erasure take, and what they leave
//! - `removal`: how a finished run is removed, step by step
//! - `statistics`: what each commit notes of its rows

pub(crate) mod audit;
pub(crate) mod filters;
pub(crate) mod overview;
pub(crate) mod privacy;
pub(crate) mod records;
pub(crate) mod removal;
pub(crate) mod statistics;

use assay_transaction::{Run, RunId, RunState, StopKind, Tally};
use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Audit, AuditContext, DeadLetterRecord, EarlierFailure, FailedRecord, FailedRowSelection, InvalidRecord,
    OpenDeadLetter, OpenRun, OperationRecord, PredictionCount, RemovalCounts, RemovalPlan, RemovalStart, RemovalStep,
    ReplayCounts, RowOutcome, RunFilter, RunOverview, RunStatistics, StopOutcome, StoreError, Strays, TallySource,
    TransactionRecord,
};

/// What operators ask and order. Every method is one transaction, or a read.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Runs, the latest first; only those of `location`, if given.
    async fn runs(&self, location: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// The runs that are not finished: loading or sealed.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, StoreError>;

    /// Orders a run to end early, and records the operator. A sealed run ends as ordered once its chunks are recorded, and
    /// frees its source at once; a loading one still has to be sealed. A live run is sealed at once, whatever it lacks, but no
    /// earlier than an hour after its day.
    async fn order_stop(
        &self,
        run_id: &RunId,
        kind: StopKind,
        reason: &str,
        audit: &AuditContext,
    ) -> Result<StopOutcome, StoreError>;

    /// Seals a loading run that has a stop order and no live loader: at its checkpoint, or behind its last recorded chunk,
    /// whichever is further. Does nothing to any other run. Returns the state afterwards.
    async fn seal_stopped(&self, run_id: &RunId) -> Result<RunState, StoreError>;

    /// The runs that match a filter, the latest first, without the first `skip` of them.
    async fn list_runs(&self, filter: &RunFilter, skip: u32, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// How far a run is, and its pace over the last `window_seconds`, all at one point in time.
    async fn overview(
        &self,
        run_id: &RunId,
        window_seconds: u32,
        counting: TallySource,
    ) -> Result<Option<RunOverview>, StoreError>;

    /// How many runs match a filter.
    async fn count_runs(&self, filter: &RunFilter) -> Result<u64, StoreError>;

    /// The outcomes of these runs' rows as their chunks record them, in the given order.
    async fn tallies_by_chunk(&self, runs: &[RunId]) -> Result<Vec<Tally>, StoreError>;

    /// What commits noted of a run. It takes as long for ten million rows as for ten thousand.
    async fn statistics(&self, run_id: &RunId) -> Result<RunStatistics, StoreError>;

    /// The outcomes of a run's rows as its chunks record them, for lists. [`Operations::tally`] counts the rows.
    async fn tally_by_chunk(&self, run_id: &RunId) -> Result<Tally, StoreError>;

    /// Recounts a run from its data rows and chunks, in one snapshot.
    async fn audit(&self, run_id: &RunId) -> Result<Option<Audit>, StoreError>;

    /// Rows of runs that are not in the ledger, and predictions without a transaction.
    async fn strays(&self) -> Result<Strays, StoreError>;

    /// The outcome of a row.
    async fn row(&self, run_id: &RunId, row: u64) -> Result<RowOutcome, StoreError>;

    /// How a row failed before each of its replays, the first replay first.
    async fn earlier_failures(&self, run_id: &RunId, row: u64) -> Result<Vec<EarlierFailure>, StoreError>;

    /// A transaction by its stored id.
    async fn transaction(&self, id: Uuid) -> Result<Option<TransactionRecord>, StoreError>;

    /// The rows that failed with a transaction id, in the order in which their chunks were recorded: at most the last 100.
    async fn failed_with_id(&self, id: Uuid) -> Result<Vec<FailedRecord>, StoreError>;

    /// The namespaces of all runs' ids, to look up an external id.
    async fn namespaces(&self) -> Result<Vec<Uuid>, StoreError>;

    /// Invalid rows of a run from `from_row` on, in order, at most `limit` of them; only those with this reason code, if given.
    async fn invalid_rows(
        &self,
        run_id: &RunId,
        reason: Option<&str>,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<InvalidRecord>, StoreError>;

    /// Selected failed transactions of a run from `from_row` on, in order, at most `limit` of them.
    async fn failed_rows(
        &self,
        run_id: &RunId,
        selection: &FailedRowSelection,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<FailedRecord>, StoreError>;

    /// How many selected transactions of a run failed, by class, the most frequent first.
    async fn count_failed(
        &self,
        run_id: &RunId,
        selection: &FailedRowSelection,
    ) -> Result<Vec<(String, u64)>, StoreError>;

    /// Begins a replay of a run, records the operator, and returns its number.
    async fn begin_replay(
        &self,
        run_id: &RunId,
        details: &serde_json::Value,
        audit: &AuditContext,
    ) -> Result<u64, StoreError>;

    /// How many parts of a replay are recorded, and the sum of their counts.
    async fn replayed(&self, run_id: &RunId, replay: u64) -> Result<(u64, ReplayCounts), StoreError>;

    /// Begins to remove a finished run, and records the operator. From then on nothing more of it is stored, and its source can
    /// be loaded again. A removal that was begun before continues.
    async fn begin_removal(&self, run_id: &RunId, audit: &AuditContext) -> Result<RemovalStart, StoreError>;

    /// Takes one step of a removal; returns what it did, and the next step, unless it was the last. Each step is one
    /// transaction, after which the law holds. Steps may be repeated, and a removal may start again: what is done stays done.
    async fn removal_step(
        &self,
        run_id: &RunId,
        step: &RemovalStep,
    ) -> Result<(RemovalCounts, Option<RemovalStep>), StoreError>;

    /// What a removal would do, apart from turning each row of the run into a tombstone.
    async fn plan_removal(&self, run_id: &RunId) -> Result<RemovalPlan, StoreError>;

    /// Dead letters, the latest first; only those of `run_id`, if given.
    async fn dead_letters(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<DeadLetterRecord>, StoreError>;

    /// How many dead letters of a run keep it from being complete: unreadable or refused, and not resolved.
    async fn blocking_dead_letters(&self, run_id: &RunId) -> Result<u64, StoreError>;

    /// The dead letters of a run that keep it from being complete.
    async fn open_dead_letters(&self, run_id: &RunId) -> Result<Vec<OpenDeadLetter>, StoreError>;

    /// Resolves dead letters, and returns how many: those that came again since they were listed stay open.
    async fn resolve_dead_letters(&self, letters: &[OpenDeadLetter]) -> Result<u64, StoreError>;

    /// How many parts of a replay are dead letters and not recorded.
    async fn parts_given_up(&self, run_id: &RunId, replay: u64) -> Result<u64, StoreError>;

    /// Records what an operator did.
    async fn record_operation(
        &self,
        action: &str,
        run_id: Option<&RunId>,
        details: Option<&serde_json::Value>,
        audit: &AuditContext,
    ) -> Result<(), StoreError>;

    /// What operators did, the latest first; only to `run_id`, if given.
    async fn operations(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<OperationRecord>, StoreError>;

    /// The outcomes of a run's rows, counted from the data rows.
    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError>;

    /// The same, and how often each label was predicted, the most frequent first: at one point in time.
    async fn recount(&self, run_id: &RunId) -> Result<(Tally, Vec<PredictionCount>), StoreError>;

    /// How many rows of a run are invalid, by reason code, the most frequent first.
    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError>;

    /// How many transactions of a run failed, by class, the most frequent first.
    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError>;
}

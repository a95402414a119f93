//! What operators ask and order: the trait, each method one call.

mod audit;
pub(crate) mod counts;
pub(crate) mod dead_letters;
mod journal;
mod overview;
pub(crate) mod privacy;
pub(crate) mod records;
mod removal;
mod replays;
pub(crate) mod statistics;
pub(crate) mod stop_orders;
mod strays;

use assay_transaction::{Run, RunId, RunState, StopKind, Tally};
use async_trait::async_trait;
use uuid::Uuid;

use super::dialect::{self, COUNTING, Database, LOOKING_UP, READING, WRITING};
use super::ledger::{leases, live, run_row, runs};
use super::{ask, bounded, fragments, rows};
use crate::{
    Audit, AuditContext, DeadLetterRecord, EarlierFailure, FailedRecord, FailedRowSelection, InvalidRecord,
    OpenDeadLetter, OpenRun, OperationRecord, Operations, PredictionCount, RemovalCounts, RemovalPlan, RemovalStart,
    RemovalStep, ReplayCounts, RowOutcome, RunFilter, RunOverview, RunStatistics, StopOutcome, StoreError, Strays,
    TallySource, TransactionRecord,
};

#[async_trait]
impl Operations for Database {
    async fn runs(&self, location: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        bounded(runs::runs(self.reading(), location, limit)).await
    }

    async fn open_runs(&self) -> Result<Vec<OpenRun>, StoreError> {
        bounded(runs::open_runs(self.reading())).await
    }

    async fn order_stop(
        &self,
        run_id: &RunId,
        kind: StopKind,
        reason: &str,
        audit: &AuditContext,
    ) -> Result<StopOutcome, StoreError> {
        bounded(stop_orders::order_stop(self.writing(), run_id, kind, reason, audit)).await
    }

    async fn seal_stopped(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        bounded(stop_orders::seal_stopped(self.writing(), run_id)).await
    }

    async fn list_runs(&self, filter: &RunFilter, skip: u32, limit: u32) -> Result<Vec<Run>, StoreError> {
        bounded(overview::list(self.reading(), filter, skip, limit)).await
    }

    async fn overview(
        &self,
        run_id: &RunId,
        window_seconds: u32,
        counting: TallySource,
    ) -> Result<Option<RunOverview>, StoreError> {
        let overview = overview::overview(self.reading(), run_id, window_seconds, counting);
        match counting {
            // Not bounded: it takes as long as it takes.
            TallySource::Rows => overview.await,
            TallySource::Chunks => bounded(overview).await,
        }
    }

    async fn count_runs(&self, filter: &RunFilter) -> Result<u64, StoreError> {
        bounded(overview::count(self.reading(), filter)).await
    }

    async fn tallies_by_chunk(&self, runs: &[RunId]) -> Result<Vec<Tally>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| overview::all_booked(reading, runs).await)).await
    }

    async fn statistics(&self, run_id: &RunId) -> Result<RunStatistics, StoreError> {
        bounded(statistics::read(self.reading(), run_id)).await
    }

    async fn tally_by_chunk(&self, run_id: &RunId) -> Result<Tally, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| overview::booked(reading, run_id).await)).await
    }

    async fn audit(&self, run_id: &RunId) -> Result<Option<Audit>, StoreError> {
        ask(self.reading(), COUNTING, async |counting| audit::audit(counting, run_id).await).await
    }

    async fn strays(&self) -> Result<Strays, StoreError> {
        ask(self.reading(), COUNTING, async |counting| strays::find(counting).await).await
    }

    async fn row(&self, run_id: &RunId, row: u64) -> Result<RowOutcome, StoreError> {
        bounded(ask(self.reading(), LOOKING_UP, async |reading| records::row(reading, run_id, row).await)).await
    }

    async fn earlier_failures(&self, run_id: &RunId, row: u64) -> Result<Vec<EarlierFailure>, StoreError> {
        bounded(replays::earlier_failures(self.reading(), run_id, row)).await
    }

    async fn transaction(&self, id: Uuid) -> Result<Option<TransactionRecord>, StoreError> {
        bounded(records::transaction(self.reading(), id)).await
    }

    async fn failed_with_id(&self, id: Uuid) -> Result<Vec<FailedRecord>, StoreError> {
        bounded(records::failed_with_id(self.reading(), id)).await
    }

    async fn namespaces(&self) -> Result<Vec<Uuid>, StoreError> {
        bounded(records::namespaces(self.reading())).await
    }

    async fn invalid_rows(
        &self,
        run_id: &RunId,
        reason: Option<&str>,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<InvalidRecord>, StoreError> {
        bounded(records::invalid_rows(self.reading(), run_id, reason, from_row, limit)).await
    }

    async fn failed_rows(
        &self,
        run_id: &RunId,
        selection: &FailedRowSelection,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<FailedRecord>, StoreError> {
        bounded(records::failed_rows(self.reading(), run_id, selection, from_row, limit)).await
    }

    async fn count_failed(
        &self,
        run_id: &RunId,
        selection: &FailedRowSelection,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        bounded(records::count_failed(self.reading(), run_id, selection)).await
    }

    async fn begin_replay(
        &self,
        run_id: &RunId,
        details: &serde_json::Value,
        audit: &AuditContext,
    ) -> Result<u64, StoreError> {
        bounded(replays::begin(self.writing(), run_id, details, audit)).await
    }

    async fn replayed(&self, run_id: &RunId, replay: u64) -> Result<(u64, ReplayCounts), StoreError> {
        bounded(replays::replayed(self.reading(), run_id, replay)).await
    }

    async fn begin_removal(&self, run_id: &RunId, audit: &AuditContext) -> Result<RemovalStart, StoreError> {
        bounded(removal::begin(self.writing(), run_id, audit)).await
    }

    async fn removal_step(
        &self,
        run_id: &RunId,
        step: &RemovalStep,
    ) -> Result<(RemovalCounts, Option<RemovalStep>), StoreError> {
        bounded(removal::step(self.writing(), run_id, step)).await
    }

    async fn plan_removal(&self, run_id: &RunId) -> Result<RemovalPlan, StoreError> {
        removal::plan(self.reading(), run_id).await
    }

    async fn dead_letters(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<DeadLetterRecord>, StoreError> {
        bounded(dead_letters::latest(self.reading(), run_id, limit)).await
    }

    async fn blocking_dead_letters(&self, run_id: &RunId) -> Result<u64, StoreError> {
        bounded(dead_letters::blocking(self.reading(), run_id)).await
    }

    async fn open_dead_letters(&self, run_id: &RunId) -> Result<Vec<OpenDeadLetter>, StoreError> {
        bounded(dead_letters::open(self.reading(), run_id)).await
    }

    async fn resolve_dead_letters(&self, letters: &[OpenDeadLetter]) -> Result<u64, StoreError> {
        bounded(dead_letters::resolve(self.writing(), letters)).await
    }

    async fn parts_given_up(&self, run_id: &RunId, replay: u64) -> Result<u64, StoreError> {
        bounded(dead_letters::given_up(self.reading(), run_id, replay)).await
    }

    async fn record_operation(
        &self,
        action: &str,
        run_id: Option<&RunId>,
        details: Option<&serde_json::Value>,
        audit: &AuditContext,
    ) -> Result<(), StoreError> {
        bounded(async {
            let mut transaction = self.writing().begin_with(WRITING).await?;
            journal::record(&mut transaction, action, run_id, details, audit).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn operations(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<OperationRecord>, StoreError> {
        bounded(journal::latest(self.reading(), run_id, limit)).await
    }

    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError> {
        Ok(self.recount(run_id).await?.0)
    }

    async fn recount(&self, run_id: &RunId) -> Result<(Tally, Vec<PredictionCount>), StoreError> {
        ask(self.reading(), COUNTING, async |counting| counts::recount(counting, run_id).await).await
    }

    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        ask(self.reading(), COUNTING, async |counting| counts::by_code(counting, run_id, counts::INVALID).await).await
    }

    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        ask(self.reading(), COUNTING, async |counting| counts::by_code(counting, run_id, counts::FAILED).await).await
    }
}

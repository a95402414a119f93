//! Runs: how they begin, who loads them, how they end.
//!
//! - `begin`: how a run begins; `leases`: which loader owns it; `runs`: its chunks, its seal and its end;
//!   `run_row`: its row
//! - `sources`: what runs have made of sources, and which of their rows are stored
//! - `live`: runs of live transactions

pub(crate) mod begin;
pub(crate) mod leases;
pub(crate) mod live;
pub(crate) mod run_row;
pub(crate) mod runs;
pub(crate) mod sources;

use std::time::Duration;

use assay_transaction::{Checkpoint, Entry, KnownRow, LiveRun, Run, RunId, RunState, SealedTotals, SourceIdentity};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::dialect::{Database, READING};
use super::{ask, bounded, dialect, migrations, operations, rows};
use crate::{
    EarlierIds, Lease, LeaseAttempt, LeaseRenewal, LiveCount, LiveLedger, NewRun, Numbering, RecordedChunk,
    RecordedProgress, RunLedger, RunStart, SealOutcome, SourceState, StoreError, UnnumberedMessage,
};

#[async_trait]
impl RunLedger for Database {
    async fn begin_run(&self, run: &NewRun) -> Result<RunStart, StoreError> {
        bounded(begin::begin_run(self.writing(), run)).await
    }

    async fn copy_of(&self, fingerprint: &str) -> Result<Option<RunStart>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| begin::copy_of(reading, fingerprint).await)).await
    }

    async fn take_lease(&self, run_id: &RunId, owner: &str, lease: Duration) -> Result<LeaseAttempt, StoreError> {
        bounded(leases::take(self.writing(), run_id, owner, lease)).await
    }

    async fn renew_lease(&self, lease: &Lease, time: Duration) -> Result<LeaseRenewal, StoreError> {
        bounded(leases::renew(self.writing(), lease, time)).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        bounded(leases::release(self.writing(), lease)).await
    }

    async fn evict(&self, run_id: &RunId, owner: &str) -> Result<(), StoreError> {
        bounded(leases::evict(self.writing(), run_id, owner)).await
    }

    async fn checkpoint(&self, lease: &Lease, at: Checkpoint) -> Result<(), StoreError> {
        bounded(runs::checkpoint(self.writing(), lease, at)).await
    }

    async fn seal(&self, lease: &Lease, sealed: SealedTotals, error: Option<&str>) -> Result<SealOutcome, StoreError> {
        bounded(runs::seal(self.writing(), lease, sealed, error)).await
    }

    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        bounded(runs::close_run(self.writing(), run_id)).await
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| runs::by_id(reading, run_id).await)).await
    }

    async fn source_states(&self, sources: &[SourceIdentity]) -> Result<Vec<SourceState>, StoreError> {
        bounded(sources::known(self.reading(), sources)).await
    }

    async fn earlier_ids(&self, run: &Run) -> Result<EarlierIds, StoreError> {
        bounded(sources::earlier(self.reading(), run)).await
    }

    async fn stored_predictions(&self, entries: &[&Entry]) -> Result<Vec<KnownRow>, StoreError> {
        bounded(sources::stored_alike(self.reading(), entries)).await
    }

    async fn progress(&self, run_id: &RunId) -> Result<RecordedProgress, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| runs::progress(reading, run_id).await)).await
    }

    async fn recorded_chunks(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| runs::recorded_from(reading, run_id, chunk, limit).await))
            .await
    }

    async fn failed_share(&self, run_id: &RunId) -> Result<(u64, u64), StoreError> {
        bounded(runs::failed_share(self.reading(), run_id)).await
    }
}

#[async_trait]
impl LiveLedger for Database {
    async fn number(
        &self,
        messages: &[UnnumberedMessage<'_>],
        now: DateTime<Utc>,
    ) -> Result<Vec<Numbering>, StoreError> {
        bounded(live::number(self.writing(), messages, now)).await
    }

    async fn keep_count(&self, count: &LiveCount) -> Result<(), StoreError> {
        bounded(live::keep_count(self.writing(), count)).await
    }

    async fn live_run(&self, run_id: &RunId) -> Result<Option<LiveRun>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| live::live_run(reading, run_id).await)).await
    }

    async fn seal_live(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        bounded(live::seal_live(self.writing(), run_id)).await
    }
}

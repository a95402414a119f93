//! The trait of the stages, each method one call; and how chunks and parts of replays go through a session.

use std::time::Duration;

use assay_transaction::{
    Checkpoint, Entry, KnownRow, LiveRun, Run, RunId, RunState, ScoredChunk, ScoredReplay, Sealed, SourceIdentity,
    Tally,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::dialect::{Database, READING};
use super::ledger::{begin as beginning, leases, live, runs as ledger, sources as known};
use super::operations::counts;
use super::{ask, bounded};
use crate::write::chunks::{Attempt, Booked, write};
use crate::write::replay::{StagedPart, exchange};
use crate::write::validate::Screened;
use crate::{
    Begun, Earlier, ErrorClass, Exchanged, IdConflict, Known, Lease, LiveArrival, LiveCount, LiveLedger, NewRun,
    Numbering, PredictionCount, Progress, RecordedChunk, Renewed, Sealing, Store, StoreError, Taken, Written,
};

impl Database {
    async fn attempt(
        &self,
        screened: &Screened<'_>,
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<Booked, StoreError> {
        write(self.session(attempt).await?, screened, on_conflict, attempt).await
    }

    async fn attempt_exchange(
        &self,
        part: &StagedPart<'_>,
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<Exchanged, StoreError> {
        exchange(self.session(attempt).await?, part, on_conflict, attempt).await
    }

    pub(crate) async fn exchange_part(
        &self,
        part: &ScoredReplay,
        on_conflict: IdConflict,
    ) -> Result<Exchanged, StoreError> {
        let part = StagedPart::new(part)?;
        match self.attempt_exchange(&part, on_conflict, Attempt::Careful).await {
            Err(error) if error.class() == ErrorClass::Data => {
                self.attempt_exchange(&part, on_conflict, Attempt::Bisecting).await
            }
            result => result,
        }
    }
}

#[async_trait]
impl Store for Database {
    async fn begin_run(&self, run: &NewRun) -> Result<Begun, StoreError> {
        bounded(beginning::begin_run(self.writing(), run)).await
    }

    async fn copy_of(&self, fingerprint: &str) -> Result<Option<Begun>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| beginning::copy_of(reading, fingerprint).await)).await
    }

    async fn take_lease(&self, run_id: &RunId, holder: &str, lease: Duration) -> Result<Taken, StoreError> {
        bounded(leases::take(self.writing(), run_id, holder, lease)).await
    }

    async fn renew_lease(&self, lease: &Lease, time: Duration) -> Result<Renewed, StoreError> {
        bounded(leases::renew(self.writing(), lease, time)).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        bounded(leases::release(self.writing(), lease)).await
    }

    async fn evict(&self, run_id: &RunId, holder: &str) -> Result<(), StoreError> {
        bounded(leases::evict(self.writing(), run_id, holder)).await
    }

    async fn checkpoint(&self, lease: &Lease, at: Checkpoint) -> Result<(), StoreError> {
        bounded(ledger::checkpoint(self.writing(), lease, at)).await
    }

    async fn seal(&self, lease: &Lease, sealed: Sealed, error: Option<&str>) -> Result<Sealing, StoreError> {
        bounded(ledger::seal(self.writing(), lease, sealed, error)).await
    }

    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        bounded(ledger::close_run(self.writing(), run_id)).await
    }

    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<Written, StoreError> {
        let screened = Screened::new(chunks);
        if screened.chunks.is_empty() {
            return Ok(screened.written(Booked::default(), false));
        }
        let mut result = bounded(self.attempt(&screened, on_conflict, Attempt::Quick)).await;
        if result.as_ref().is_err_and(StoreError::is_duplicate_key) {
            result = bounded(self.attempt(&screened, on_conflict, Attempt::Careful)).await;
        }
        match result {
            Err(error) if error.class() == ErrorClass::Data => {
                let booked = bounded(self.attempt(&screened, on_conflict, Attempt::Bisecting)).await?;
                Ok(screened.written(booked, true))
            }
            result => Ok(screened.written(result?, false)),
        }
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError> {
        bounded(ledger::run(self.reading(), run_id)).await
    }

    async fn known(&self, sources: &[SourceIdentity]) -> Result<Vec<Known>, StoreError> {
        bounded(known::known(self.reading(), sources)).await
    }

    async fn earlier(&self, run: &Run) -> Result<Earlier, StoreError> {
        bounded(known::earlier(self.reading(), run)).await
    }

    async fn stored_alike(&self, entries: &[&Entry]) -> Result<Vec<KnownRow>, StoreError> {
        bounded(known::stored_alike(self.reading(), entries)).await
    }

    async fn progress(&self, run_id: &RunId) -> Result<Progress, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| ledger::progress(reading, run_id).await)).await
    }

    async fn recorded_from(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError> {
        bounded(ask(self.reading(), READING, async |reading| {
            ledger::recorded_from(reading, run_id, chunk, limit).await
        }))
        .await
    }

    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError> {
        counts::tally(self.reading(), run_id).await
    }

    async fn prediction_counts(&self, run_id: &RunId) -> Result<Vec<PredictionCount>, StoreError> {
        counts::predictions(self.reading(), run_id).await
    }

    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        counts::counted_by_code(self.reading(), run_id, counts::INVALID).await
    }

    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        counts::counted_by_code(self.reading(), run_id, counts::FAILED).await
    }

    async fn hazards(&self) -> Result<Vec<String>, StoreError> {
        bounded(self.reading().hazards()).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(self.reading().ping()).await
    }

    async fn close(&self) {
        self.end().await;
    }
}

#[async_trait]
impl LiveLedger for Database {
    async fn number(&self, messages: &[LiveArrival<'_>], now: DateTime<Utc>) -> Result<Vec<Numbering>, StoreError> {
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

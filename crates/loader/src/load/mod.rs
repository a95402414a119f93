//! One pass over a source: its rows are read and published; the whole of it, the rest of it, or what is missing of it. How
//! the pass ended decides `conclude` what becomes of the run.

pub(crate) mod begin;
pub(crate) mod checkpoint;
pub(crate) mod copies;
pub(crate) mod counting;
pub(crate) mod finish;
pub(crate) mod judge;
pub(crate) mod known;
pub(crate) mod lease;
pub(crate) mod lease_owner;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod recorded;
pub(crate) mod remarks;
pub(crate) mod run_name;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use assay_source::{Found, SourceError, SourceUrl};
use assay_store::Lease;
use assay_transaction::{Checkpoint, Position, Run, StopOrder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, info};

use crate::load::counting::counts_equal_rows;
use crate::load::judge::RowStats;
use crate::load::known::StoredRowMarker;
use crate::load::lease::hold;
use crate::load::publish::{ChunkPublisher, PublishReport};
use crate::load::read::{ReadBatch, ReadEnd, ReaderMessage, ReaderTask, read};
use crate::load::recorded::{RecordedChunks, end_of_recorded_chunks};
use crate::patience::{until_answered, while_there_is_time};
use crate::totals::TrailerFound;
use crate::{Dependencies, LoadError, LoadProgress};

/// Chunks that wait between the reader and the publisher.
pub(crate) const READ_AHEAD: usize = 8;

/// One load, from a position to the seal.
pub(crate) struct Load<'a> {
    pub(crate) dependencies: &'a Dependencies,
    pub(crate) url: &'a SourceUrl,
    /// Rows that are read together.
    pub(crate) batch_rows: usize,
    /// How a person starts a loader that goes on with this run, beside naming its source.
    pub(crate) again: String,
    /// The right to seal the run. Without one, it is sealed already.
    pub(crate) lease: Option<Lease>,
    pub(crate) progress: &'a Arc<LoadProgress>,
    pub(crate) shutdown: &'a CancellationToken,
}

/// What a pass takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassScope {
    /// Where it begins.
    pub(crate) from: Checkpoint,
    /// The chunk before which it ends; none for the end of the source.
    pub(crate) until: Option<u64>,
    /// Whether chunks that are recorded are passed over.
    pub(crate) only_missing: bool,
}

/// How a pass ended.
#[derive(Debug)]
pub(crate) enum PassEnd {
    /// All of it is read, and every chunk is confirmed.
    Whole(Checkpoint, TrailerFound),
    /// The source cannot be read any further, now or later.
    Broken(SourceError, Position),
    /// The broker takes no message of the size of the next chunk.
    TooLarge {
        /// Which chunk.
        chunk: u64,
        /// Its size.
        bytes: usize,
    },
    /// Too many rows are invalid: why, for a person.
    BudgetSpent(String),
    /// Somebody ordered the run to end.
    StopOrdered(StopOrder),
    /// The process was asked to stop.
    Interrupted,
}

/// What a pass did.
#[derive(Debug)]
pub(crate) struct PassReport {
    pub(crate) end: PassEnd,
    /// Everything before it is confirmed.
    pub(crate) confirmed: Checkpoint,
    /// Chunks that were published.
    pub(crate) chunks: u64,
    /// Their rows.
    pub(crate) rows: u64,
    /// What was stats of the rows that it read, where it came to an end of its own.
    pub(crate) stats: RowStats,
}

impl Load<'_> {
    /// What is still to be read of a run that was ordered to end, and has lost the loader that was to seal it: what may be
    /// missing before the last chunk that is recorded, as the run cannot be sealed before that one.
    pub(crate) async fn scope_before_stop(&self, run: &Run, scope: PassScope) -> Result<PassScope, LoadError> {
        let store = &*self.dependencies.store;
        let recorded = until_answered("the run", || end_of_recorded_chunks(store, &run.run_id, run.checkpoint.chunk));
        let Some(recorded) = self.shutdown.run_until_cancelled(recorded).await else {
            return Err(self.stopped(run, run.checkpoint.rows_before()));
        };
        Ok(PassScope { until: Some(recorded?), only_missing: true, ..scope })
    }

    /// Reads and publishes.
    pub(crate) async fn pass(
        &self,
        run: &Run,
        scope: PassScope,
        batches: mpsc::UnboundedSender<ReadBatch>,
    ) -> Result<PassReport, LoadError> {
        let Dependencies { store, broker, drain, .. } = self.dependencies;
        let passed = |end, published: PublishReport| {
            let PublishReport { until: confirmed, chunks, rows, .. } = published;
            Ok(PassReport { end, confirmed, chunks, rows, stats: RowStats::default() })
        };
        let nothing = PublishReport::nothing(scope.from);
        // S3 may be away for as long as SOURCE_TIMEOUT.
        let starting = Box::pin(self.start_reading(run, scope));
        let (reading, chunks) = match self.shutdown.run_until_cancelled(starting).await {
            Some(Ok(started)) => started,
            Some(Err(error)) if error.is_final() => return passed(PassEnd::Broken(error, scope.from.at), nothing),
            Some(Err(error)) => return Err(error.into()),
            None => return passed(PassEnd::Interrupted, nothing),
        };
        let recorded = if scope.only_missing {
            RecordedChunks::of(&**store, &run.run_id)
        } else {
            RecordedChunks::nothing(&**store, &run.run_id)
        };
        let (intake, stop, ordered) = (self.shutdown.child_token(), CancellationToken::new(), OnceLock::new());
        let publishing = ChunkPublisher {
            broker: &**broker,
            store: &**store,
            durable: broker.survives_restart() && run.settings.durable_broker,
            lease: self.lease.as_ref(),
            progress: self.progress,
            batches,
            intake: &intake,
            stop: &stop,
        };
        let published = tokio::select! {
            published = publishing.publish(scope.from, chunks, recorded, StoredRowMarker::of(&**store, run)) => published?,
            never = stop_after_drain(&intake, *drain, &stop) => match never {},
            by = self.hold(run, &ordered, &intake) => {
                return Err(LoadError::TakenOver { run_id: run.run_id.clone(), by });
            }
        };
        if let Some(order) = ordered.into_inner() {
            // Not to be waited for: it may hang on a slow source.
            reading.abort();
            return passed(PassEnd::StopOrdered(order), published);
        }
        if let Some((chunk, bytes)) = published.too_large {
            return passed(PassEnd::TooLarge { chunk, bytes }, published);
        }
        if !published.all {
            return passed(PassEnd::Interrupted, published);
        }
        let (end, stats) = reading.await.map_err(|_| LoadError::Reader)??;
        let end = match end {
            ReadEnd::Complete(at, trailer) => PassEnd::Whole(at, trailer),
            ReadEnd::Broken(error, at) => PassEnd::Broken(error, at),
            ReadEnd::BudgetSpent(reason) => PassEnd::BudgetSpent(reason),
            ReadEnd::Abandoned => PassEnd::Interrupted,
        };
        Ok(PassReport { stats, ..passed(end, published)? })
    }

    /// Keeps the lease, where there is one; returns if it is lost.
    async fn hold(&self, run: &Run, ordered: &OnceLock<StopOrder>, intake: &CancellationToken) -> Option<String> {
        let Dependencies { store, lease: time, .. } = self.dependencies;
        let Some(lease) = &self.lease else { return std::future::pending().await };
        hold(&**store, lease, *time, |order| {
            // An order that was known is what this pass is for.
            if run.stop.is_none() && ordered.get().is_none() {
                let (run_id, kind, reason) = (&run.run_id, order.kind.as_str(), &order.reason);
                info!("run {run_id} is {kind}: {reason}; no more of its source is read");
                let _ = ordered.set(order);
                intake.cancel();
            }
        })
        .await
    }

    /// Lets others take the run, at once. A lease that is not released runs out.
    pub(crate) async fn release(&self) {
        let Some(lease) = &self.lease else { return };
        match while_there_is_time(self.dependencies.store.release_lease(lease), self.shutdown).await {
            Some(Ok(())) => {}
            Some(Err(error)) => debug!("the lease of run {} has to run out: {error}", lease.run_id),
            None => debug!("the lease of run {} has to run out: the database does not answer", lease.run_id),
        }
    }

    /// Starts to read the source.
    pub(crate) async fn start_reading(
        &self,
        run: &Run,
        scope: PassScope,
    ) -> Result<(ReaderTask, mpsc::Receiver<ReaderMessage>), SourceError> {
        let found = Found { identity: run.source.clone(), size: run.source_bytes.unwrap_or_default() };
        // Where rows are counted, those before the scope are read as well.
        let first = run.settings.start.filter(|_| counts_equal_rows(run)).unwrap_or(scope.from.at);
        let reader = self.dependencies.sources.rows(self.url, &found, &run.settings, first).await?;
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        let (run, progress, rows) = (run.clone(), Arc::clone(self.progress), self.batch_rows);
        let read = async move { read(reader, &run, scope.from, scope.until, rows, &progress, sender).await };
        Ok((AbortOnDropHandle::new(tokio::spawn(read.in_current_span())), chunks))
    }

    pub(crate) fn stopped(&self, run: &Run, rows: u64) -> LoadError {
        LoadError::Stopped { run_id: run.run_id.clone(), rows, again: self.again.clone() }
    }
}

/// Stops what is still in flight some time after the intake ended; runs beside it and never returns.
async fn stop_after_drain(intake: &CancellationToken, drain: Duration, stop: &CancellationToken) -> Infallible {
    intake.cancelled().await;
    tokio::time::sleep(drain).await;
    stop.cancel();
    std::future::pending().await
}

//! One load of one run: from the checkpoint to the seal.
//!
//! [`Load::run`] makes one pass over the source and decides how the run ends. In order of use:
//! - `begin`: which run the source has, and what is left to read of it; `copies`: sources with the same content
//! - `read`: a task cuts the rows into chunks, `judge` decides what each row is
//! - `stored`: chunks and rows that the database already has
//! - `publish`: chunks go to the broker; `checkpoint`: the position follows what is confirmed
//! - `lease`: renewal of the lease, and the order to stop; `lease_owner`: the name of this process in it
//! - `finish`: the run is sealed, aborted or left to the next loader; `warnings`: what a person should know of its rows

pub(crate) mod begin;
pub(crate) mod checkpoint;
pub(crate) mod copies;
pub(crate) mod finish;
pub(crate) mod judge;
pub(crate) mod lease;
pub(crate) mod lease_owner;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod stored;
pub(crate) mod warnings;

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use assay_source::{FoundSource, SourceError, SourceUrl};
use assay_store::{Lease, SealOutcome};
use assay_transaction::{Checkpoint, Position, Run, SealedTotals, StopOrder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use self::finish::{FinishedLoad, UnfinishedLoad, failure, log_sealed, source_broken};
use self::judge::RowStats;
use self::publish::{ChunkPublisher, PublishReport, log_published_batches};
use self::read::{ReadBatch, ReadEnd, ReaderMessage, ReaderTask, counts_equal_rows, read};
use self::stored::{RecordedChunks, StoredRowMarker, end_of_recorded_chunks};
use crate::metrics::{self, InProgress, LoadOutcome};
use crate::retry::retry_store;
use crate::totals::TrailerFound;
use crate::{Dependencies, LoadError, LoadProgress, LoadWarnings};

/// Chunks between the reader and the publisher.
pub(crate) const READ_AHEAD: usize = 4;

pub(crate) struct Load<'a> {
    pub(crate) dependencies: &'a Dependencies,
    pub(crate) url: &'a SourceUrl,
    /// Rows that are read together.
    pub(crate) batch_rows: usize,
    /// Arguments, besides the source, with which another loader resumes this run.
    pub(crate) again: String,
    /// The right to seal the run. None if it is sealed already.
    pub(crate) lease: Option<Lease>,
    pub(crate) progress: &'a Arc<LoadProgress>,
    pub(crate) shutdown: &'a CancellationToken,
}

/// The chunks of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassScope {
    pub(crate) from: Checkpoint,
    /// End (exclusive). None means the end of the source.
    pub(crate) until: Option<u64>,
    /// Skips chunks that are recorded.
    pub(crate) only_missing: bool,
}

#[derive(Debug)]
pub(crate) enum PassEnd {
    /// Everything is read, and every chunk is confirmed.
    Whole(Checkpoint, TrailerFound),
    /// The source can never be read any further.
    Broken(SourceError, Position),
    /// The broker accepts no message as large as this chunk.
    TooLarge { chunk: u64, bytes: usize },
    /// Too many rows are invalid, for this reason.
    BudgetSpent(String),
    /// The run was ordered to stop.
    StopOrdered(StopOrder),
    /// The process shuts down.
    Interrupted,
}

#[derive(Debug)]
pub(crate) struct PassReport {
    pub(crate) end: PassEnd,
    /// Everything before it is confirmed.
    pub(crate) confirmed: Checkpoint,
    pub(crate) chunks: u64,
    pub(crate) rows: u64,
    /// Statistics of the rows read, if the reader came to an end.
    pub(crate) stats: RowStats,
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        dependencies: &'a Dependencies,
        url: &'a SourceUrl,
        batch_rows: NonZeroUsize,
        lease: Option<Lease>,
        progress: &'a Arc<LoadProgress>,
        shutdown: &'a CancellationToken,
    ) -> Self {
        Self { dependencies, url, batch_rows: batch_rows.get(), again: String::new(), lease, progress, shutdown }
    }

    /// Runs the load, and logs each batch once it is published.
    pub(crate) async fn run_logged(&self, run: &Run, scope: PassScope) -> Result<FinishedLoad, LoadError> {
        let (sender, batches) = mpsc::unbounded_channel();
        let (loaded, ()) = tokio::join!(Box::pin(self.run(run, scope, sender)), log_published_batches(batches));
        let loaded = loaded.map_err(|unfinished| unfinished.error)?;
        log_sealed(run, loaded.sealed);
        loaded.warnings.log();
        Ok(loaded)
    }

    /// Reads, publishes and seals. The lease is over afterwards.
    pub(crate) async fn run(
        &self,
        run: &Run,
        scope: PassScope,
        batches: mpsc::UnboundedSender<ReadBatch>,
    ) -> Result<FinishedLoad, UnfinishedLoad> {
        let in_progress = InProgress::begin();
        let loaded = self.run_with_lease(run, scope, batches).await;
        drop(in_progress);
        metrics::ended(match &loaded {
            Ok(_) => LoadOutcome::Loaded,
            Err(UnfinishedLoad { is_sealed: true, .. }) => LoadOutcome::EndedEarly,
            Err(UnfinishedLoad { error: LoadError::TakenOver { .. }, .. }) => LoadOutcome::TakenOver,
            Err(UnfinishedLoad { is_sealed: false, .. }) => LoadOutcome::Unfinished,
        });
        if let Err(UnfinishedLoad { is_sealed: false, .. }) = &loaded {
            self.release_lease().await;
        }
        loaded
    }

    async fn run_with_lease(
        &self,
        run: &Run,
        scope: PassScope,
        batches: mpsc::UnboundedSender<ReadBatch>,
    ) -> Result<FinishedLoad, UnfinishedLoad> {
        let order = run.stop.as_ref().filter(|_| run.sealed.is_none());
        let scope = match (order, run.sealed) {
            (Some(_), _) => self.scope_before_stop(run, scope).await?,
            (None, Some(sealed)) => PassScope { until: Some(sealed.chunks_total), ..scope },
            (None, None) => scope,
        };
        let PassReport { end, confirmed, chunks, rows, stats } =
            Box::pin(self.pass(run, scope, batches.clone())).await?;
        match (end, order) {
            // The previous loader died before it sealed the run.
            (PassEnd::Whole(at, _), Some(order)) => Err(self.seal_stopped(run, at, order, &batches).await),
            (PassEnd::Whole(at, trailer), None) => {
                // A sealed run was checked when it was sealed.
                if run.sealed.is_none()
                    && let Some(error) = failure(&run.settings, at, &trailer, &stats)
                {
                    return Err(self.seal_failed(run, at, error).await);
                }
                match self.seal(run, at, None).await? {
                    SealOutcome::Done => {
                        let warnings = LoadWarnings::of(&stats, run.settings.time_zone);
                        Ok(FinishedLoad { sealed: SealedTotals::at(at), chunks, rows, warnings })
                    }
                    SealOutcome::Elsewhere { reason } | SealOutcome::RecordedBeyond { reason } => {
                        Err(LoadError::NotSealed(reason).into())
                    }
                }
            }
            (PassEnd::Broken(cause, at), _) => {
                Err(self.seal_failed(run, confirmed, source_broken(run, at, cause)).await)
            }
            (PassEnd::TooLarge { chunk, bytes }, _) => {
                Err(self.abort_too_large(run, confirmed, LoadError::ChunkTooLarge { chunk, bytes }, &batches).await)
            }
            (PassEnd::BudgetSpent(reason), _) => Err(self.abort(run, confirmed, reason, &batches).await),
            (PassEnd::StopOrdered(order), _) => Err(self.seal_stopped(run, confirmed, &order, &batches).await),
            (PassEnd::Interrupted, _) => Err(self.stopped(run, confirmed.rows_before()).into()),
        }
    }

    /// The scope for a stopped run whose loader died before it sealed the run: chunks missing before the last recorded one,
    /// as a run cannot be sealed before that.
    pub(crate) async fn scope_before_stop(&self, run: &Run, scope: PassScope) -> Result<PassScope, LoadError> {
        let store = &*self.dependencies.store;
        let recorded = retry_store("the run", || end_of_recorded_chunks(store, &run.run_id, run.checkpoint.chunk));
        let Some(recorded) = self.shutdown.run_until_cancelled(recorded).await else {
            return Err(self.stopped(run, run.checkpoint.rows_before()));
        };
        Ok(PassScope { until: Some(recorded?), only_missing: true, ..scope })
    }

    pub(crate) async fn pass(
        &self,
        run: &Run,
        scope: PassScope,
        batches: mpsc::UnboundedSender<ReadBatch>,
    ) -> Result<PassReport, LoadError> {
        let Dependencies { store, broker, drain, .. } = self.dependencies;
        let report = |end, published: PublishReport| {
            let PublishReport { confirmed, chunks, rows, .. } = published;
            Ok(PassReport { end, confirmed, chunks, rows, stats: RowStats::default() })
        };
        let nothing = PublishReport::nothing(scope.from);
        // S3 may be unreachable for as long as SOURCE_TIMEOUT.
        let starting = Box::pin(self.start_reading(run, scope));
        let (reader, chunks) = match self.shutdown.run_until_cancelled(starting).await {
            Some(Ok(started)) => started,
            Some(Err(error)) if error.is_final() => return report(PassEnd::Broken(error, scope.from.at), nothing),
            Some(Err(error)) => return Err(error.into()),
            None => return report(PassEnd::Interrupted, nothing),
        };
        let recorded = if scope.only_missing {
            RecordedChunks::of(&**store, &run.run_id)
        } else {
            RecordedChunks::nothing(&**store, &run.run_id)
        };
        let (no_more, give_up, ordered) = (self.shutdown.child_token(), CancellationToken::new(), OnceLock::new());
        let publishing = ChunkPublisher {
            broker: &**broker,
            store: &**store,
            durable: broker.survives_restart() && run.settings.durable_broker,
            lease: self.lease.as_ref(),
            progress: self.progress,
            batches,
            no_more: &no_more,
            give_up: &give_up,
        };
        let published = tokio::select! {
            published = publishing.publish(scope.from, chunks, recorded, StoredRowMarker::of(&**store, run)) => published?,
            never = give_up_after(*drain, &no_more, &give_up) => match never {},
            by = self.keep_lease(run, &ordered, &no_more) => {
                return Err(LoadError::TakenOver { run_id: run.run_id.clone(), by });
            }
        };
        if let Some(order) = ordered.into_inner() {
            // It may hang on a slow source: do not wait.
            reader.abort();
            return report(PassEnd::StopOrdered(order), published);
        }
        if let Some((chunk, bytes)) = published.too_large {
            return report(PassEnd::TooLarge { chunk, bytes }, published);
        }
        if !published.is_complete {
            return report(PassEnd::Interrupted, published);
        }
        let (end, stats) = reader.await.map_err(|_| LoadError::Reader)??;
        let end = match end {
            ReadEnd::Complete(at, trailer) => PassEnd::Whole(at, trailer),
            ReadEnd::Broken(error, at) => PassEnd::Broken(error, at),
            ReadEnd::BudgetSpent(reason) => PassEnd::BudgetSpent(reason),
            ReadEnd::Abandoned => PassEnd::Interrupted,
        };
        Ok(PassReport { stats, ..report(end, published)? })
    }

    pub(crate) async fn start_reading(
        &self,
        run: &Run,
        scope: PassScope,
    ) -> Result<(ReaderTask, mpsc::Receiver<ReaderMessage>), SourceError> {
        let found = FoundSource { identity: run.source.clone(), size: run.source_bytes.unwrap_or_default() };
        // Ids that count equal rows need all the rows before, too.
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

/// Gives up what is in flight, `drain` after `no_more`. Never returns.
async fn give_up_after(drain: Duration, no_more: &CancellationToken, give_up: &CancellationToken) -> Infallible {
    no_more.cancelled().await;
    tokio::time::sleep(drain).await;
    give_up.cancel();
    std::future::pending().await
}

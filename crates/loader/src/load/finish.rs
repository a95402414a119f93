//! What becomes of a run when a pass over its source ends: the one place that seals runs and says how a load ended.

use assay_source::SourceError;
use assay_store::{Sealing, Stopping};
use assay_transaction::{Checkpoint, Position, Run, RunSettings, Sealed, StopKind, StopOrder, escaped};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::load::judge::RowStats;
use crate::load::read::ReadBatch;
use crate::load::remarks::Remarks;
use crate::load::{Load, PassEnd, PassReport, PassScope};
use crate::metrics::{self, InProgress, LoadOutcome};
use crate::patience::until_answered;
use crate::totals::{TrailerFound, differences};
use crate::{Dependencies, LoadError};

/// What a load did that came to its end.
#[derive(Debug, Clone)]
pub(crate) struct FinishedLoad {
    /// Where the run ends.
    pub(crate) sealed: Sealed,
    /// Chunks that were published.
    pub(crate) chunks: u64,
    /// Their rows.
    pub(crate) rows: u64,
    /// What a person should be told of them.
    pub(crate) remarks: Remarks,
}

/// Why a load did not.
#[derive(Debug)]
pub(crate) struct UnfinishedLoad {
    pub(crate) error: LoadError,
    /// Whether the run is sealed all the same, so that it ends once what was published is stored.
    pub(crate) is_sealed: bool,
}

impl From<LoadError> for UnfinishedLoad {
    fn from(error: LoadError) -> Self {
        Self { error, is_sealed: false }
    }
}

impl Load<'_> {
    /// Reads, publishes and seals. Whatever comes of it, the lease is over afterwards.
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
            Err(UnfinishedLoad { is_sealed: false, .. }) => LoadOutcome::Unfinished,
        });
        if let Err(UnfinishedLoad { is_sealed: false, .. }) = &loaded {
            self.release().await;
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
            // The loader before is gone, and left the seal to whoever comes next.
            (PassEnd::Whole(at, _), Some(order)) => Err(self.seal_stopped(run, at, order, &batches).await),
            (PassEnd::Whole(at, trailer), None) => {
                // A run that is sealed already was judged then.
                if run.sealed.is_none()
                    && let Some(error) = wrong(&run.settings, at, &trailer, &stats)
                {
                    return Err(self.seal_failed(run, at, error).await);
                }
                match self.seal(run, at, None).await? {
                    Sealing::Done => {
                        let remarks = Remarks::of(&stats, run.settings.time_zone);
                        Ok(FinishedLoad { sealed: Sealed::at(at), chunks, rows, remarks })
                    }
                    Sealing::Elsewhere { reason } | Sealing::RecordedBeyond { reason } => {
                        Err(LoadError::NotSealed(reason).into())
                    }
                }
            }
            (PassEnd::Broken(cause, at), _) => Err(self.seal_failed(run, confirmed, broken_off(run, at, cause)).await),
            (PassEnd::TooLarge { chunk, bytes }, _) => {
                Err(self.abort_too_large(run, confirmed, LoadError::ChunkTooLarge { chunk, bytes }, &batches).await)
            }
            (PassEnd::BudgetSpent(reason), _) => Err(self.abort(run, confirmed, reason, &batches).await),
            (PassEnd::StopOrdered(order), _) => Err(self.seal_stopped(run, confirmed, &order, &batches).await),
            (PassEnd::Interrupted, _) => Err(self.stopped(run, confirmed.rows_before()).into()),
        }
    }

    /// Seals a run whose source cannot be read to its end. One that was sealed before, and is only being repaired, stays as it
    /// is.
    async fn seal_failed(&self, run: &Run, at: Checkpoint, error: LoadError) -> UnfinishedLoad {
        if run.sealed.is_some() {
            return error.into();
        }
        match self.seal(run, at, Some(&error.to_string())).await {
            Ok(Sealing::Done | Sealing::Elsewhere { .. }) => UnfinishedLoad { error, is_sealed: true },
            Ok(Sealing::RecordedBeyond { reason }) => {
                warn!("{reason}");
                error.into()
            }
            Err(error) => error.into(),
        }
    }

    /// Ends a run before the chunk that the broker does not take. By an order, as later chunks may be on the broker already: what
    /// lies beyond an ordered end is dropped, and refused beyond any other.
    async fn abort_too_large(
        &self,
        run: &Run,
        at: Checkpoint,
        error: LoadError,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> UnfinishedLoad {
        if run.sealed.is_some() {
            return error.into();
        }
        match self.abort(run, at, error.to_string(), batches).await {
            UnfinishedLoad { error: LoadError::Ended { .. }, is_sealed } => UnfinishedLoad { error, is_sealed },
            unfinished => unfinished,
        }
    }

    /// Ends a run whose budget is spent, or as somebody ordered a moment before.
    async fn abort(
        &self,
        run: &Run,
        at: Checkpoint,
        reason: String,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> UnfinishedLoad {
        let Dependencies { store, act, .. } = self.dependencies;
        let ordering = until_answered("the order to end the run", || {
            store.order_stop(&run.run_id, StopKind::Aborted, &reason, act)
        });
        let Some(ordered) = self.shutdown.run_until_cancelled(ordering).await else {
            return self.stopped(run, at.rows_before()).into();
        };
        match ordered {
            Ok(Stopping::Ordered(ordered) | Stopping::Before(ordered) | Stopping::Finished(ordered)) => {
                match &ordered.stop {
                    Some(order) => self.seal_stopped(run, at, order, batches).await,
                    // It was closed elsewhere.
                    None => self.stopped(run, at.rows_before()).into(),
                }
            }
            Err(error) => LoadError::from(error).into(),
        }
    }

    /// Seals a run that was ended early. Where a loader before had come further than this one, the run cannot end here: then
    /// what may be missing up to there is published first.
    async fn seal_stopped(
        &self,
        run: &Run,
        mut at: Checkpoint,
        order: &StopOrder,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> UnfinishedLoad {
        let ended = LoadError::Ended { run_id: run.run_id.clone(), kind: order.kind, reason: order.reason.clone() };
        loop {
            let reason = match self.seal(run, at, Some(&order.reason)).await {
                // Elsewhere, as this loader was taken to be gone.
                Ok(Sealing::Done | Sealing::Elsewhere { .. }) => {
                    return UnfinishedLoad { error: ended, is_sealed: true };
                }
                Ok(Sealing::RecordedBeyond { reason }) => reason,
                Err(error) => return error.into(),
            };
            debug!("{reason}: what is missing before it is published first");
            at = match self.fill(run, at, order, batches).await {
                Ok(next) if next.chunk > at.chunk => next,
                Ok(_) => return LoadError::NotSealed(reason).into(),
                Err(error) => return error.into(),
            };
        }
    }

    /// Publishes what is missing between a place and the last chunk that is recorded; tells the place behind that.
    async fn fill(
        &self,
        run: &Run,
        from: Checkpoint,
        order: &StopOrder,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> Result<Checkpoint, LoadError> {
        let run = Run { checkpoint: from, stop: Some(order.clone()), ..run.clone() };
        let scope = self.scope_before_stop(&run, PassScope { from, until: None, only_missing: true }).await?;
        let PassReport { end, confirmed, .. } = Box::pin(self.pass(&run, scope, batches.clone())).await?;
        match end {
            PassEnd::Whole(at, _) => Ok(at),
            PassEnd::Broken(cause, at) => Err(broken_off(&run, at, cause)),
            PassEnd::TooLarge { chunk, bytes } => Err(LoadError::ChunkTooLarge { chunk, bytes }),
            PassEnd::BudgetSpent(_) | PassEnd::StopOrdered(_) | PassEnd::Interrupted => {
                Err(self.stopped(&run, confirmed.rows_before()))
            }
        }
    }

    /// Seals the run, unless it was sealed before, and closes it in case the last chunk was faster. Waits while the database is
    /// away. Another loader that has taken the run over seals it itself.
    async fn seal(&self, run: &Run, at: Checkpoint, error: Option<&str>) -> Result<Sealing, LoadError> {
        let store = &self.dependencies.store;
        let error = error.map(escaped);
        let error = error.as_deref();
        let sealing = until_answered("the seal of the run", || async {
            let sealing = match &self.lease {
                Some(lease) => store.seal(lease, Sealed::at(at), error).await?,
                None => Sealing::Done,
            };
            if sealing == Sealing::Done {
                store.close_run(&run.run_id).await?;
            }
            Ok(sealing)
        });
        match self.shutdown.run_until_cancelled(sealing).await {
            Some(Err(error)) if error.is_lease_lost() => {
                Err(LoadError::TakenOver { run_id: run.run_id.clone(), by: None })
            }
            Some(sealing) => Ok(sealing?),
            None => Err(self.stopped(run, at.rows_before())),
        }
    }
}

/// Why the run of a source that was read to its end has failed all the same; none where it has not. One without rows has not.
fn wrong(settings: &RunSettings, at: Checkpoint, trailer: &TrailerFound, stats: &RowStats) -> Option<LoadError> {
    let rows = at.rows_before();
    if rows > 0 && at.counted.invalid == rows {
        return Some(LoadError::NothingValid { rows, most: stats.rejections.most_frequent(stats.rows).map(Box::new) });
    }
    differences(settings, at, trailer).map(LoadError::ControlTotals)
}

fn broken_off(run: &Run, at: Position, cause: SourceError) -> LoadError {
    LoadError::BrokenOff { location: run.source.location.clone(), row: at.row, line: at.line, cause: Box::new(cause) }
}

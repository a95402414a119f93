//! The end of a load: the run is sealed, failed, aborted or stopped. The only place that seals runs.

use assay_source::SourceError;
use assay_store::{SealOutcome, StopOutcome};
use assay_transaction::{Checkpoint, Position, Run, RunSettings, SealedTotals, StopKind, StopOrder, escaped};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::load::judge::RowStats;
use crate::load::read::ReadBatch;
use crate::load::{Load, PassEnd, PassReport, PassScope};
use crate::retry::retry_store;
use crate::totals::{TrailerFound, differences};
use crate::{Dependencies, LoadError, LoadWarnings};

#[derive(Debug, Clone)]
pub(crate) struct FinishedLoad {
    pub(crate) sealed: SealedTotals,
    pub(crate) chunks: u64,
    pub(crate) rows: u64,
    pub(crate) warnings: LoadWarnings,
}

#[derive(Debug)]
pub(crate) struct UnfinishedLoad {
    pub(crate) error: LoadError,
    /// Whether the run is sealed nevertheless, so that it is finished once everything published is stored.
    pub(crate) is_sealed: bool,
}

impl From<LoadError> for UnfinishedLoad {
    fn from(error: LoadError) -> Self {
        Self { error, is_sealed: false }
    }
}

impl Load<'_> {
    /// Seals a run as failed. A run that was sealed before, and is only being repaired, stays as it is.
    pub(super) async fn seal_failed(&self, run: &Run, at: Checkpoint, error: LoadError) -> UnfinishedLoad {
        if run.sealed.is_some() {
            return error.into();
        }
        match self.seal(run, at, Some(&error.to_string())).await {
            Ok(SealOutcome::Done | SealOutcome::Elsewhere { .. }) => UnfinishedLoad { error, is_sealed: true },
            Ok(SealOutcome::RecordedBeyond { reason }) => {
                warn!("{reason}");
                error.into()
            }
            Err(error) => error.into(),
        }
    }

    /// Ends a run before the chunk that is too large for the broker. By a stop order, as later chunks may be on the broker
    /// already: chunks beyond an ordered end are dropped, beyond any other end they are refused.
    pub(super) async fn abort_too_large(
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
            UnfinishedLoad { error: LoadError::EndedEarly { .. }, is_sealed } => UnfinishedLoad { error, is_sealed },
            unfinished => unfinished,
        }
    }

    /// Aborts a run, unless it was ordered to stop a moment before.
    pub(super) async fn abort(
        &self,
        run: &Run,
        at: Checkpoint,
        reason: String,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> UnfinishedLoad {
        let Dependencies { store, audit, .. } = self.dependencies;
        let aborting = retry_store("the order to stop the run", || {
            store.order_stop(&run.run_id, StopKind::Aborted, &reason, audit)
        });
        let Some(ordered) = self.shutdown.run_until_cancelled(aborting).await else {
            return self.stopped(run, at.rows_before()).into();
        };
        match ordered {
            Ok(
                StopOutcome::Ordered(ordered) | StopOutcome::AlreadyOrdered(ordered) | StopOutcome::Finished(ordered),
            ) => {
                match &ordered.stop {
                    Some(order) => self.seal_stopped(run, at, order, batches).await,
                    // Another process closed it.
                    None => self.stopped(run, at.rows_before()).into(),
                }
            }
            Err(error) => LoadError::from(error).into(),
        }
    }

    /// Seals a stopped run. If an earlier loader had come further than this one, publishes what is missing up to there first.
    pub(super) async fn seal_stopped(
        &self,
        run: &Run,
        mut at: Checkpoint,
        order: &StopOrder,
        batches: &mpsc::UnboundedSender<ReadBatch>,
    ) -> UnfinishedLoad {
        let ended =
            LoadError::EndedEarly { run_id: run.run_id.clone(), kind: order.kind, reason: order.reason.clone() };
        loop {
            let reason = match self.seal(run, at, Some(&order.reason)).await {
                // Another process took this loader for dead.
                Ok(SealOutcome::Done | SealOutcome::Elsewhere { .. }) => {
                    return UnfinishedLoad { error: ended, is_sealed: true };
                }
                Ok(SealOutcome::RecordedBeyond { reason }) => reason,
                Err(error) => return error.into(),
            };
            debug!("{reason}: missing chunks before it are published first");
            at = match self.fill(run, at, order, batches).await {
                Ok(next) if next.chunk > at.chunk => next,
                Ok(_) => return LoadError::NotSealed(reason).into(),
                Err(error) => return error.into(),
            };
        }
    }

    /// Publishes what is missing between a checkpoint and the last recorded chunk. Returns the checkpoint after that.
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
            PassEnd::Broken(cause, at) => Err(source_broken(&run, at, cause)),
            PassEnd::TooLarge { chunk, bytes } => Err(LoadError::ChunkTooLarge { chunk, bytes }),
            PassEnd::BudgetSpent(_) | PassEnd::StopOrdered(_) | PassEnd::Interrupted => {
                Err(self.stopped(&run, confirmed.rows_before()))
            }
        }
    }

    /// Seals the run, unless it is sealed, and closes it if its last chunk is stored already. Waits for an unreachable database.
    /// A loader that has taken over the run seals it itself.
    pub(super) async fn seal(&self, run: &Run, at: Checkpoint, error: Option<&str>) -> Result<SealOutcome, LoadError> {
        let store = &self.dependencies.store;
        let error = error.map(escaped);
        let error = error.as_deref();
        let sealing = retry_store("the seal of the run", || async {
            let sealing = match &self.lease {
                Some(lease) => store.seal(lease, SealedTotals::at(at), error).await?,
                None => SealOutcome::Done,
            };
            if sealing == SealOutcome::Done {
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

/// Why the run of a completely read source has failed, if it has. A source without rows has not.
pub(crate) fn failure(
    settings: &RunSettings,
    at: Checkpoint,
    trailer: &TrailerFound,
    stats: &RowStats,
) -> Option<LoadError> {
    let rows = at.rows_before();
    if rows > 0 && at.counted.invalid == rows {
        return Some(LoadError::NothingValid { rows, most: stats.rejections.most_frequent(stats.rows).map(Box::new) });
    }
    differences(settings, at, trailer).map(LoadError::ControlTotals)
}

pub(crate) fn source_broken(run: &Run, at: Position, cause: SourceError) -> LoadError {
    LoadError::SourceBroken {
        location: run.source.location.clone(),
        row: at.row,
        line: at.line,
        cause: Box::new(cause),
    }
}

pub(crate) fn log_sealed(run: &Run, sealed: SealedTotals) {
    let SealedTotals { rows_read, chunks_total, .. } = sealed;
    info!(
        "Published {rows_read} rows in {chunks_total} chunks; predictors and writers continue with run {}",
        run.run_id
    );
}

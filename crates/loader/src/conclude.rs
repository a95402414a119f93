//! What becomes of a run when a pass over its source ends: the one place that seals runs and says how a load ended.

use assay_store::{ErrorClass, Stopping};
use assay_transaction::{Checkpoint, Run, Sealed, StopKind, StopOrder};
use tokio::sync::mpsc;

use crate::load::{Load, Part, PassEnd, Passed};
use crate::metrics::{self, InProgress, Outcome};
use crate::patience::until_answered;
use crate::reading::Batch;
use crate::totals::differences;
use crate::{Dependencies, LoadError};

/// What a load did that came to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    /// Where the run ends.
    pub(crate) sealed: Sealed,
    /// Chunks that were published.
    pub(crate) chunks: u64,
    /// Their rows.
    pub(crate) rows: u64,
}

/// Why a load did not.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) error: LoadError,
    /// Whether the run is sealed all the same, so that it ends once what was published is stored.
    pub(crate) is_sealed: bool,
}

impl From<LoadError> for Unfinished {
    fn from(error: LoadError) -> Self {
        Self { error, is_sealed: false }
    }
}

impl Load<'_> {
    /// Reads, publishes and seals. Whatever comes of it, the lease is over afterwards.
    pub(crate) async fn load(
        &self,
        run: &Run,
        part: Part,
        batches: mpsc::UnboundedSender<Batch>,
    ) -> Result<Loaded, Unfinished> {
        let in_progress = InProgress::begin();
        let loaded = self.load_held(run, part, batches).await;
        drop(in_progress);
        metrics::ended(match &loaded {
            Ok(_) => Outcome::Loaded,
            Err(Unfinished { is_sealed: true, .. }) => Outcome::EndedEarly,
            Err(Unfinished { is_sealed: false, .. }) => Outcome::Unfinished,
        });
        if let Err(Unfinished { is_sealed: false, .. }) = &loaded {
            self.release().await;
        }
        loaded
    }

    async fn load_held(
        &self,
        run: &Run,
        part: Part,
        batches: mpsc::UnboundedSender<Batch>,
    ) -> Result<Loaded, Unfinished> {
        let order = run.stop.as_ref().filter(|_| run.sealed.is_none());
        let part = match (order, run.sealed) {
            (Some(_), _) => self.part_before_stop(run, part).await?,
            (None, Some(sealed)) => Part { until: Some(sealed.chunks_total), ..part },
            (None, None) => part,
        };
        let Passed { end, confirmed, chunks, rows } = Box::pin(self.pass(run, part, batches)).await?;
        match (end, order) {
            // The loader before is gone, and left the seal to whoever comes next.
            (PassEnd::Whole(at, _), Some(order)) => Err(self.seal_stopped(run, at, order).await),
            (PassEnd::Whole(at, trailer), None) => {
                // A run that is sealed already was judged then.
                let judged = if run.sealed.is_none() { differences(&run.settings, at, &trailer) } else { None };
                if let Some(why) = judged {
                    return Err(self.seal_failed(run, at, LoadError::ControlTotals(why)).await);
                }
                self.seal(run, at, None).await?;
                Ok(Loaded { sealed: Sealed::at(at), chunks, rows })
            }
            (PassEnd::Broken(cause, at), _) => {
                let (row, line) = (at.row, at.line);
                let error = LoadError::BrokenOff { location: run.source.location.clone(), row, line, cause };
                Err(self.seal_failed(run, confirmed, error).await)
            }
            (PassEnd::TooLarge { chunk, bytes }, _) => {
                Err(self.seal_failed(run, confirmed, LoadError::ChunkTooLarge { chunk, bytes }).await)
            }
            (PassEnd::Spent(reason), _) => Err(self.abort(run, confirmed, reason).await),
            (PassEnd::Ordered(order), _) => Err(self.seal_stopped(run, confirmed, &order).await),
            (PassEnd::Interrupted, _) => Err(self.stopped(run, confirmed.rows_before()).into()),
        }
    }

    /// Seals a run whose source cannot be read to its end. One that was sealed before, and is only being repaired, stays as it
    /// is.
    async fn seal_failed(&self, run: &Run, at: Checkpoint, error: LoadError) -> Unfinished {
        if run.sealed.is_some() {
            return error.into();
        }
        match self.seal(run, at, Some(&error.to_string())).await {
            Ok(()) => Unfinished { error, is_sealed: true },
            Err(error) => error.into(),
        }
    }

    /// Ends a run whose budget is spent, or as somebody ordered a moment before.
    async fn abort(&self, run: &Run, at: Checkpoint, reason: String) -> Unfinished {
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
                    Some(order) => self.seal_stopped(run, at, order).await,
                    // It was closed elsewhere.
                    None => self.stopped(run, at.rows_before()).into(),
                }
            }
            Err(error) => LoadError::from(error).into(),
        }
    }

    /// Seals a run that was ended early.
    async fn seal_stopped(&self, run: &Run, at: Checkpoint, order: &StopOrder) -> Unfinished {
        let ended = LoadError::Ended { run_id: run.run_id.clone(), kind: order.kind, reason: order.reason.clone() };
        match self.seal(run, at, Some(&order.reason)).await {
            Ok(()) => Unfinished { error: ended, is_sealed: true },
            // It was sealed elsewhere, as this loader was taken to be gone.
            Err(LoadError::Store(error)) if error.class() == ErrorClass::Data => {
                Unfinished { error: ended, is_sealed: true }
            }
            Err(error) => error.into(),
        }
    }

    /// Seals the run, unless it was sealed before, and closes it in case the last chunk was faster. Waits while the database is
    /// away. Another loader that has taken the run over seals it itself.
    async fn seal(&self, run: &Run, at: Checkpoint, error: Option<&str>) -> Result<(), LoadError> {
        let store = &self.dependencies.store;
        let sealing = until_answered("the seal of the run", || async {
            if let Some(lease) = &self.lease {
                store.seal(lease, Sealed::at(at), error).await?;
            }
            store.close_run(&run.run_id).await
        });
        match self.shutdown.run_until_cancelled(sealing).await {
            Some(Err(error)) if error.is_lease_lost() => {
                Err(LoadError::TakenOver { run_id: run.run_id.clone(), by: None })
            }
            Some(sealed) => Ok(sealed.map(drop)?),
            None => Err(self.stopped(run, at.rows_before())),
        }
    }
}

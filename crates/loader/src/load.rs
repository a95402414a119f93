//! One pass over a source: read, published and sealed; the whole of it, the rest of it, or what is missing of it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use assay_source::{RowReader, SourceUrl};
use assay_store::Lease;
use assay_transaction::{Checkpoint, Run, Sealed, StopKind, StopOrder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::ordering::hold;
use crate::publishing::Publishing;
use crate::reading::{Batch, End, Reading, read};
use crate::recorded::Recorded;
use crate::{Dependencies, LoadError, LoadProgress};

/// Chunks that wait between the reader and the publisher.
pub(crate) const READ_AHEAD: usize = 32;
/// Between two attempts to seal a run while the database is away.
const SEAL_PAUSE: Duration = Duration::from_secs(1);

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

/// What a load takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Where it begins.
    pub(crate) from: Checkpoint,
    /// Whether chunks that are recorded are passed over.
    pub(crate) only_missing: bool,
}

/// What a load did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    /// What the run is sealed with.
    pub(crate) sealed: Sealed,
    /// Chunks that were published.
    pub(crate) chunks: u64,
    /// Their rows.
    pub(crate) rows: u64,
}

impl Load<'_> {
    /// Reads, publishes and seals. Whatever comes of it, the lease is over afterwards.
    pub(crate) async fn load(
        &self,
        run: &Run,
        part: Part,
        batches: mpsc::UnboundedSender<Batch>,
    ) -> Result<Loaded, LoadError> {
        let loaded = self.load_held(run, part, batches).await;
        if loaded.is_err() {
            self.release(run).await;
        }
        loaded
    }

    /// Lets others take the run, at once. A lease that is not released runs out.
    async fn release(&self, run: &Run) {
        if let Some(lease) = &self.lease
            && let Err(error) = self.dependencies.store.release_lease(lease).await
        {
            debug!("the lease of run {} has to run out: {error}", run.run_id);
        }
    }

    async fn load_held(
        &self,
        run: &Run,
        part: Part,
        batches: mpsc::UnboundedSender<Batch>,
    ) -> Result<Loaded, LoadError> {
        let Dependencies { store, broker, drain, .. } = self.dependencies;
        if let Some(order) = run.stop.as_ref().filter(|_| run.sealed.is_none()) {
            // The loader before is gone, and left the seal to whoever comes next.
            self.release(run).await;
            store.seal_stopped(&run.run_id).await?;
            return Err(ended(run, order));
        }
        let (reading, chunks) = self.start_reading(run, part.from).await?;
        let recorded = if part.only_missing {
            Recorded::of(&**store, &run.run_id)
        } else {
            Recorded::nothing(&**store, &run.run_id)
        };
        let (intake, stop, ordered) = (self.shutdown.child_token(), CancellationToken::new(), OnceLock::new());
        let publishing = Publishing {
            broker: &**broker,
            store: &**store,
            durable: broker.survives_restart() && run.settings.durable_broker,
            lease: self.lease.as_ref(),
            progress: self.progress,
            batches,
            shutdown: &intake,
            stop: &stop,
        };
        let published = tokio::select! {
            published = publishing.publish(part.from, chunks, recorded) => published?,
            never = stop_after_drain(&intake, *drain, &stop) => match never {},
            by = self.hold(&ordered, &intake) => return Err(LoadError::TakenOver { run_id: run.run_id.clone(), by }),
        };
        let confirmed = Sealed { rows_read: published.until.rows_before(), chunks_total: published.until.chunk };
        let loaded = |sealed| Loaded { sealed, chunks: published.chunks, rows: published.rows };
        if let Some(order) = ordered.get() {
            // Not to be waited for: it may hang on a slow source.
            reading.abort();
            return Err(self.seal_stopped(run, confirmed, order).await);
        }
        if !published.all {
            reading.abort();
            return Err(self.stopped(run, confirmed.rows_read));
        }
        match reading.await.map_err(|error| LoadError::Reader(error.to_string()))? {
            Ok(End::Source(sealed)) => {
                self.seal(run, sealed, None).await?;
                Ok(loaded(sealed))
            }
            Ok(End::Unheard) => Err(self.stopped(run, confirmed.rows_read)),
            Ok(End::Spent(reason)) => {
                let act = &self.dependencies.act;
                store.order_stop(&run.run_id, StopKind::Aborted, &reason, act).await?;
                let order = StopOrder { kind: StopKind::Aborted, reason, at: run.started_at };
                Err(self.seal_stopped(run, confirmed, &order).await)
            }
            Err(error) => {
                if error.is_final() {
                    self.seal(run, confirmed, Some(&error.to_string())).await?;
                }
                Err(error)
            }
        }
    }

    /// Keeps the lease, where there is one; returns if it is lost.
    async fn hold(&self, ordered: &OnceLock<StopOrder>, intake: &CancellationToken) -> Option<String> {
        let Dependencies { store, lease: time, .. } = self.dependencies;
        match &self.lease {
            Some(lease) => hold(&**store, lease, *time, ordered, intake).await,
            None => std::future::pending().await,
        }
    }

    /// Starts to read the source. A run that is sealed is read as far as that.
    pub(crate) async fn start_reading(
        &self,
        run: &Run,
        from: Checkpoint,
    ) -> Result<(Reading, mpsc::Receiver<crate::reading::Read>), LoadError> {
        let stream = self.dependencies.sources.open(self.url, &run.source, from.offset).await?;
        let reader = RowReader::new(stream, run.settings.dialect, from);
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        let (run, progress, rows) = (run.clone(), Arc::clone(self.progress), self.batch_rows);
        let read = async move { read(reader, &run, from, rows, &progress, sender).await };
        Ok((AbortOnDropHandle::new(tokio::spawn(read)), chunks))
    }

    pub(crate) fn stopped(&self, run: &Run, rows: u64) -> LoadError {
        LoadError::Stopped { run_id: run.run_id.clone(), rows, again: self.again.clone() }
    }

    /// Seals a run that was ended early; tells how the load ends.
    async fn seal_stopped(&self, run: &Run, sealed: Sealed, order: &StopOrder) -> LoadError {
        match self.seal(run, sealed, Some(&order.reason)).await {
            // It was sealed elsewhere, as this loader was taken to be gone.
            Ok(()) | Err(LoadError::Store(_)) => ended(run, order),
            Err(error) => error,
        }
    }

    /// Seals the run, and closes it in case the last chunk was faster. Waits while the database is away.
    async fn seal(&self, run: &Run, sealed: Sealed, error: Option<&str>) -> Result<(), LoadError> {
        let store = &self.dependencies.store;
        loop {
            let done = async {
                if let Some(lease) = &self.lease {
                    store.seal(lease, sealed, error).await?;
                }
                store.close_run(&run.run_id).await
            };
            match done.await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_lease_lost() => {
                    return Err(LoadError::TakenOver { run_id: run.run_id.clone(), by: None });
                }
                Err(error) if error.is_transient() => warn!("the run is not sealed yet: {error}"),
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = tokio::time::sleep(SEAL_PAUSE) => {}
                () = self.shutdown.cancelled() => return Err(self.stopped(run, sealed.rows_read)),
            }
        }
    }
}

fn ended(run: &Run, order: &StopOrder) -> LoadError {
    LoadError::Ended { run_id: run.run_id.clone(), kind: order.kind, reason: order.reason.clone() }
}

/// Stops what is still in flight some time after the intake ended; runs beside it and never returns.
async fn stop_after_drain(intake: &CancellationToken, drain: Duration, stop: &CancellationToken) -> Infallible {
    intake.cancelled().await;
    tokio::time::sleep(drain).await;
    stop.cancel();
    std::future::pending().await
}

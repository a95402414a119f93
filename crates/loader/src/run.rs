//! A load from beginning to end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::Broker;
use assay_source::{RowReader, SourceUrl, Sources};
use assay_store::Store;
use assay_transaction::{Checkpoint, Exit, Run, RunState, Sealed, Tally};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::begin::{Beginning, begin};
use crate::options::{LoadOptions, WaitOptions};
use crate::publishing::{Publishing, say_published};
use crate::reading::{Batch, read};
use crate::recorded::Recorded;
use crate::waiting::{Following, finished, watch_consumers};
use crate::{LoadError, LoadProgress};

/// Chunks that wait between the reader and the publisher.
const READ_AHEAD: usize = 32;
/// How long chunks in flight may take to be confirmed after a shutdown.
const DRAIN: Duration = Duration::from_secs(10);
/// Between two attempts to seal a run while the database is away.
const SEAL_PAUSE: Duration = Duration::from_secs(1);

/// What a load needs.
pub struct Dependencies {
    /// Where rows come from.
    pub sources: Sources,
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// Where chunks go.
    pub broker: Arc<dyn Broker>,
    /// How long S3 may take to answer at the start.
    pub startup: Duration,
}

/// How a load ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The run, as the ledger knows it.
    pub run: Run,
    /// Whether the source had been loaded before, so that there was nothing to do.
    pub already_loaded: bool,
    /// What became of its rows, where the load waited for that.
    pub tally: Option<Tally>,
}

impl Ended {
    /// What a scheduler is told.
    pub fn exit(&self) -> Exit {
        match self.tally {
            Some(tally) if tally.failed > 0 => Exit::FailedRows,
            Some(_) if self.run.state != RunState::Complete => Exit::FailedRows,
            _ => Exit::Done,
        }
    }
}

/// Loads one source. Returns when all of its chunks are confirmed by the broker or, where it waits, when all are stored.
pub async fn run(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
    wait: &WaitOptions,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Result<Ended, LoadError> {
    info!("Starting batch pipeline");
    let Dependencies { store, broker, .. } = dependencies;
    let beginning = Box::pin(begin(dependencies, url, options));
    let Some(begun) = shutdown.run_until_cancelled(beginning).await else { return Err(LoadError::NotBegun) };
    let (beginning, size) = begun?;
    progress.set_source_bytes(size);
    let watcher = {
        let (broker, downstream) = (Arc::clone(broker), wait.wait);
        tokio::spawn(async move { watch_consumers(&*broker, downstream).await })
    };
    let _watcher = AbortOnDropHandle::new(watcher);
    let (sender, batches) = mpsc::unbounded_channel();
    let load = Load { dependencies, url, options, progress, shutdown };
    let (run, from, already_loaded) = match beginning {
        Beginning::Read(run, from) => (run, from, false),
        Beginning::Nothing(run) => {
            say_already_loaded(&run);
            let from = run.checkpoint;
            (run, from, true)
        }
    };
    if !wait.wait || (already_loaded && run.state.is_finished()) {
        if !already_loaded {
            let (sealed, ()) = tokio::join!(load.load(&run, from, sender), say_published(batches));
            say_sealed(&run, sealed?);
        }
        return Ok(Ended { run, already_loaded, tally: None });
    }
    let mut following = Following::new(&**store, &run.run_id, from, progress, batches);
    if !already_loaded {
        let loaded = tokio::select! {
            loaded = load.load(&run, from, sender) => loaded,
            never = following.follow() => match never {},
        };
        if let Err(error) = loaded {
            if error.is_final() {
                // What was published is stored all the same, and the run is closed.
                finished(&mut following, &**broker, wait.wait_timeout, shutdown).await?;
            }
            return Err(error);
        }
    }
    let (finished, tally) = finished(&mut following, &**broker, wait.wait_timeout, shutdown).await?;
    say_complete(&finished, tally);
    Ok(Ended { run: finished, already_loaded, tally: Some(tally) })
}

/// One load, from a checkpoint to the seal.
struct Load<'a> {
    dependencies: &'a Dependencies,
    url: &'a SourceUrl,
    options: &'a LoadOptions,
    progress: &'a Arc<LoadProgress>,
    shutdown: &'a CancellationToken,
}

impl Load<'_> {
    /// Reads, publishes and seals.
    async fn load(
        &self,
        run: &Run,
        from: Checkpoint,
        batches: mpsc::UnboundedSender<Batch>,
    ) -> Result<Sealed, LoadError> {
        let Dependencies { sources, store, broker, .. } = self.dependencies;
        let stream = sources.open(self.url, &run.source, from.offset).await?;
        let reader = RowReader::new(stream, run.settings.dialect, from);
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        let reading = {
            let (run, progress, rows) = (run.clone(), Arc::clone(self.progress), self.options.row_batch_size.get());
            let read = async move { read(reader, &run, from, rows, &progress, sender).await };
            AbortOnDropHandle::new(tokio::spawn(read))
        };
        let durable = broker.survives_restart() && run.settings.durable_broker;
        let recorded =
            if durable { Recorded::nothing(&**store, &run.run_id) } else { Recorded::of(&**store, &run.run_id) };
        let stop = CancellationToken::new();
        let publishing = Publishing {
            broker: &**broker,
            store: &**store,
            durable,
            run_id: &run.run_id,
            progress: self.progress,
            batches,
            shutdown: self.shutdown,
            stop: &stop,
        };
        let published = tokio::select! {
            published = publishing.publish(from, chunks, recorded) => published?,
            never = stop_after_drain(self.shutdown, &stop) => match never {},
        };
        let confirmed = Sealed { rows_read: published.until.rows_before(), chunks_total: published.until.chunk };
        let stopped = || self.stopped(run, confirmed.rows_read);
        if !published.all {
            // Not to be waited for: it may hang on a slow source.
            reading.abort();
            return Err(stopped());
        }
        match reading.await.map_err(|error| LoadError::Reader(error.to_string()))? {
            Ok(Some(sealed)) => {
                self.seal(run, sealed, None).await?;
                Ok(sealed)
            }
            Ok(None) => Err(stopped()),
            Err(error) => {
                if error.is_final() {
                    self.seal(run, confirmed, Some(&error.to_string())).await?;
                }
                Err(error)
            }
        }
    }

    fn stopped(&self, run: &Run, rows: u64) -> LoadError {
        let again =
            if self.options.force { format!(" with --force and BATCH_RUN_ID={}", run.run_id) } else { String::new() };
        LoadError::Stopped { run_id: run.run_id.clone(), rows, again }
    }

    /// Seals the run, and closes it in case the last chunk was faster. Waits while the database is away.
    async fn seal(&self, run: &Run, sealed: Sealed, error: Option<&str>) -> Result<(), LoadError> {
        let store = &self.dependencies.store;
        loop {
            let done = async {
                store.seal(&run.run_id, sealed, error).await?;
                store.close_run(&run.run_id).await
            };
            match done.await {
                Ok(_) => return Ok(()),
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

/// Stops what is still in flight some time after the shutdown; runs beside it and never returns.
async fn stop_after_drain(shutdown: &CancellationToken, stop: &CancellationToken) -> Infallible {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    stop.cancel();
    std::future::pending().await
}

fn say_already_loaded(run: &Run) {
    let Run { source, run_id, state, .. } = run;
    info!("{} is already loaded by run {run_id} ({state}): nothing to do; --force loads it again", source.location);
}

fn say_sealed(run: &Run, sealed: Sealed) {
    let Sealed { rows_read, chunks_total } = sealed;
    info!("Published {rows_read} rows in {chunks_total} chunks; predictors and writers go on with run {}", run.run_id);
}

fn say_complete(run: &Run, tally: Tally) {
    let Tally { predicted, failed, invalid, duplicate } = tally;
    if duplicate > 0 {
        info!("{duplicate} rows repeat transactions that are stored: they count as duplicates");
    }
    if let Some(error) = &run.error {
        warn!("run {} is {}: {error}", run.run_id, run.state);
    }
    info!("Pipeline complete: {predicted} processed, {failed} failed, {invalid} invalid");
}

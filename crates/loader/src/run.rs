//! A load from beginning to end.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::Broker;
use assay_source::{SourceUrl, Sources};
use assay_store::{Act, Store};
use assay_transaction::{Exit, Run, RunState, Sealed, Tally};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::begin::{Beginning, begin, is_durable};
use crate::conclude::{Loaded, Unfinished};
use crate::copies::{say_copy, stands_still};
use crate::load::Load;
use crate::metrics::{self, Outcome};
use crate::options::{LoadOptions, WaitOptions};
use crate::publishing::say_published;
use crate::waiting::{Following, finished, watch_consumers};
use crate::{Holder, LoadError, LoadProgress, Remarks};

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
    /// How long chunks in flight may take to be confirmed after a shutdown.
    pub drain: Duration,
    /// Under which name this process holds the runs that it loads.
    pub holder: Holder,
    /// How long a run is its own without a sign of life.
    pub lease: Duration,
    /// Who is recorded as the one that forces a load, or aborts a run.
    pub act: Act,
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
    /// The source that was asked for, where the run has loaded another one with the same content, or an earlier version of it.
    pub copy: Option<String>,
    /// What is to be said of the rows that were read just now.
    pub remarks: Remarks,
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
    let again = |run: &Run| {
        if options.force { format!(" with --force and BATCH_RUN_ID={}", run.run_id) } else { String::new() }
    };
    let (run, lease, part) = match beginning {
        Beginning::Read(run, lease, part) => (run, lease, part),
        Beginning::Held { run, by, .. } => return Err(LoadError::Held { run_id: run.run_id, by }),
        Beginning::Nothing(run) => {
            say_already_loaded(&run);
            let again = again(&run);
            let following = Following::new(&**store, &run.run_id, run.checkpoint, progress, batches);
            return loaded_before(following, dependencies, &run, None, wait, &again, shutdown).await;
        }
        Beginning::Copied(run) => {
            say_copy(url, &run);
            let following = Following::new(&**store, &run.run_id, run.checkpoint, progress, batches);
            return loaded_before(following, dependencies, &run, Some(url), wait, "", shutdown).await;
        }
    };
    let (batch_rows, again) = (options.row_batch_size.get(), again(&run));
    let load = Load { dependencies, url, batch_rows, again, lease, progress, shutdown };
    if !wait.wait {
        let (loaded, ()) = tokio::join!(Box::pin(load.load(&run, part, sender)), say_published(batches));
        let Loaded { sealed, remarks, .. } = loaded.map_err(|unfinished| unfinished.error)?;
        say_sealed(&run, sealed);
        remarks.log();
        let run = Run { state: RunState::Sealed, sealed: Some(sealed), ..run };
        return Ok(Ended { run, already_loaded: false, tally: None, copy: None, remarks });
    }
    let mut following = Following::new(&**store, &run.run_id, part.from, progress, batches);
    let loaded = tokio::select! {
        loaded = Box::pin(load.load(&run, part, sender)) => loaded,
        never = following.follow() => match never {},
    };
    let remarks = match loaded {
        Ok(loaded) => loaded.remarks,
        Err(Unfinished { error, is_sealed }) => {
            if is_sealed {
                // What was published is stored all the same, and the run is closed.
                let closing = finished(&mut following, &**broker, wait.wait_timeout, &load.again, shutdown).await;
                if let Err(later) = closing {
                    warn!("{later}");
                }
            }
            return Err(error);
        }
    };
    let (run, tally) = finished(&mut following, &**broker, wait.wait_timeout, &load.again, shutdown).await?;
    say_complete(&run, tally);
    remarks.log();
    Ok(Ended { run, already_loaded: false, tally: Some(tally), copy: None, remarks })
}

/// What there is to tell of a run that has loaded the source before, or a copy of it; where the load is to wait, once that run is
/// complete.
async fn loaded_before(
    mut following: Following<'_>,
    dependencies: &Dependencies,
    run: &Run,
    copy: Option<&SourceUrl>,
    wait: &WaitOptions,
    again: &str,
    shutdown: &CancellationToken,
) -> Result<Ended, LoadError> {
    let Dependencies { store, broker, lease, .. } = dependencies;
    metrics::ended(Outcome::AlreadyLoaded);
    let (copy, remarks) = (copy.map(SourceUrl::to_string), Remarks::default());
    if !wait.wait || run.state.is_finished() {
        return Ok(Ended { run: run.clone(), already_loaded: true, tally: None, copy, remarks });
    }
    // Whoever loads the run again brings what was lost with its process, but a copy of its source cannot.
    let is_lost = copy.is_some() && !is_durable(run, broker.survives_restart());
    let (run, tally) = tokio::select! {
        finished = finished(&mut following, &**broker, wait.wait_timeout, again, shutdown) => finished?,
        error = stands_still(&**store, &run.run_id, *lease), if is_lost => return Err(error),
    };
    say_complete(&run, tally);
    Ok(Ended { run, already_loaded: true, tally: Some(tally), copy, remarks })
}

fn say_already_loaded(run: &Run) {
    let Run { source, run_id, state, .. } = run;
    info!("{} is already loaded by run {run_id} ({state}): nothing to do; --force loads it again", source.location);
}

pub(crate) fn say_sealed(run: &Run, sealed: Sealed) {
    let Sealed { rows_read, chunks_total, .. } = sealed;
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

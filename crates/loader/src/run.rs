//! The load of one source, from its beginning to the wait for its rows.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::Broker;
use assay_source::{SourceUrl, Sources};
use assay_store::{AuditContext, Store};
use assay_telemetry::record_run_id;
use assay_trace::TARGET;
use assay_transaction::{Exit, Run, RunId, RunState, Tally};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, info, trace_span, warn};

use crate::load::Load;
use crate::load::begin::{LoadPlan, begin, is_durable};
use crate::load::copies::{log_copy, until_stalled};
use crate::load::finish::{FinishedLoad, UnfinishedLoad};
use crate::metrics::{self, LoadOutcome};
use crate::options::{LoadOptions, WaitOptions};
use crate::wait::{RunFollower, until_finished, warn_of_missing_consumers};
use crate::{LeaseOwner, LoadError, LoadProgress, LoadWarnings};

/// Dependencies of a load.
pub struct Dependencies {
    /// Sources of rows.
    pub sources: Sources,
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// Destination of the chunks.
    pub broker: Arc<dyn Broker>,
    /// Longest wait for S3 at the start.
    pub startup: Duration,
    /// Longest wait for the confirmation of chunks in flight after a shutdown.
    pub drain: Duration,
    /// Name of this process in the leases of its runs.
    pub lease_owner: LeaseOwner,
    /// Lifetime of a lease that is not renewed.
    pub lease_timeout: Duration,
    /// Recorded with forced loads and aborted runs.
    pub audit: AuditContext,
}

/// Result of a load.
#[derive(Debug, Clone)]
pub struct LoadSummary {
    /// The run, as recorded in the ledger.
    pub run: Run,
    /// Whether the source was loaded before, so that there was nothing to do.
    pub already_loaded: bool,
    /// Outcomes of its rows as its chunks record them, if the load waited for them.
    pub tally: Option<Tally>,
    /// Failed rows of a run that was finished before, if the load was to wait.
    pub failed_before: u64,
    /// `BATCH_RUN_ID`, if it is not used because the source already has a run with another name.
    pub unused_name: Option<RunId>,
    /// The requested source, if the run has loaded another source or version with the same content.
    pub copy: Option<String>,
    /// Warnings about the rows read by this load.
    pub warnings: LoadWarnings,
}

impl LoadSummary {
    /// The exit code. Failed rows of a run that was finished before count, unless they were replayed.
    pub fn exit(&self) -> Exit {
        match self.tally {
            _ if self.failed_before > 0 => Exit::FailedRows,
            Some(tally) if tally.failed > 0 => Exit::FailedRows,
            Some(_) if self.run.state != RunState::Complete => Exit::FailedRows,
            _ => Exit::Done,
        }
    }
}

/// Loads one source. Returns when the broker has confirmed all of its chunks or, with `wait`, when all of them are stored.
pub async fn run(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
    wait: &WaitOptions,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Result<LoadSummary, LoadError> {
    let loading = async {
        let loaded = load_one(dependencies, url, options, wait, progress, shutdown).await;
        if loaded.is_err() {
            assay_trace::fail("not_loaded");
        }
        loaded
    };
    let trace = trace_span!(target: TARGET, "load");
    let run = trace.in_scope(assay_telemetry::run_span);
    Box::pin(loading.instrument(run).instrument(trace)).await
}

async fn load_one(
    dependencies: &Dependencies,
    url: &SourceUrl,
    options: &LoadOptions,
    wait: &WaitOptions,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Result<LoadSummary, LoadError> {
    info!("Starting batch pipeline");
    let Dependencies { store, broker, .. } = dependencies;
    let plan = Box::pin(begin(dependencies, url, options));
    let Some(begun) = shutdown.run_until_cancelled(plan).await else { return Err(LoadError::StoppedBeforeStart) };
    let (plan, size) = begun?;
    progress.set_source_bytes(size);
    let watcher = {
        let (broker, downstream) = (Arc::clone(broker), wait.wait);
        tokio::spawn(async move { warn_of_missing_consumers(&*broker, downstream).await }.in_current_span())
    };
    let _watcher = AbortOnDropHandle::new(watcher);
    let (sender, batches) = mpsc::unbounded_channel();
    let again = |run: &Run| {
        if options.force { format!(" with --force and BATCH_RUN_ID={}", run.run_id) } else { String::new() }
    };
    let unused = |run: &Run| {
        let unused = options.batch_run_id.clone().filter(|name| *name != run.run_id);
        if let Some(name) = &unused {
            warn!("BATCH_RUN_ID={name} is not used: the source has run {}", run.run_id);
        }
        unused
    };
    let (run, lease, scope) = match plan {
        LoadPlan::Read(run, lease, scope) => (run, lease, scope),
        LoadPlan::Held { run, by, .. } => return Err(LoadError::Held { run_id: run.run_id, by }),
        LoadPlan::NothingToDo(run) => {
            record_run_id(&run.run_id);
            log_already_loaded(&run);
            let again = again(&run);
            let follower = RunFollower::new(&**store, &run.run_id, run.checkpoint, progress, batches);
            let ended = wait_for_earlier_run(follower, dependencies, &run, None, wait, &again, shutdown).await?;
            return Ok(LoadSummary { unused_name: unused(&run), ..ended });
        }
        LoadPlan::Copied(run) => {
            record_run_id(&run.run_id);
            log_copy(url, &run);
            let follower = RunFollower::new(&**store, &run.run_id, run.checkpoint, progress, batches);
            let ended = wait_for_earlier_run(follower, dependencies, &run, Some(url), wait, "", shutdown).await?;
            return Ok(LoadSummary { unused_name: unused(&run), ..ended });
        }
    };
    let (again, unused_name) = (again(&run), unused(&run));
    let ended = |run, tally, warnings| LoadSummary {
        run,
        already_loaded: false,
        tally,
        failed_before: 0,
        unused_name,
        copy: None,
        warnings,
    };
    let load = Load { again, ..Load::new(dependencies, url, options.row_batch_size, lease, progress, shutdown) };
    if !wait.wait {
        let FinishedLoad { sealed, warnings, .. } = load.run_logged(&run, scope).await?;
        let run = Run { state: RunState::Sealed, sealed: Some(sealed), ..run };
        return Ok(ended(run, None, warnings));
    }
    let mut follower = RunFollower::new(&**store, &run.run_id, scope.from, progress, batches);
    let loaded = tokio::select! {
        loaded = Box::pin(load.run(&run, scope, sender)) => loaded,
        never = follower.follow() => match never {},
    };
    let warnings = match loaded {
        Ok(loaded) => loaded.warnings,
        Err(UnfinishedLoad { error, is_sealed }) => {
            if is_sealed {
                // What was published is still stored, and the run is closed.
                let closing = until_finished(&mut follower, &**broker, wait.wait_timeout, &load.again, shutdown).await;
                if let Err(later) = closing {
                    warn!("{later}");
                }
            }
            return Err(error);
        }
    };
    let (run, tally) = until_finished(&mut follower, &**broker, wait.wait_timeout, &load.again, shutdown).await?;
    progress.log_stored();
    log_complete(&run, tally);
    warnings.log();
    Ok(ended(run, Some(tally), warnings))
}

/// Reports the earlier run of the source, or of a copy of it. Waits until it is finished, if the load is to wait.
async fn wait_for_earlier_run(
    mut follower: RunFollower<'_>,
    dependencies: &Dependencies,
    run: &Run,
    copy: Option<&SourceUrl>,
    wait: &WaitOptions,
    again: &str,
    shutdown: &CancellationToken,
) -> Result<LoadSummary, LoadError> {
    let Dependencies { store, broker, lease_timeout, .. } = dependencies;
    metrics::ended(LoadOutcome::AlreadyLoaded);
    let copy = copy.map(SourceUrl::to_string);
    let ended = |run: &Run, tally, failed_before, copy| LoadSummary {
        run: run.clone(),
        already_loaded: true,
        tally,
        failed_before,
        unused_name: None,
        copy,
        warnings: LoadWarnings::default(),
    };
    if run.state.is_finished() {
        let (failed, _) = store.failed_share(&run.run_id).await?;
        if failed > 0 {
            log_failed_rows(&run.run_id, failed);
        }
        return Ok(ended(run, None, if wait.wait { failed } else { 0 }, copy));
    }
    if !wait.wait {
        return Ok(ended(run, None, 0, copy));
    }
    // Loading the source again restores chunks that were lost with their process; loading a copy of it cannot.
    let is_lost = copy.is_some() && !is_durable(run, broker.survives_restart());
    let (run, tally) = tokio::select! {
        finished = until_finished(&mut follower, &**broker, wait.wait_timeout, again, shutdown) => finished?,
        error = until_stalled(&**store, &run.run_id, *lease_timeout), if is_lost => return Err(error),
    };
    log_complete(&run, tally);
    Ok(ended(&run, Some(tally), 0, copy))
}

fn log_failed_rows(run_id: &RunId, failed: u64) {
    let rows = if failed == 1 { "1 row".to_owned() } else { format!("{failed} rows") };
    warn!("{rows} of run {run_id} failed: `assay failures {run_id}` shows why, `assay replay {run_id}` tries again");
}

fn log_already_loaded(run: &Run) {
    let Run { source, run_id, state, .. } = run;
    info!("{} is already loaded by run {run_id} ({state}): nothing to do; --force loads it again", source.location);
}

fn log_complete(run: &Run, tally: Tally) {
    let Tally { predicted, failed, invalid, duplicate } = tally;
    if duplicate > 0 {
        info!("{duplicate} rows repeat transactions that are stored: they count as duplicates");
    }
    if let Some(error) = &run.error {
        warn!("run {} {}: {error}", run.run_id, run.state.as_phrase());
    }
    info!("Pipeline complete: {predicted} processed, {failed} failed, {invalid} invalid");
    if failed > 0 {
        log_failed_rows(&run.run_id, failed);
    }
}

//! `assay run`: all stages in one process, and the outcomes of the rows.
//!
//! [`crate::local`] starts the stages; [`progress`] shows their progress; [`summary`] shows the outcomes of a run, and
//! [`sources`] those of several sources.

mod arguments;
mod progress;
mod sources;
mod summary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_loader::{
    Dependencies, LeaseOwner, LoadError, ReadOptions, WaitOptions, describe_metrics, find_sources, run_sources,
    select_sources, worst_exit,
};
use assay_predictor::LiveOptions;
use assay_source::{NamedSource, SourceUrl, Sources};
use assay_store::{DatabaseOptions, Store};
use assay_telemetry::Health;
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::CommandError;
pub(crate) use arguments::RunArguments;
pub(crate) use progress::ProgressDisplay;
use sources::SourcesSummary;
use summary::SingleSource;

use crate::local::{DEFAULT_DATABASE, RunningStages, StageCounters, StageSettings};
use crate::output::print;

/// Loads sources, and waits until their rows are stored.
pub(crate) async fn run(
    arguments: &RunArguments,
    display: &ProgressDisplay,
    shutdown: &CancellationToken,
    health: &Health,
) -> Result<Exit, CommandError> {
    let began = Instant::now();
    let progress = StageCounters::default();
    let startup = arguments.common.startup.startup_timeout;
    let database = arguments.database.clone().or_default(DEFAULT_DATABASE);
    let sources = Sources::new(&arguments.s3)?;
    let settings = StageSettings {
        broker: &arguments.broker,
        api: &arguments.api,
        writer: &arguments.writer,
        live: live_options(&arguments.load.read),
        take_queued: arguments.take_queued,
        startup,
        drain: arguments.common.shutdown.drain_timeout,
    };
    let starting = Box::pin(async {
        // First, so that nothing is started for missing files.
        let found = find_sources(&sources, &arguments.source_url, startup).await?;
        if let ([NamedSource { url: file @ SourceUrl::File(_), .. }], []) = (&found.0[..], &found.1[..]) {
            sources.identify(file).await?;
        }
        let store = open(&database, startup).await?;
        let selected = select_sources(&sources, &*store, found, &arguments.load, &arguments.many).await?;
        let stages = RunningStages::start(store, settings, "run", &progress).await?;
        Ok::<_, CommandError>((stages, selected))
    });
    let Some(started) = shutdown.run_until_cancelled(starting).await else {
        return Err(LoadError::StoppedBeforeStart.into());
    };
    let (stages, selected) = started?;
    let is_single = selected.is_single();
    let (store, broker) = (Arc::clone(stages.store()), Arc::clone(stages.broker()));
    describe_metrics();
    health.depend_on(assay_queue::DEPENDENCY, assay_queue::health_check(&broker));
    health.depend_on(database.dependency(), assay_store::health_check(&store));
    if let Some(scorer) = stages.scorer().map(Arc::clone) {
        health.depend_on(assay_scoring::DEPENDENCY, move || std::future::ready(scorer.health()));
    }
    health.begin();
    let dependencies = Dependencies {
        sources,
        store,
        broker,
        startup,
        drain: arguments.common.shutdown.drain_timeout,
        lease_owner: LeaseOwner::new(),
        lease_timeout: arguments.lease.lease_timeout,
        audit: arguments.operator.audit_context(),
    };
    let shown = AbortOnDropHandle::new(tokio::spawn(display.clone().follow(progress.clone())));
    let wait = WaitOptions { wait: true, wait_timeout: Duration::MAX / 4 };
    let (load, max_loads) = (&arguments.load, arguments.many.max_loads);
    let ended = tokio::select! {
        ended = run_sources(&dependencies, selected, load, &wait, max_loads, &progress.load, shutdown) => {
            ended.map_err(CommandError::from)
        }
        failed = stages.failure() => Err(failed),
    };
    drop(shown);
    display.clear();
    let summary = match &ended {
        Ok(ended) => SourcesSummary::collect(&**stages.store(), ended, began.elapsed()).await,
        Err(_) => Ok(SourcesSummary::default()),
    };
    stages.stop().await;
    let (ended, summary) = (ended?, summary?);
    match summary.single().filter(|_| is_single) {
        Some(single) => print(&SingleSource::new(single), arguments.json)?,
        None => print(&summary, arguments.json)?,
    }
    summary.check()?;
    Ok(worst_exit(&ended))
}

/// Opens a database. A file is created if it is missing.
async fn open(database: &DatabaseOptions, startup: Duration) -> Result<Arc<dyn Store>, CommandError> {
    if database.is_file() {
        assay_store::migrate(database, startup).await?;
    }
    Ok(assay_store::connect(database, "run", startup).await?)
}

/// Live transactions on an external broker are read with the settings of this command.
fn live_options(read: &ReadOptions) -> LiveOptions {
    let default = LiveOptions::default();
    LiveOptions {
        api_batch_size: read.api_batch_size.try_into().unwrap_or(default.api_batch_size),
        time_zone: read.time_zone,
        id_namespace: read.id_namespace.clone(),
        ..default
    }
}

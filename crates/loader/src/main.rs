//! `loader`: publishes sources, or all objects of a bucket, as chunks.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::{
    Arguments, Command, Dependencies, LeaseOwner, LoadError, LoadProgress, LoadReport, LoaderConnections,
    WatchArguments, check_listing, describe_metrics, find_sources, log_summary, run_sources, select_sources,
    worst_exit,
};
use assay_source::Sources;
use assay_store::AuditContext;
use assay_telemetry::{CommonArgs, Health, print_json, run_program};
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

/// Between two checks of the watched bucket, which cost a listing each.
const S3_CHECK_INTERVAL: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    match &arguments.command {
        Some(Command::Watch(watch)) => run_program("loader", &watch.common.process, async |shutdown, health| {
            Box::pin(watch_bucket(watch, shutdown, health)).await
        }),
        None => run_program("loader", &arguments.common.process, async |shutdown, health| {
            Box::pin(load(&arguments, &shutdown, &health)).await
        }),
    }
}

async fn load(arguments: &Arguments, shutdown: &CancellationToken, health: &Health) -> Result<Exit, LoadError> {
    let connecting = Box::pin(connect(&arguments.connect, &arguments.common, &arguments.operator));
    let Some(dependencies) = shutdown.run_until_cancelled(connecting).await else {
        return Err(LoadError::StoppedBeforeStart);
    };
    let dependencies = dependencies?;
    observe(health, &dependencies);
    let ended = load_all(arguments, &dependencies, shutdown).await;
    tokio::join!(dependencies.broker.close(), dependencies.store.close());
    ended
}

async fn load_all(
    arguments: &Arguments,
    dependencies: &Dependencies,
    shutdown: &CancellationToken,
) -> Result<Exit, LoadError> {
    let Arguments { load, wait, many, json, .. } = arguments;
    let finding = Box::pin(async {
        let Dependencies { sources, store, startup, .. } = dependencies;
        let found = find_sources(sources, &arguments.source_url, *startup).await?;
        select_sources(sources, &**store, found, load, many).await
    });
    let Some(selected) = shutdown.run_until_cancelled(finding).await else { return Err(LoadError::StoppedBeforeStart) };
    let selected = selected?;
    let is_single = selected.is_single();
    let progress = Arc::new(LoadProgress::default());
    let ended = run_sources(dependencies, selected, load, wait, many.max_loads, &progress, shutdown).await?;
    if !is_single && !ended.is_empty() {
        log_summary(&ended);
    }
    if *json {
        // A reader that has read enough is no failure.
        print_json(&LoadReport::of(&ended)).or_else(|error| {
            if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(LoadError::Print(error)) }
        })?;
    }
    Ok(worst_exit(&ended))
}

async fn watch_bucket(
    arguments: &WatchArguments,
    shutdown: CancellationToken,
    health: Health,
) -> Result<Exit, LoadError> {
    let connecting = Box::pin(connect(&arguments.connect, &arguments.common, "loader"));
    let Some(dependencies) = shutdown.run_until_cancelled(connecting).await else { return Ok(Exit::Done) };
    let dependencies = Arc::new(dependencies?);
    observe(&health, &dependencies);
    health.depend_on_every(S3_CHECK_INTERVAL, assay_source::DEPENDENCY, {
        let (dependencies, watched) = (Arc::clone(&dependencies), arguments.watched.clone());
        move || {
            let (dependencies, watched) = (Arc::clone(&dependencies), watched.clone());
            async move { check_listing(&dependencies.sources, &watched).await.map_err(|error| error.to_string()) }
        }
    });
    let (watched, load, options) = (arguments.watched.clone(), arguments.load.clone(), arguments.watch.clone());
    let watching =
        assay_loader::watch(Arc::clone(&dependencies), watched, load, options, &arguments.connect.s3, shutdown);
    let ended = Box::pin(watching).await;
    dependencies.broker.close().await;
    dependencies.store.close().await;
    ended.map(|()| Exit::Done)
}

/// Starts health checks and metrics.
fn observe(health: &Health, dependencies: &Dependencies) {
    describe_metrics();
    health.depend_on(assay_queue::DEPENDENCY, assay_queue::health_check(&dependencies.broker));
    health.depend_on(assay_store::POSTGRESQL, assay_store::health_check(&dependencies.store));
    health.begin();
}

async fn connect(options: &LoaderConnections, common: &CommonArgs, operator: &str) -> Result<Dependencies, LoadError> {
    let startup = common.startup.startup_timeout;
    let sources = Sources::new(&options.s3)?;
    let connecting = async { Ok(assay_store::connect(&options.database, "loader", startup).await?) };
    let opening = async { Ok::<_, LoadError>(assay_queue::connect(&options.broker, "loader", startup).await?) };
    let (store, broker) = tokio::try_join!(connecting, opening)?;
    Ok(Dependencies {
        sources,
        store,
        broker,
        startup,
        drain: common.shutdown.drain_timeout,
        lease_owner: LeaseOwner::new(),
        lease_timeout: options.lease.lease_timeout,
        audit: AuditContext { operator: operator.to_owned(), reason: None },
    })
}

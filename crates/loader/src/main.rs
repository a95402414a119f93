//! `loader`: sources become chunks on the broker, or all that comes to lie in a bucket.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::{
    Arguments, Command, ConnectOptions, Dependencies, Holder, LoadError, LoadProgress, Report, SourceEnded,
    WatchArguments, choose, describe_metrics, find, gravest, is_there, log_summary, run, run_many,
};
use assay_source::Sources;
use assay_store::Act;
use assay_telemetry::{Health, run_observed};
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

/// Between two listings of the watched place for the health of this process: a listing costs money.
const ASK_S3: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    match &arguments.command {
        Some(Command::Watch(watch)) => run_observed("loader", &watch.log, &watch.metrics, async |shutdown, health| {
            Box::pin(watch_bucket(watch, shutdown, health)).await
        }),
        None => run_observed("loader", &arguments.log, &arguments.metrics, async |shutdown, health| {
            load(&arguments, &shutdown, &health).await
        }),
    }
}

async fn load(arguments: &Arguments, shutdown: &CancellationToken, health: &Health) -> Result<Exit, LoadError> {
    let connecting = connect(&arguments.connect, &arguments.operator);
    let Some(dependencies) = shutdown.run_until_cancelled(connecting).await else { return Err(LoadError::NotBegun) };
    let dependencies = dependencies?;
    show(health, &dependencies);
    let ended = load_all(arguments, &dependencies, shutdown).await;
    dependencies.broker.close().await;
    dependencies.store.close().await;
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
        let (found, broken) = find(sources, &arguments.source_url, *startup).await?;
        Ok::<_, LoadError>((choose(sources, &**store, found, load, many).await?, broken))
    });
    let Some(found) = shutdown.run_until_cancelled(finding).await else { return Err(LoadError::NotBegun) };
    let (sources, mut ended) = found?;
    let progress = Arc::new(LoadProgress::default());
    if let ([source], []) = (&sources[..], &ended[..]) {
        let loaded = run(dependencies, source, load, wait, &progress, shutdown).await?;
        ended.push(SourceEnded { name: source.to_string(), ended: Ok(loaded) });
    } else {
        ended.extend(run_many(dependencies, sources, load, wait, many.max_loads, &progress, shutdown).await);
        if !ended.is_empty() {
            log_summary(&ended);
        }
    }
    if *json {
        print(&Report::of(&ended))?;
    }
    Ok(gravest(&ended))
}

/// Who reads stdout may stop when it has enough: that is no failure.
fn print(report: &Report<'_>) -> Result<(), LoadError> {
    let mut out = std::io::stdout().lock();
    let printed = serde_json::to_writer_pretty(&mut out, report).map_err(Into::into).and_then(|()| writeln!(out));
    printed.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(LoadError::Print(error)) })
}

async fn watch_bucket(
    arguments: &WatchArguments,
    shutdown: CancellationToken,
    health: Health,
) -> Result<Exit, LoadError> {
    let connecting = connect(&arguments.connect, "loader");
    let Some(dependencies) = shutdown.run_until_cancelled(connecting).await else { return Ok(Exit::Done) };
    let dependencies = Arc::new(dependencies?);
    show(&health, &dependencies);
    health.depend_on_every(ASK_S3, "s3", {
        let (dependencies, watched) = (Arc::clone(&dependencies), arguments.watched.clone());
        move || {
            let (dependencies, watched) = (Arc::clone(&dependencies), watched.clone());
            async move { is_there(&dependencies.sources, &watched).await.map_err(|error| error.to_string()) }
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

/// What this process shows of itself from now on.
fn show(health: &Health, dependencies: &Dependencies) {
    describe_metrics();
    health.depend_on("rabbitmq", assay_queue::health_check(&dependencies.broker));
    health.depend_on("postgresql", assay_store::health_check(&dependencies.store));
    health.begin();
}

async fn connect(options: &ConnectOptions, operator: &str) -> Result<Dependencies, LoadError> {
    let startup = options.startup.startup_timeout;
    Ok(Dependencies {
        sources: Sources::new(&options.s3)?,
        store: assay_store::connect(&options.database, "loader", startup).await?,
        broker: assay_queue::connect(&options.broker, "loader", startup).await?,
        startup,
        drain: options.shutdown.drain_timeout,
        holder: Holder::new(),
        lease: options.lease.lease_timeout,
        act: Act { operator: operator.to_owned(), reason: None },
    })
}

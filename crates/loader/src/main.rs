//! `loader`: sources become chunks on the broker.

use std::process::ExitCode;
use std::sync::Arc;

use assay_loader::{
    Arguments, Dependencies, LoadError, LoadProgress, choose, find, gravest, log_summary, run, run_many,
};
use assay_source::Sources;
use assay_store::Act;
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    assay_telemetry::run(&arguments.log, async |shutdown| load(&arguments, &shutdown).await)
}

async fn load(arguments: &Arguments, shutdown: &CancellationToken) -> Result<Exit, LoadError> {
    let Some(dependencies) = shutdown.run_until_cancelled(connect(arguments)).await else {
        return Err(LoadError::NotBegun);
    };
    let dependencies = dependencies?;
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
    let Arguments { load, wait, many, .. } = arguments;
    let finding = Box::pin(async {
        let Dependencies { sources, store, startup, .. } = dependencies;
        let (found, broken) = find(sources, &arguments.source_url, *startup).await?;
        Ok::<_, LoadError>((choose(sources, &**store, found, load, many).await?, broken))
    });
    let Some(found) = shutdown.run_until_cancelled(finding).await else { return Err(LoadError::NotBegun) };
    let (sources, mut ended) = found?;
    let progress = Arc::new(LoadProgress::default());
    if let ([source], []) = (&sources[..], &ended[..]) {
        return Ok(run(dependencies, source, load, wait, &progress, shutdown).await?.exit());
    }
    ended.extend(run_many(dependencies, sources, load, wait, many.max_loads, &progress, shutdown).await);
    if !ended.is_empty() {
        log_summary(&ended);
    }
    Ok(gravest(&ended))
}

async fn connect(arguments: &Arguments) -> Result<Dependencies, LoadError> {
    let startup = arguments.startup.startup_timeout;
    Ok(Dependencies {
        sources: Sources::new(&arguments.s3)?,
        store: assay_store::connect(&arguments.database, "loader", startup).await?,
        broker: assay_queue::connect(&arguments.broker, "loader", startup).await?,
        startup,
        drain: arguments.shutdown.drain_timeout,
        act: Act { operator: arguments.operator.clone(), reason: None },
    })
}

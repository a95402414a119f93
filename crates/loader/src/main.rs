//! `loader`: one source becomes chunks on the broker.

use std::process::ExitCode;
use std::sync::Arc;

use assay_loader::{Arguments, Dependencies, Holder, LoadError, LoadProgress};
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
    let progress = Arc::new(LoadProgress::default());
    let ended =
        assay_loader::run(&dependencies, &arguments.source_url, &arguments.load, &arguments.wait, &progress, shutdown)
            .await;
    dependencies.broker.close().await;
    dependencies.store.close().await;
    ended.map(|ended| ended.exit())
}

async fn connect(arguments: &Arguments) -> Result<Dependencies, LoadError> {
    let startup = arguments.startup.startup_timeout;
    Ok(Dependencies {
        sources: Sources::new(&arguments.s3)?,
        store: assay_store::connect(&arguments.database, "loader", startup).await?,
        broker: assay_queue::connect(&arguments.broker, "loader", startup).await?,
        startup,
        drain: arguments.shutdown.drain_timeout,
        holder: Holder::new(),
        lease: arguments.lease.lease_timeout,
        act: Act { operator: arguments.operator.clone(), reason: None },
    })
}

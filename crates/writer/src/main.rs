//! `writer`: scored chunks become rows in the database.

use std::process::ExitCode;
use std::sync::Arc;

use assay_queue::Broker;
use assay_store::Store;
use assay_telemetry::{Health, run_program};
use assay_transaction::Exit;
use assay_writer::{Arguments, WriteError, WriteProgress};
use tokio_util::sync::CancellationToken;
use tracing::warn;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    run_program("writer", &arguments.common.process, async |shutdown, health| {
        Box::pin(write(&arguments, shutdown, health)).await
    })
}

async fn write(arguments: &Arguments, shutdown: CancellationToken, health: Health) -> Result<Exit, WriteError> {
    let Some(connected) = shutdown.run_until_cancelled(connect(arguments)).await else { return Ok(Exit::Done) };
    let (broker, store) = connected?;
    health.depend_on(assay_queue::DEPENDENCY, assay_queue::health_check(&broker));
    health.depend_on(assay_store::POSTGRESQL, assay_store::health_check(&store));
    if arguments.common.process.metrics.metrics_addr.is_some() {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { assay_queue::observe_depths(&*broker).await });
    }
    health.begin();
    tracing::info!("ready: writing scored rows from RabbitMQ to the database");
    let progress = Arc::new(WriteProgress::default());
    let drain = arguments.common.shutdown.drain_timeout;
    let (stages_broker, stages_store) = (Arc::clone(&broker), Arc::clone(&store));
    let running = assay_writer::run(stages_broker, stages_store, &arguments.writer, progress, drain, shutdown);
    let ended = Box::pin(running).await;
    broker.close().await;
    store.close().await;
    ended.map(|()| Exit::Done)
}

async fn connect(arguments: &Arguments) -> Result<(Arc<dyn Broker>, Arc<dyn Store>), WriteError> {
    let startup = arguments.common.startup.startup_timeout;
    let store = assay_store::connect(&arguments.database, "writer", startup).await?;
    // Only a warning: an unreachable server is waited for later.
    for setting in store.hazards().await.unwrap_or_default() {
        warn!("PostgreSQL has {setting} off: a crash of its machine may lose committed rows; turn it on");
    }
    let broker = assay_queue::connect(&arguments.broker, "writer", startup).await?;
    Ok((broker, store))
}

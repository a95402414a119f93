//! `streamer`: single transactions come in by HTTP, or are made up, and go to the broker.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use assay_queue::Broker;
use assay_store::Store;
use assay_streamer::{Arguments, Command, ConnectOptions, ServeArguments, SimulateArguments, StreamError};
use assay_telemetry::{Health, run_observed};
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    match &arguments.command {
        Command::Serve(serving) => {
            run_observed("streamer", &serving.log, &serving.metrics, async |shutdown, health| {
                Box::pin(serve(serving, shutdown, health)).await
            })
        }
        Command::Simulate(simulating) => {
            run_observed("streamer", &simulating.log, &simulating.metrics, async |shutdown, health| {
                Box::pin(simulate(simulating, shutdown, health)).await
            })
        }
    }
}

async fn serve(arguments: &ServeArguments, shutdown: CancellationToken, health: Health) -> Result<Exit, StreamError> {
    let ServeArguments { serve: options, connect: connecting, .. } = arguments;
    let tokens = options.tokens()?;
    let listener = assay_streamer::listen(options).await?;
    let Some(connected) = shutdown.run_until_cancelled(connect(connecting)).await else { return Ok(Exit::Done) };
    let (broker, store) = connected?;
    health.depend_on("rabbitmq", assay_queue::health_check(&broker));
    health.depend_on("postgresql", assay_store::health_check(&store));
    health.begin();
    let drain = connecting.shutdown.drain_timeout;
    let serving =
        assay_streamer::serve(listener, Arc::clone(&broker), Arc::clone(&store), options, tokens, drain, shutdown);
    let ended = Box::pin(serving).await;
    broker.close().await;
    store.close().await;
    ended.map(|()| Exit::Done)
}

async fn simulate(
    arguments: &SimulateArguments,
    shutdown: CancellationToken,
    health: Health,
) -> Result<Exit, StreamError> {
    let SimulateArguments { simulate: options, connect: connecting, .. } = arguments;
    options.check()?;
    let Some(connected) = shutdown.run_until_cancelled(connect(connecting)).await else { return Ok(Exit::Done) };
    let (broker, store) = connected?;
    health.depend_on("rabbitmq", assay_queue::health_check(&broker));
    health.depend_on("postgresql", assay_store::health_check(&store));
    health.begin();
    let drain = connecting.shutdown.drain_timeout;
    let simulating = assay_streamer::simulate(Arc::clone(&broker), Arc::clone(&store), options, drain, shutdown);
    let ended = Box::pin(simulating).await;
    broker.close().await;
    store.close().await;
    let simulated = ended?;
    // Whoever reads stdout may stop when it has enough.
    let _ = writeln!(std::io::stdout().lock(), "{simulated}");
    Ok(Exit::Done)
}

async fn connect(options: &ConnectOptions) -> Result<(Arc<dyn Broker>, Arc<dyn Store>), StreamError> {
    let startup = options.startup.startup_timeout;
    let store = assay_store::connect(&options.database, "streamer", startup).await?;
    let broker = assay_queue::connect(&options.broker, "streamer", startup).await?;
    Ok((broker, store))
}

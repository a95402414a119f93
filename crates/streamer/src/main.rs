//! `streamer`: sends single transactions, received over HTTP or generated, to the broker.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use assay_queue::Broker;
use assay_store::Store;
use assay_streamer::{Arguments, Command, ServeArguments, SimulateArguments, StreamError, StreamerConnections};
use assay_telemetry::{CommonArgs, Health, print_json, run_program};
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    match &arguments.command {
        Command::Serve(arguments) => run_program("streamer", &arguments.common.process, async |shutdown, health| {
            Box::pin(serve(arguments, shutdown, health)).await
        }),
        Command::Simulate(arguments) => run_program("streamer", &arguments.common.process, async |shutdown, health| {
            Box::pin(simulate(arguments, shutdown, health)).await
        }),
    }
}

async fn serve(arguments: &ServeArguments, shutdown: CancellationToken, health: Health) -> Result<Exit, StreamError> {
    let ServeArguments { serve: options, connect, common } = arguments;
    let tokens = options.tokens()?;
    let listener = assay_streamer::listen(options).await?;
    let drain = common.shutdown.drain_timeout;
    let serving = async |broker, store, shutdown| {
        assay_streamer::serve(listener, broker, store, options, tokens, drain, shutdown).await
    };
    with_services(connect, common, shutdown, &health, serving).await?;
    Ok(Exit::Done)
}

async fn simulate(
    arguments: &SimulateArguments,
    shutdown: CancellationToken,
    health: Health,
) -> Result<Exit, StreamError> {
    let SimulateArguments { simulate: options, json, connect, common } = arguments;
    options.check()?;
    let drain = common.shutdown.drain_timeout;
    let simulating =
        async |broker, store, shutdown| assay_streamer::simulate(broker, store, options, drain, shutdown).await;
    if let Some(simulated) = with_services(connect, common, shutdown, &health, simulating).await? {
        // A reader of stdout may stop reading.
        let _ = if *json { print_json(&simulated) } else { writeln!(std::io::stdout().lock(), "{simulated}") };
    }
    Ok(Exit::Done)
}

/// Runs the work between connecting to the services and disconnecting. Returns none if it is stopped before.
async fn with_services<T>(
    options: &StreamerConnections,
    common: &CommonArgs,
    shutdown: CancellationToken,
    health: &Health,
    work: impl AsyncFnOnce(Arc<dyn Broker>, Arc<dyn Store>, CancellationToken) -> Result<T, StreamError>,
) -> Result<Option<T>, StreamError> {
    let startup = common.startup.startup_timeout;
    let connecting = async {
        let store = assay_store::connect(&options.database, "streamer", startup).await?;
        let broker = assay_queue::connect(&options.broker, "streamer", startup).await?;
        Ok::<_, StreamError>((broker, store))
    };
    let Some(connected) = shutdown.run_until_cancelled(connecting).await else { return Ok(None) };
    let (broker, store) = connected?;
    health.depend_on(assay_queue::DEPENDENCY, assay_queue::health_check(&broker));
    health.depend_on(assay_store::POSTGRESQL, assay_store::health_check(&store));
    health.begin();
    let result = Box::pin(work(Arc::clone(&broker), Arc::clone(&store), shutdown.clone())).await;
    broker.close().await;
    store.close().await;
    result.map(Some)
}

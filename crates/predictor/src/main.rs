//! `predictor`: chunks become scored chunks.

use std::process::ExitCode;
use std::sync::Arc;

use assay_predictor::{Arguments, PredictError, PredictProgress};
use assay_queue::Broker;
use assay_scoring::Scorer;
use assay_telemetry::{Health, run_program};
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments: Arguments = assay_telemetry::parse();
    run_program("predictor", &arguments.common.process, async |shutdown, health| {
        predict(&arguments, shutdown, health).await
    })
}

async fn predict(arguments: &Arguments, shutdown: CancellationToken, health: Health) -> Result<Exit, PredictError> {
    let Some(connected) = shutdown.run_until_cancelled(connect(arguments)).await else { return Ok(Exit::Done) };
    let (broker, scorer) = connected?;
    let scorer = Arc::new(scorer);
    health.depend_on(assay_queue::DEPENDENCY, assay_queue::health_check(&broker));
    health.depend_on(assay_scoring::DEPENDENCY, {
        let scorer = Arc::clone(&scorer);
        move || std::future::ready(scorer.health())
    });
    health.begin();
    let progress = Arc::new(PredictProgress::default());
    let drain = arguments.common.shutdown.drain_timeout;
    let ended =
        assay_predictor::run(Arc::clone(&broker), scorer, arguments.live.clone(), progress, drain, shutdown).await;
    broker.close().await;
    ended.map(|()| Exit::Done)
}

async fn connect(arguments: &Arguments) -> Result<(Arc<dyn Broker>, Scorer), PredictError> {
    let startup = arguments.common.startup.startup_timeout;
    let scorer = Scorer::from_options(&arguments.api)?;
    let broker = assay_queue::connect(&arguments.broker, "predictor", startup).await?;
    scorer.wait_until_ready(startup).await?;
    Ok((broker, scorer))
}

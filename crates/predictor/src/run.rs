//! A predictor from its start to its shutdown: both lanes, side by side.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Route, ServeOptions, Work, serve};
use assay_scoring::Scorer;
use assay_transaction::Lane;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::scoring::Scoring;
use crate::stopped::StoppedRuns;
use crate::task::decode;
use crate::{PredictError, PredictProgress};

/// Scores chunks until the shutdown, then ends what has begun, within `drain`.
pub async fn run(
    broker: Arc<dyn Broker>,
    scorer: Arc<Scorer>,
    progress: Arc<PredictProgress>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), PredictError> {
    let concurrency = scorer.max_workers();
    info!("scoring with up to {concurrency} requests at a time");
    let (longest, hold) = (scorer.longest_inquiry(), broker.hold_timeout());
    if longest > hold {
        warn!(
            "a row that makes the ML API time out may take {longest:?} to be found, and after HOLD_TIMEOUT ({hold:?}) its \
             chunk is begun anew: lower API_TIMEOUT or MAX_RETRIES, or raise HOLD_TIMEOUT"
        );
    }
    let stopped = Arc::new(StoppedRuns::default());
    let scoring = Scoring { broker, scorer, progress, stopped: Arc::clone(&stopped), shutdown };
    let lane = |lane| serve_lane(&scoring, lane, concurrency, drain);
    let lanes = async { tokio::try_join!(lane(Lane::Batch), lane(Lane::Realtime)).map(|((), ())| ()) };
    let mut lanes = std::pin::pin!(lanes);
    tokio::select! {
        served = &mut lanes => return served,
        // What it has heard stays known; should the broker be closed, the lanes end too.
        heard = stopped.listen(&*scoring.broker) => heard?,
    }
    lanes.await
}

/// Scores the chunks of one lane. Each lane has as many tasks as there may be requests, and the scorer bounds the requests
/// of both: so neither lane waits for the other's chunks.
async fn serve_lane(scoring: &Scoring, lane: Lane, concurrency: usize, drain: Duration) -> Result<(), PredictError> {
    // Twice the concurrency: one chunk in work and one at hand, so that others find the rest in the queue.
    let prefetch = u16::try_from(2 * concurrency).unwrap_or(u16::MAX);
    let options = ServeOptions { concurrency, prefetch, drain };
    let route = Route { work: Work::Transactions, lane };
    let (broker, shutdown) = (Arc::clone(&scoring.broker), scoring.shutdown.clone());
    let scoring = scoring.clone();
    let work = move |task| {
        let scoring = scoring.clone();
        async move { scoring.score(task, lane).await }
    };
    Ok(serve(broker, route, options, shutdown, decode, work).await?)
}

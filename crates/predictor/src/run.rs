//! A predictor from its start to its shutdown: both lanes, side by side.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Message, Route, ServeOptions, Work, serve};
use assay_scoring::Scorer;
use assay_transaction::Lane;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::external::ExternalReader;
use crate::message::decode;
use crate::micro_batch::MicroBatches;
use crate::score::ChunkScorer;
use crate::stopped_runs::StoppedRuns;
use crate::{LiveOptions, PredictError, PredictProgress, metrics};

/// Most live messages that one predictor has in work, where they are small: the broker bounds their bytes.
const MAX_LIVE_MESSAGES: usize = 64;

/// Scores chunks until the shutdown, then ends what has begun, within `drain`.
pub async fn run(
    broker: Arc<dyn Broker>,
    scorer: Arc<Scorer>,
    live: LiveOptions,
    progress: Arc<PredictProgress>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), PredictError> {
    metrics::describe();
    let concurrency = scorer.max_workers();
    info!("scoring with up to {concurrency} requests at a time");
    let (longest, hold) = (scorer.longest_bisection(), broker.hold_timeout());
    if longest > hold {
        warn!(
            "a row that makes the ML API time out may take {longest:?} to be found, and after HOLD_TIMEOUT ({hold:?}) its \
             chunk is begun anew: lower API_TIMEOUT or MAX_RETRIES, or raise HOLD_TIMEOUT"
        );
    }
    let stopped = Arc::new(StoppedRuns::default());
    let live_messages = concurrency.saturating_mul(live.api_batch_size.get()).min(MAX_LIVE_MESSAGES).max(concurrency);
    let (micro_batches, collector) =
        MicroBatches::new(Arc::clone(&scorer), live.clone(), live_messages, shutdown.clone());
    let scoring = ChunkScorer { broker, scorer, micro_batches, progress, stopped: Arc::clone(&stopped), shutdown };
    let broker = Arc::clone(&scoring.broker);
    let lanes = async {
        let batch = serve_lane(scoring.clone(), Lane::Batch, &live, concurrency, drain);
        tokio::try_join!(batch, serve_lane(scoring, Lane::Realtime, &live, live_messages, drain)).map(|((), ())| ())
    };
    // The collector ends with the lanes, which hold the way to it.
    let served = async { tokio::join!(lanes, collector.run()).0 };
    let mut served = std::pin::pin!(served);
    tokio::select! {
        served = &mut served => return served,
        // What it has heard stays known; should the broker be closed, the lanes end too.
        heard = stopped.listen(&*broker) => heard?,
    }
    served.await
}

/// Scores the chunks of one lane, so many at a time. The scorer bounds the requests of both, and says whose turn it is: so
/// neither lane waits for the other's messages.
async fn serve_lane(
    scoring: ChunkScorer,
    lane: Lane,
    live: &LiveOptions,
    concurrency: usize,
    drain: Duration,
) -> Result<(), PredictError> {
    // Of the batch twice as many: one chunk in work and one at hand, so that others find the rest in the queue. Live messages
    // are at hand as long as they wait for others to share a request with.
    let prefetch = match lane {
        Lane::Batch => 2 * concurrency,
        Lane::Realtime => concurrency,
    };
    let options = ServeOptions { concurrency, prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX), drain };
    let route = Route { work: Work::Transactions, lane };
    let (broker, shutdown, external) =
        (Arc::clone(&scoring.broker), scoring.shutdown.clone(), ExternalReader::new(live.clone()));
    let decode = move |message: &Message| decode(message, lane, &external);
    let work = move |task| {
        let scoring = scoring.clone();
        async move { scoring.score(task, lane).await }
    };
    Ok(serve(broker, route, options, shutdown, decode, work).await?)
}

//! A predictor from start to shutdown, serving both lanes.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Message, QueueKind, Route, ServeOptions, serve};
use assay_scoring::Scorer;
use assay_transaction::Lane;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use crate::external::ExternalReader;
use crate::id_scheme::KnownIdScheme;
use crate::message::{IncomingMessage, decode};
use crate::micro_batch::MicroBatches;
use crate::notices::listen;
use crate::score::MessageScorer;
use crate::stopped_runs::StoppedRuns;
use crate::{LiveOptions, PredictError, PredictProgress, metrics};

/// Most live messages that one predictor processes at a time; the broker bounds their bytes.
const MAX_LIVE_MESSAGES: usize = 64;

/// Scores chunks until `shutdown`, then finishes those in progress, within `drain`.
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
            "finding a row that makes the ML API time out may take {longest:?}, but after HOLD_TIMEOUT ({hold:?}) its chunk \
             starts over: lower API_TIMEOUT or MAX_RETRIES, or raise HOLD_TIMEOUT"
        );
    }
    let stopped = Arc::new(StoppedRuns::default());
    let live_messages = concurrency.saturating_mul(live.api_batch_size.get()).min(MAX_LIVE_MESSAGES).max(concurrency);
    let (micro_batches, collector) =
        MicroBatches::new(Arc::clone(&scorer), live.clone(), live_messages, shutdown.clone());
    let ids = Arc::new(KnownIdScheme::default());
    let external = Arc::new(ExternalReader::new(live.clone(), Arc::clone(&ids)));
    let scoring =
        MessageScorer { broker, scorer, micro_batches, external, progress, stopped: Arc::clone(&stopped), shutdown };
    let broker = Arc::clone(&scoring.broker);
    let lanes = async {
        let batch = serve_lane(scoring.clone(), Lane::Batch, concurrency, drain);
        tokio::try_join!(batch, serve_lane(scoring, Lane::Realtime, live_messages, drain)).map(|((), ())| ())
    };
    // The collector ends with the lanes, which hold its senders.
    let served = async { tokio::join!(lanes, collector.run()).0 };
    let mut served = std::pin::pin!(served);
    tokio::select! {
        served = &mut served => return served,
        // Received notices stay known; if the broker is closed, the lanes end too.
        listened = listen(&*broker, &stopped, &ids) => listened?,
    }
    served.await
}

/// Scores the messages of one lane, `concurrency` at a time. The scorer bounds the requests of both lanes and shares its
/// permits between them, so neither lane waits for the other's messages.
async fn serve_lane(
    scoring: MessageScorer,
    lane: Lane,
    concurrency: usize,
    drain: Duration,
) -> Result<(), PredictError> {
    // Batch: one chunk in progress and one ready for each worker, so that other predictors find the rest in the queue. Live
    // messages are all in progress, as they wait for others to share a request with.
    let prefetch = match lane {
        Lane::Batch => 2 * concurrency,
        Lane::Realtime => concurrency,
    };
    let options = ServeOptions { concurrency, prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX), drain };
    let route = Route { kind: QueueKind::Transactions, lane };
    let (broker, shutdown) = (Arc::clone(&scoring.broker), scoring.shutdown.clone());
    let decode = move |message: &Message| decode(message, lane);
    let work = move |message: IncomingMessage| {
        let scoring = scoring.clone();
        async move {
            let span = message.span(lane);
            scoring.score(message, lane).instrument(span).await
        }
    };
    Ok(serve(broker, route, options, shutdown, decode, work).await?)
}

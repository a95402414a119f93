//! A predictor from its start to its shutdown: both lanes, side by side.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Message, Route, ServeOptions, Work, serve};
use assay_scoring::Scorer;
use assay_transaction::{Chunk, Lane};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::scoring::Scoring;
use crate::{PredictError, PredictProgress};

/// How long requests in flight may take after a shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// Scores chunks until the shutdown, then ends what has begun.
pub async fn run(
    broker: Arc<dyn Broker>,
    scorer: Arc<Scorer>,
    progress: Arc<PredictProgress>,
    shutdown: CancellationToken,
) -> Result<(), PredictError> {
    let concurrency = scorer.max_workers();
    info!("scoring with up to {concurrency} requests at a time");
    let scoring = Scoring { broker, scorer, progress, shutdown };
    tokio::try_join!(
        serve_lane(&scoring, Lane::Batch, concurrency),
        serve_lane(&scoring, Lane::Realtime, concurrency)
    )?;
    Ok(())
}

/// Scores the chunks of one lane. Each lane has as many tasks as there may be requests, and the scorer bounds the requests
/// of both: so neither lane waits for the other's chunks.
async fn serve_lane(scoring: &Scoring, lane: Lane, concurrency: usize) -> Result<(), PredictError> {
    // Twice the concurrency: one chunk in work and one at hand, so that others find the rest in the queue.
    let prefetch = u16::try_from(2 * concurrency).unwrap_or(u16::MAX);
    let options = ServeOptions { concurrency, prefetch, drain: DRAIN };
    let route = Route { work: Work::Transactions, lane };
    let (broker, shutdown) = (Arc::clone(&scoring.broker), scoring.shutdown.clone());
    let scoring = scoring.clone();
    let work = move |chunk| {
        let scoring = scoring.clone();
        async move { scoring.score(chunk, lane).await }
    };
    Ok(serve(broker, route, options, shutdown, decode, work).await?)
}

fn decode(message: &Message) -> Result<Chunk, String> {
    if message.kind != Chunk::MESSAGE_TYPE {
        return Err(format!("its type is `{}`, not `{}`", message.kind, Chunk::MESSAGE_TYPE));
    }
    Chunk::decode(&message.body).map_err(|error| error.to_string())
}

//! A predictor from start to shutdown, serving both lanes.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assay_queue::{BatchItem, Broker, Message, QueueKind, Route, ServeOptions, serve_weighted};
use assay_scoring::Scorer;
use assay_transaction::{Lane, RunSettings};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use crate::external::ExternalReader;
use crate::fleet::Fleet;
use crate::id_scheme::KnownIdScheme;
use crate::message::{IncomingMessage, decode};
use crate::micro_batch::MicroBatches;
use crate::notices::follow;
use crate::score::MessageScorer;
use crate::stopped_runs::StoppedRuns;
use crate::{LiveOptions, PredictError, PredictProgress, metrics};

/// Most live messages that one predictor processes at a time; the broker bounds their bytes.
const MAX_LIVE_MESSAGES: usize = 64;

/// What chunks are expected to have until some are seen.
const EXPECTED_ROWS: usize = RunSettings::CHUNK_ROWS.get() as usize;

/// How often the rate is compared with the rows in work.
const RATE_CHECK: Duration = Duration::from_secs(10);

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
    warn_of_short_hold(&scorer, live.api_batch_size, broker.hold_timeout());
    let (stopped, rows_in_work) = (Arc::new(StoppedRuns::default()), Arc::new(AtomicUsize::new(0)));
    let fleet = Fleet::join(Arc::clone(&scorer));
    let live_messages = concurrency.saturating_mul(live.api_batch_size.get()).min(MAX_LIVE_MESSAGES).max(concurrency);
    let (micro_batches, collector) =
        MicroBatches::new(Arc::clone(&scorer), live.clone(), live_messages, shutdown.clone());
    let (batch_size, ids, stopped_runs) =
        (live.api_batch_size, Arc::new(KnownIdScheme::default()), Arc::clone(&stopped));
    let external = Arc::new(ExternalReader::new(live.clone(), Arc::clone(&ids)));
    let scoring = MessageScorer {
        broker,
        scorer,
        batch_size,
        micro_batches,
        external,
        progress,
        stopped: stopped_runs,
        rows_in_work: Arc::clone(&rows_in_work),
        shutdown,
    };
    let (broker, scorer) = (Arc::clone(&scoring.broker), Arc::clone(&scoring.scorer));
    let lanes = async {
        let batch = serve_lane(scoring.clone(), Lane::Batch, concurrency, drain);
        tokio::try_join!(batch, serve_lane(scoring, Lane::Realtime, live_messages, drain)).map(|((), ())| ())
    };
    // The collector ends with the lanes, which hold its senders.
    let served = async { tokio::join!(lanes, collector.run()).0 };
    let mut served = std::pin::pin!(served);
    let coordinated = async {
        // It listens before it tells, so that the others' answers are heard.
        let listener = broker.listen().await?;
        tokio::select! {
            () = follow(listener, &stopped, &ids, &fleet) => Ok(()),
            never = fleet.tell(&*broker) => match never {},
            never = warn_of_low_rate(&scorer, &rows_in_work, broker.hold_timeout()) => match never {},
        }
    };
    let ended = tokio::select! {
        served = &mut served => served,
        // Received notices stay known; if the broker is closed, the lanes end too.
        coordinated = coordinated => match coordinated {
            Ok(()) => served.await,
            Err(error) => Err(PredictError::Broker(error)),
        }
    };
    fleet.leave(&*broker).await;
    ended
}

/// Warns if a chunk can be deferred while a row at fault is still looked for.
fn warn_of_short_hold(scorer: &Scorer, batch_size: NonZeroUsize, hold: Duration) {
    let longest = scorer.longest_bisection(EXPECTED_ROWS, batch_size);
    if longest > hold {
        warn!(
            "finding a row that makes the ML API time out may take {longest:?} in a chunk of {EXPECTED_ROWS} rows, but after \
             HOLD_TIMEOUT ({hold:?}) it starts over: lower API_TIMEOUT or MAX_RETRIES, or raise API_MAX_WORKERS or HOLD_TIMEOUT"
        );
    }
}

/// Warns once if chunks can be deferred because they may not be sent any faster. They share the rate, so one may take as long as
/// all of them, and what was scored of it is lost.
async fn warn_of_low_rate(scorer: &Scorer, rows_in_work: &AtomicUsize, hold: Duration) -> Infallible {
    loop {
        sleep(RATE_CHECK).await;
        let rows = rows_in_work.load(Ordering::Relaxed);
        let Some(rate) = scorer.pace().rate() else { continue };
        if is_too_slow(rows, rate, hold) {
            warn!(
                "at {rate:.1} transactions a second, the {rows} rows of the chunks in work may take longer than HOLD_TIMEOUT ({hold:?}), \
                 after which a chunk starts over: lower CHUNK_ROWS, or raise API_RATE_LIMIT, if it is set, or HOLD_TIMEOUT"
            );
            return std::future::pending().await;
        }
    }
}

fn is_too_slow(rows: usize, rate: f64, hold: Duration) -> bool {
    let rows = u32::try_from(rows).map_or(f64::from(u32::MAX), f64::from);
    rows > rate * hold.as_secs_f64()
}

/// Scores the messages of one lane, so many at a time. The scorer bounds the requests of both lanes and shares its permits
/// between them, so neither lane waits for the other's messages.
async fn serve_lane(
    scoring: MessageScorer,
    lane: Lane,
    concurrency: usize,
    drain: Duration,
) -> Result<(), PredictError> {
    let batch_size = scoring.batch_size;
    // Batch: messages weigh the requests that they need. Twice as many requests as workers are in work, so that no worker is idle
    // while a chunk's scores are published, and half as many are at hand: other predictors find the rest in the queue. The workers
    // are those of the ceiling, as the number of requests at a time may rise to it at any moment. Live messages are all in
    // progress, as they wait for others to share a request with.
    let (concurrency, prefetch, expected_weight) = match lane {
        Lane::Batch => (2 * concurrency, 3 * concurrency, EXPECTED_ROWS.div_ceil(batch_size.get())),
        Lane::Realtime => (concurrency, concurrency, 1),
    };
    let options = ServeOptions { concurrency, prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX), drain };
    let route = Route { kind: QueueKind::Transactions, lane };
    let (broker, shutdown) = (Arc::clone(&scoring.broker), scoring.shutdown.clone());
    let decode = move |message: &Message| {
        let value = decode(message, lane)?;
        let weight = if lane == Lane::Batch { value.requests(batch_size) } else { 1 };
        Ok(BatchItem { value, weight })
    };
    let work = move |message: IncomingMessage| {
        let scoring = scoring.clone();
        async move {
            let span = message.span(lane);
            scoring.score(message, lane).instrument(span).await
        }
    };
    Ok(serve_weighted(broker, route, options, expected_weight, shutdown, decode, work).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_too_low_if_the_rows_in_work_take_longer_than_a_message_is_held() {
        let hold = Duration::from_mins(8);
        for (rows, rate, expected) in [
            (0, 0.0, false),
            (0, 1.0, false),
            (500, 0.0, true),
            (500, 1.0, true),
            (480, 1.0, false),
            (500, 2.0, false),
            (5_000, 10.0, true),
            (usize::MAX, 1e6, true),
        ] {
            assert_eq!(is_too_slow(rows, rate, hold), expected, "{rows} at {rate}");
        }
    }
}

//! The feed announces stored predictions, and never delays a write.
//!
//! A bounded queue connects the writer with the publishing task. Predictions that find it full are left out and counted;
//! unconfirmed ones are not retried. So every prediction is announced at most once, after its commit, and slow or unreachable
//! brokers and listeners cost a write no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use assay_queue::{Broker, Message, PublishError};
use assay_store::{ChunkOutcome, WriteReport};
use assay_transaction::{Predicted, PredictionNotice, ScoredChunk, WireError};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::PredictionFeed;
use crate::metrics::{self, AnnouncementOutcome};

/// Most predictions in the queue, and their most bytes.
const MAX_WAITING: usize = 10_000;
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of an announcement besides its strings.
const NOTICE_BYTES: usize = 256;
/// Most unconfirmed announcements.
const MAX_IN_FLIGHT: usize = 128;
/// Longest wait for the queue to empty at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between two log lines about missing announcements.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The sending side of the feed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    which: PredictionFeed,
    queue: mpsc::Sender<QueuedNotice>,
    bytes: Arc<Semaphore>,
    counts: Arc<FeedCounts>,
}

/// A queued prediction, and its share of the bytes.
#[derive(Debug)]
struct QueuedNotice {
    notice: PredictionNotice,
    _bytes: OwnedSemaphorePermit,
}

/// The publishing task. It ends once it is closed, or every [`Feed`] is dropped.
pub(crate) struct FeedTask {
    closing: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct FeedCounts {
    announced: AtomicU64,
    /// There was no room.
    left_out: AtomicU64,
    /// RabbitMQ did not confirm them.
    refused: AtomicU64,
}

/// Why a prediction was not announced.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Feed {
    pub(crate) fn start(which: PredictionFeed, broker: &Arc<dyn Broker>) -> (Self, FeedTask) {
        // Other messages of the writer must not wait behind the feed.
        let in_flight = (broker.max_in_flight() / 2).clamp(1, MAX_IN_FLIGHT);
        let broker = Arc::clone(broker);
        Self::with_publisher(which, in_flight, move |notice| {
            let broker = Arc::clone(&broker);
            async move { announce(&*broker, &notice).await }
        })
    }

    fn with_publisher<F>(
        which: PredictionFeed,
        in_flight: usize,
        announce: impl Fn(PredictionNotice) -> F + Send + 'static,
    ) -> (Self, FeedTask)
    where
        F: Future<Output = Result<(), FeedError>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let (counts, closing) = (Arc::<FeedCounts>::default(), CancellationToken::new());
        let task = tokio::spawn(publish(waiting, in_flight, announce, Arc::clone(&counts), closing.clone()));
        let bytes = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
        (Self { which, queue, bytes, counts }, FeedTask { closing, task })
    }

    /// Queues the predictions that were stored by this write, as far as there is room. Does not wait.
    pub(crate) fn announce(&self, chunks: &[ScoredChunk], written: &WriteReport) {
        if self.which == PredictionFeed::Off {
            return;
        }
        let places = chunks.iter().enumerate().zip(&written.outcomes);
        for ((place, chunk), _) in places.filter(|(_, outcome)| matches!(outcome, ChunkOutcome::Recorded)) {
            self.announce_chunk(chunk, |row| !written.unstored.contains(&(place, row)));
        }
    }

    fn announce_chunk(&self, chunk: &ScoredChunk, is_stored: impl Fn(u64) -> bool) {
        let is_wanted = |predicted: &&Predicted| {
            (self.which == PredictionFeed::All || predicted.prediction.is_flagged()) && is_stored(predicted.entry.row)
        };
        let mut left_out = 0;
        for predicted in chunk.predicted.iter().filter(is_wanted) {
            // Reserves room first, so that a full queue costs almost nothing.
            let Some((room, bytes)) = self.queue.try_reserve().ok().zip(self.bytes_for(predicted)) else {
                left_out += 1;
                continue;
            };
            match PredictionNotice::of(chunk, predicted) {
                Ok(notice) => room.send(QueuedNotice { notice, _bytes: bytes }),
                Err(_) => left_out += 1,
            }
        }
        if left_out > 0 {
            self.counts.left_out.fetch_add(left_out, Ordering::Relaxed);
            metrics::announcement(AnnouncementOutcome::LeftOut, left_out);
        }
    }

    fn bytes_for(&self, predicted: &Predicted) -> Option<OwnedSemaphorePermit> {
        let texts = predicted.entry.external_id.as_ref().map_or(0, String::len) + predicted.prediction.prediction.len();
        let bytes = u32::try_from(NOTICE_BYTES + texts).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }
}

impl FeedTask {
    /// Ends the feed. Waits shortly for queued predictions to be announced.
    pub(crate) async fn close(mut self) {
        self.closing.cancel();
        if timeout(DRAIN_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
            warn!("the feed ends with unannounced predictions: RabbitMQ accepts them too slowly");
        }
    }
}

async fn announce(broker: &dyn Broker, notice: &PredictionNotice) -> Result<(), FeedError> {
    let id = notice.transaction_id.to_string();
    let message = Message::new(id, PredictionNotice::MESSAGE_TYPE, &notice.run_id, notice.encode()?);
    Ok(broker.publish_to_feed(&notice.routing_key(), message).await?)
}

/// The task: publishes announcements concurrently, each of them once.
async fn publish<F: Future<Output = Result<(), FeedError>>>(
    mut waiting: mpsc::Receiver<QueuedNotice>,
    in_flight: usize,
    announce: impl Fn(PredictionNotice) -> F,
    counts: Arc<FeedCounts>,
    closing: CancellationToken,
) {
    let mut under_way = FuturesUnordered::new();
    let mut log = FeedLog::default();
    let mut ticks = interval(LOG_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        tokio::select! {
            Some(result) = under_way.next() => match result {
                Ok(()) => {
                    counts.announced.fetch_add(1, Ordering::Relaxed);
                    metrics::announcement(AnnouncementOutcome::Sent, 1);
                }
                Err(error) => {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    metrics::announcement(AnnouncementOutcome::Refused, 1);
                    log.last_error = Some(error);
                }
            },
            next = waiting.recv(), if is_open && under_way.len() < in_flight => match next {
                Some(QueuedNotice { notice, .. }) => under_way.push(announce(notice)),
                None => is_open = false,
            },
            // Queued predictions are still received.
            () = closing.cancelled(), if !waiting.is_closed() => waiting.close(),
            _ = ticks.tick() => log.write(&counts),
        }
    }
    log.write(&counts);
    debug!("the feed ends after {} announcements", counts.announced.load(Ordering::Relaxed));
}

/// Counts that are logged already.
#[derive(Debug, Default)]
struct FeedLog {
    left_out: u64,
    refused: u64,
    last_error: Option<FeedError>,
}

impl FeedLog {
    fn write(&mut self, counts: &FeedCounts) {
        let since = |counter: &AtomicU64, said: &mut u64| {
            let all = counter.load(Ordering::Relaxed);
            all - std::mem::replace(said, all)
        };
        let left_out = since(&counts.left_out, &mut self.left_out);
        if left_out > 0 {
            warn!(
                "{left_out} stored predictions were not announced, as the feed is too slow: PREDICTION_FEED=flagged announces \
                 fewer"
            );
        }
        let refused = since(&counts.refused, &mut self.refused);
        if let Some(error) = self.last_error.take() {
            warn!("{refused} stored predictions were not announced, or not confirmed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use assay_transaction::{ChunkId, Entry, IdScheme, Lane, Prediction, RowRange, Timestamp};

    use super::*;

    /// Rows labelled `fraud` and `legitimate` in turn.
    fn chunk(rows: u64) -> ScoredChunk {
        let predicted = |row| {
            let transaction = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"x","amount":1.5,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}"#;
            let label = if row % 2 == 0 { "legitimate" } else { "fraud" };
            let prediction = Prediction { prediction: label.into(), fraud_score: None, ..Prediction::default() };
            let transaction = serde_json::from_str(transaction).unwrap();
            Predicted { entry: Entry { row, external_id: None, transaction }, prediction }
        };
        ScoredChunk {
            id: ChunkId { run_id: "run".parse().unwrap(), chunk: 0 },
            range: RowRange { first_row: 1, rows },
            ids: IdScheme::V8,
            lane: Lane::Batch,
            predicted_at: Timestamp::from(chrono::Utc::now()),
            predicted: (1..=rows).map(predicted).collect(),
            failed: Vec::new(),
            rejected: Vec::new(),
            known: Vec::new(),
        }
    }

    /// A feed into a channel. Each announcement needs a permit.
    struct FeedProbe {
        feed: Feed,
        feed_task: FeedTask,
        rows: mpsc::UnboundedReceiver<u64>,
        pace: Arc<Semaphore>,
    }

    fn listen(which: PredictionFeed, permits: usize) -> FeedProbe {
        let (sender, rows) = mpsc::unbounded_channel();
        let pace = Arc::new(Semaphore::new(permits));
        let gate = Arc::clone(&pace);
        let (feed, feed_task) = Feed::with_publisher(which, 10, move |notice| {
            let (sender, gate) = (sender.clone(), Arc::clone(&gate));
            async move {
                gate.acquire().await.unwrap().forget();
                sender.send(notice.row_number).unwrap();
                Ok(())
            }
        });
        FeedProbe { feed, feed_task, rows, pace }
    }

    fn announce_one(feed: &Feed, chunk: &ScoredChunk) {
        let written = WriteReport { outcomes: vec![ChunkOutcome::Recorded], ..WriteReport::default() };
        feed.announce(std::slice::from_ref(chunk), &written);
    }

    async fn announced_rows(mut receiver: mpsc::UnboundedReceiver<u64>) -> Vec<u64> {
        let mut rows = Vec::new();
        while let Some(row) = receiver.recv().await {
            rows.push(row);
        }
        rows.sort_unstable();
        rows
    }

    #[tokio::test]
    async fn the_selected_predictions_are_announced_once() {
        for (which, expected) in [
            (PredictionFeed::Off, vec![]),
            (PredictionFeed::Flagged, vec![1, 3, 5]),
            (PredictionFeed::All, vec![1, 2, 3, 4, 5]),
        ] {
            let FeedProbe { feed, feed_task, rows, .. } = listen(which, 1_000);
            announce_one(&feed, &chunk(5));
            feed_task.close().await;
            assert_eq!(announced_rows(rows).await, expected, "{which:?}");
            assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn only_rows_stored_by_this_write_are_announced() {
        let FeedProbe { feed, feed_task, rows, .. } = listen(PredictionFeed::All, 1_000);
        let chunks = [chunk(2), chunk(1), chunk(3)];
        let outcomes = vec![ChunkOutcome::AlreadyRecorded, ChunkOutcome::Dropped, ChunkOutcome::Recorded];
        feed.announce(&chunks, &WriteReport { outcomes, unstored: [(0, 3), (2, 1)].into(), ..WriteReport::default() });
        feed_task.close().await;
        assert_eq!(announced_rows(rows).await, [2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_feed_leaves_predictions_out_and_ends_soon() {
        let FeedProbe { feed, feed_task, rows, pace } = listen(PredictionFeed::All, 0);
        let many = chunk(1_000);
        for _ in 0..30 {
            announce_one(&feed, &many);
        }
        // Without an await, the task has not received any.
        assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 20_000);
        let began = tokio::time::Instant::now();
        feed_task.close().await;
        assert_eq!(began.elapsed().as_secs(), DRAIN_TIMEOUT.as_secs());
        announce_one(&feed, &many);
        assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 21_000);
        drop(pace);
        assert!(announced_rows(rows).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn announced_predictions_make_room() {
        let FeedProbe { feed, feed_task, rows, pace } = listen(PredictionFeed::All, 0);
        let many = chunk(10_000);
        announce_one(&feed, &many);
        announce_one(&feed, &chunk(1));
        assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 1);
        pace.add_permits(100_000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        announce_one(&feed, &many);
        feed_task.close().await;
        assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 1);
        assert_eq!(announced_rows(rows).await.len(), 20_000);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes() {
        let FeedProbe { feed, feed_task, rows, pace } = listen(PredictionFeed::All, 0);
        let mut long = chunk(100);
        for predicted in &mut long.predicted {
            predicted.entry.external_id = Some("x".repeat(250_000));
        }
        announce_one(&feed, &long);
        assert_eq!(feed.counts.left_out.load(Ordering::Relaxed), 100 - 33);
        pace.add_permits(100);
        feed_task.close().await;
        assert_eq!(announced_rows(rows).await.len(), 33);
        assert_eq!(feed.bytes.available_permits(), MAX_WAITING_BYTES);
    }

    #[tokio::test]
    async fn a_refused_announcement_is_not_retried() {
        let (feed, feed_task) =
            Feed::with_publisher(PredictionFeed::All, 10, |_| async { Err(PublishError::Unroutable.into()) });
        announce_one(&feed, &chunk(7));
        feed_task.close().await;
        assert_eq!(feed.counts.refused.load(Ordering::Relaxed), 7);
        assert_eq!(feed.counts.announced.load(Ordering::Relaxed), 0);
    }
}

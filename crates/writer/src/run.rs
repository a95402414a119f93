//! A writer from start to shutdown: both lanes, the dead letters and the sweep run concurrently.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{BatchOptions, Broker, Message, QueueKind, Route, serve_batches, serve_dead_letters};
use assay_store::Store;
use assay_transaction::{Lane, RunSettings};
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::dead_letters::DeadLetterDrain;
use crate::feed::Feed;
use crate::identities::announce;
use crate::message::decode;
use crate::summaries::summarise;
use crate::sweep::sweep;
use crate::write::BatchWriter;
use crate::{WriteError, WriteProgress, WriterOptions, metrics};

/// Prefetched live messages.
const MAX_LIVE_MESSAGES: u16 = 64;
/// Prefetched chunks of a worker at first: more are held if they have few rows, fewer if they are large.
const MAX_CHUNKS: usize = 100;
/// Bytes of the messages of a lane that are being written. As many are collected meanwhile, within the memory of the lane.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// So many times the rows of `DB_ROW_BATCH_SIZE` are written at once, if they are there when the batch before is written.
const BACKLOG: usize = 4;
/// If no chunk comes for so long, the ones at hand are written: a small run is not to wait for rows that do not exist.
const MAX_PAUSE: Duration = Duration::from_millis(10);
/// Interval between two log lines about written transactions.
const LOG_INTERVAL: Duration = Duration::from_secs(2);

/// Writes scored chunks until the shutdown, then finishes within `drain`.
pub async fn run(
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &WriterOptions,
    progress: Arc<WriteProgress>,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), WriteError> {
    metrics::describe();
    let (feed, feed_task) = Feed::start(options.prediction_feed, &broker);
    let writer = |lane| BatchWriter {
        store: Arc::clone(&store),
        id_conflict: options.id_conflict,
        lane,
        progress: Arc::clone(&progress),
        feed: feed.clone(),
        shutdown: shutdown.clone(),
    };
    let serve = |lane| serve_lane(Arc::clone(&broker), writer(lane), options, drain, shutdown.clone());
    let drainer =
        DeadLetterDrain { store: Arc::clone(&store), progress: Arc::clone(&progress), shutdown: shutdown.clone() };
    let dead_letters = async {
        let work = move |message, death| {
            let drainer = drainer.clone();
            async move { drainer.drain(message, death).await }
        };
        Ok(serve_dead_letters(Arc::clone(&broker), shutdown.clone(), drain, work).await?)
    };
    // Each worker has its own consumer, like a separate writer: while one writes its batch, the other decodes the next.
    let batches = try_join_all((0..options.db_max_workers).map(|_| serve(Lane::Batch)));
    let ended = tokio::select! {
        ended = async { tokio::try_join!(batches, serve(Lane::Realtime), dead_letters) } => ended,
        never = sweep(&*store, &*broker, &progress) => match never {},
        never = announce(&*broker, store.ids()) => match never {},
        never = summarise(&*store, &progress) => match never {},
        never = log_periodically(&progress) => match never {},
    };
    progress.log_written();
    feed_task.close().await;
    ended.map(drop)
}

async fn serve_lane(
    broker: Arc<dyn Broker>,
    writer: BatchWriter,
    options: &WriterOptions,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<(), WriteError> {
    let enough_weight = options.db_row_batch_size.get();
    let max_weight = enough_weight.saturating_mul(BACKLOG);
    let (max_wait, max_pause, prefetch, workers) = match writer.lane {
        Lane::Batch => (options.flush_interval, MAX_PAUSE, prefetch(max_weight), options.db_max_workers),
        // Live messages have few rows, and come one by one.
        Lane::Realtime => (options.realtime_flush_interval, options.realtime_flush_interval, MAX_LIVE_MESSAGES, 2),
    };
    let max_bytes = MAX_BATCH_BYTES / usize::from(workers);
    let batches = BatchOptions { enough_weight, max_weight, max_bytes, max_wait, max_pause, prefetch, drain };
    let route = Route { kind: QueueKind::Scored, lane: writer.lane };
    let ids = writer.store.ids();
    let decode = move |message: &Message| decode(message, ids);
    let work = move |messages| {
        let writer = writer.clone();
        async move { writer.write(messages).await }
    };
    Ok(serve_batches(broker, route, batches, shutdown, decode, work).await?)
}

/// Prefetched chunks of a worker at first: enough for a full batch in work, and another one that is collected.
fn prefetch(rows: usize) -> u16 {
    let chunk_rows = RunSettings::CHUNK_ROWS.get() as usize;
    u16::try_from((rows.saturating_mul(2) / chunk_rows).clamp(20, MAX_CHUNKS)).unwrap_or(u16::MAX)
}

async fn log_periodically(progress: &WriteProgress) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        progress.log_written();
    }
}

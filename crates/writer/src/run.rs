//! A writer from its start to its shutdown: both lanes side by side, the sweep beside them.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{BatchOptions, Broker, Message, Route, Weighed, Work, serve_batches};
use assay_store::Store;
use assay_transaction::{Lane, ScoredChunk};
use tokio_util::sync::CancellationToken;

use crate::closing::sweep;
use crate::writing::Writing;
use crate::{WriteError, WriteProgress, WriterOptions};

/// How long the batch in work may take after a shutdown.
const DRAIN: Duration = Duration::from_secs(10);
/// Bytes at which a row counts for more than one, so that long rows make small batches.
const HEAVY_ROW: usize = 4096;
/// Between two lines of the log that say how much was written.
const SAY: Duration = Duration::from_secs(2);

/// Writes scored chunks until the shutdown, then ends what has begun.
pub async fn run(
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &WriterOptions,
    progress: Arc<WriteProgress>,
    shutdown: CancellationToken,
) -> Result<(), WriteError> {
    let writing = |lane| Writing {
        store: Arc::clone(&store),
        id_conflict: options.id_conflict,
        lane,
        progress: Arc::clone(&progress),
        shutdown: shutdown.clone(),
    };
    let serve = |lane| serve_lane(Arc::clone(&broker), writing(lane), options, shutdown.clone());
    let ended = tokio::select! {
        ended = async { tokio::try_join!(serve(Lane::Batch), serve(Lane::Realtime)) } => ended,
        never = sweep(&*store, &progress) => match never {},
        never = say_now_and_again(&progress) => match never {},
    };
    progress.say();
    ended.map(|((), ())| ())
}

async fn serve_lane(
    broker: Arc<dyn Broker>,
    writing: Writing,
    options: &WriterOptions,
    shutdown: CancellationToken,
) -> Result<(), WriteError> {
    let rows = options.db_row_batch_size.get();
    let batches =
        BatchOptions { max_weight: rows, max_wait: options.flush_interval, prefetch: prefetch(rows), drain: DRAIN };
    let route = Route { work: Work::Scored, lane: writing.lane };
    let work = move |chunks| {
        let writing = writing.clone();
        async move { writing.write(chunks).await }
    };
    Ok(serve_batches(broker, route, batches, shutdown, decode, work).await?)
}

/// Chunks at hand: some batches of the usual chunks of 100 rows; bounded, as each may have 1 MiB.
fn prefetch(rows: usize) -> u16 {
    u16::try_from((rows / 20).clamp(20, 100)).unwrap_or(100)
}

fn decode(message: &Message) -> Result<Weighed<ScoredChunk>, String> {
    if message.kind != ScoredChunk::MESSAGE_TYPE {
        return Err(format!("its type is `{}`, not `{}`", message.kind, ScoredChunk::MESSAGE_TYPE));
    }
    let chunk = ScoredChunk::decode(&message.body).map_err(|error| error.to_string())?;
    let rows = usize::try_from(chunk.range.rows).unwrap_or(usize::MAX);
    let weight = rows.max(message.body.len() / HEAVY_ROW);
    Ok(Weighed { value: chunk, weight })
}

async fn say_now_and_again(progress: &WriteProgress) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(SAY).await;
        progress.say();
    }
}

//! Publishing: chunks go to the predictors, many at a time, and the checkpoint follows what is confirmed.

use std::collections::VecDeque;

use assay_queue::{Broker, Message, Route, Unpublished, Work, publish_until_confirmed};
use assay_store::{Lease, Store};
use assay_transaction::{Checkpoint, Chunk, ChunkId, Lane};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::load::checkpoint::{CheckpointWriter, ConfirmedPositions};
use crate::load::known::StoredRowMarker;
use crate::load::read::{ReadBatch, ReaderMessage};
use crate::load::recorded::RecordedChunks;
use crate::patience::while_there_is_time;
use crate::{LoadError, LoadProgress, metrics};

/// Where a loader's chunks go.
pub(crate) const ROUTE: Route = Route { work: Work::Transactions, lane: Lane::Batch };

/// Bytes of unconfirmed chunks, at which no more are published: what bounds memory where rows are long.
const MAX_BYTES_IN_FLIGHT: usize = 8 * 1024 * 1024;

/// Messages of this size go into any broker that is of use. One that is larger, and larger than all that were confirmed, is
/// followed by no other until it is confirmed: should it be too large, the run can end before it, as nothing is out behind it.
const SURE_BYTES: usize = 128 * 1024;

/// Publishes the chunks of one run.
pub(crate) struct ChunkPublisher<'a> {
    pub(crate) broker: &'a dyn Broker,
    pub(crate) store: &'a dyn Store,
    /// Whether what is confirmed is still on the broker when this process has ended; else a position is kept once what lies before
    /// it is recorded.
    pub(crate) durable: bool,
    /// Without one, no position is kept: the run is sealed.
    pub(crate) lease: Option<&'a Lease>,
    pub(crate) progress: &'a LoadProgress,
    /// Hears of each batch whose chunks are all confirmed.
    pub(crate) batches: mpsc::UnboundedSender<ReadBatch>,
    /// Where nothing more is to be published.
    pub(crate) intake: &'a CancellationToken,
    /// Where nothing more is waited for either.
    pub(crate) stop: &'a CancellationToken,
}

/// How far publishing came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishReport {
    /// Everything before it is confirmed.
    pub(crate) until: Checkpoint,
    /// Whether that is all that the reader sent. Where it is not, later chunks may be on the broker too.
    pub(crate) all: bool,
    /// The chunk that is larger than the broker takes, and its size.
    pub(crate) too_large: Option<(u64, usize)>,
    /// Chunks that were published, those that were recorded not among them.
    pub(crate) chunks: u64,
    /// Their rows.
    pub(crate) rows: u64,
}

impl PublishReport {
    /// Nothing yet.
    pub(crate) fn nothing(from: Checkpoint) -> Self {
        Self { until: from, all: true, too_large: None, chunks: 0, rows: 0 }
    }
}

/// A chunk that the broker has, and where the run goes on after it.
struct ConfirmedChunk {
    next: Checkpoint,
    bytes: usize,
    /// Rows that were published; none where the chunk was recorded.
    rows: Option<u64>,
}

/// Why a chunk is not known to be on the broker.
enum Unconfirmed {
    Stopped,
    TooLarge { chunk: u64, bytes: usize },
}

impl ChunkPublisher<'_> {
    /// Publishes what the reader sends, in order, but for what is `recorded`. At a shutdown it takes nothing more and waits
    /// for what is in flight.
    pub(crate) async fn publish(
        &self,
        from: Checkpoint,
        mut chunks: mpsc::Receiver<ReaderMessage>,
        mut recorded: RecordedChunks<'_>,
        mut known: StoredRowMarker<'_>,
    ) -> Result<PublishReport, LoadError> {
        let mut published = PublishReport::nothing(from);
        let mut in_flight = FuturesOrdered::new();
        let mut bytes_in_flight = 0;
        // The last chunk in flight may prove to be too large.
        let (mut sure, mut is_unsure) = (SURE_BYTES, false);
        let mut batches = VecDeque::new();
        let mut checkpoints = CheckpointWriter::new(|at| self.checkpoint(at));
        let mut reached = ConfirmedPositions::new(self.durable);
        let mut confirmed = |at| reached.confirmed(at, self.progress.rows_recorded());
        let mut reading = true;
        while reading || !in_flight.is_empty() {
            let is_full = in_flight.len() >= self.broker.max_in_flight() || bytes_in_flight >= MAX_BYTES_IN_FLIGHT;
            let room = in_flight.is_empty() || !is_full && !is_unsure;
            tokio::select! {
                Some(chunk) = in_flight.next() => match chunk {
                    Ok(ConfirmedChunk { next, bytes, rows }) => {
                        bytes_in_flight -= bytes;
                        sure = sure.max(bytes);
                        rows.inspect(|rows| metrics::published(*rows));
                        published.chunks += u64::from(rows.is_some());
                        published.rows += rows.unwrap_or_default();
                        published.until = next;
                        self.progress.set_rows_published(next.rows_before());
                        if self.finish_batches(&mut batches, next)
                            && let Some(at) = confirmed(next)
                        {
                            checkpoints.note(at);
                        }
                    }
                    Err(Unconfirmed::Stopped) => {
                        published.all = false;
                        break;
                    }
                    Err(Unconfirmed::TooLarge { chunk, bytes }) => {
                        (published.all, published.too_large) = (false, Some((chunk, bytes)));
                        break;
                    }
                },
                read = chunks.recv(), if reading && room => match read {
                    Some(ReaderMessage::Batch(batch)) => {
                        batches.push_back(batch);
                        if self.finish_batches(&mut batches, published.until)
                            && let Some(at) = confirmed(published.until)
                        {
                            checkpoints.note(at);
                        }
                    }
                    Some(ReaderMessage::Cut(mut cut)) => {
                        // Asked until there is an answer, and there may be none before the shutdown.
                        let asking = async {
                            let publish = !recorded.has(cut.chunk.id.chunk).await?;
                            if publish {
                                known.mark(&mut cut.chunk).await?;
                            }
                            Ok::<_, LoadError>(publish)
                        };
                        let Some(publish) = self.intake.run_until_cancelled(asking).await else {
                            // This chunk is not published, whether or not the reader has come to its end by now.
                            published.all = false;
                            continue;
                        };
                        let publish = publish?;
                        let body = if publish { Some(cut.chunk.encode()?) } else { None };
                        let bytes = body.as_ref().map_or(0, Vec::len);
                        bytes_in_flight += bytes;
                        is_unsure = bytes > sure;
                        let rows = cut.chunk.range.rows;
                        in_flight.push_back(self.confirm(&cut.chunk.id, rows, body, cut.next));
                    }
                    None => reading = false,
                },
                () = checkpoints.follow() => {}
                () = self.intake.cancelled(), if reading => {
                    published.all = false;
                    reading = false;
                    chunks.close();
                }
            }
        }
        if published.until != from
            && let Some(at) = confirmed(published.until)
        {
            checkpoints.note(at);
        }
        checkpoints.finish().await;
        known.say();
        // The last batch ends with the last chunk, which is cut only at the end of the source.
        for batch in batches.drain(..).filter(|batch| batch.last_row <= published.until.rows_before()) {
            let _ = self.batches.send(batch);
        }
        Ok(published)
    }

    /// Publishes the body of a chunk, where it has to be published. Holds nothing else of the chunk.
    fn confirm(
        &self,
        id: &ChunkId,
        rows: u64,
        body: Option<Vec<u8>>,
        next: Checkpoint,
    ) -> impl Future<Output = Result<ConfirmedChunk, Unconfirmed>> + use<'_> {
        let (broker, stop, chunk) = (self.broker, self.stop, id.chunk);
        let message = body.map(|body| Message::new(id.to_string(), Chunk::MESSAGE_TYPE, &id.run_id, body));
        async move {
            let Some(message) = message else { return Ok(ConfirmedChunk { next, bytes: 0, rows: None }) };
            let bytes = message.body.len();
            match publish_until_confirmed(broker, ROUTE, message, stop).await {
                Ok(()) => Ok(ConfirmedChunk { next, bytes, rows: Some(rows) }),
                Err(Unpublished::Stopped) => Err(Unconfirmed::Stopped),
                Err(Unpublished::TooLarge { bytes }) => Err(Unconfirmed::TooLarge { chunk, bytes }),
            }
        }
    }

    /// Tells of the batches whose every row is confirmed; whether there are any.
    fn finish_batches(&self, batches: &mut VecDeque<ReadBatch>, confirmed: Checkpoint) -> bool {
        let mut finished = false;
        while let Some(batch) = batches.pop_front_if(|batch| batch.last_row <= confirmed.rows_before()) {
            finished = true;
            // Nobody may listen.
            let _ = self.batches.send(batch);
        }
        finished
    }

    /// Keeps the position. A checkpoint that is lost costs a later loader some work, but never a row.
    async fn checkpoint(&self, at: Checkpoint) {
        let Some(lease) = self.lease else { return };
        let Some(kept) = while_there_is_time(self.store.checkpoint(lease, at), self.stop).await else {
            warn!("the checkpoint at row {} is not kept in time", at.at.row);
            return;
        };
        match kept {
            // Who keeps the lease is about to find out.
            Err(error) if error.is_lease_lost() => debug!("{error}"),
            Err(error) => warn!("the checkpoint at row {} is not kept: {error}", at.at.row),
            Ok(()) => {}
        }
    }
}

/// Says of each batch that it is published: for loaders that do not wait until it is stored.
pub(crate) async fn log_published_batches(mut batches: mpsc::UnboundedReceiver<ReadBatch>) {
    while let Some(batch) = batches.recv().await {
        info!("Batch {}: published {} transactions", batch.number, batch.transactions);
    }
}

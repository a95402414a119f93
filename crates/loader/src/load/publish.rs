//! Publishing: chunks go to the predictors, many at a time, and the checkpoint follows what is confirmed.

use std::collections::VecDeque;

use assay_queue::{Broker, ConfirmError, Message, PublishWindow, QueueKind, Route, publish_until_confirmed};
use assay_store::{Lease, Store};
use assay_transaction::{Checkpoint, Chunk, ChunkId, CutChunk, EncodedChunk, Lane};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error_span, info, warn};

use crate::load::checkpoint::CheckpointWriter;
use crate::load::read::{ReadBatch, ReaderMessage};
use crate::load::stored::{RecordedChunks, StoredRowMarker};
use crate::retry::within_grace;
use crate::{LoadError, LoadProgress, metrics};

pub(crate) const ROUTE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Batch };

/// Bytes of unconfirmed chunks at which publishing pauses: bounds memory if rows are long.
const MAX_BYTES_IN_FLIGHT: usize = 8 * 1024 * 1024;

/// Every usable broker accepts messages of this size. A chunk larger than that, and larger than all confirmed ones, must be
/// confirmed before the next is published: if it is too large, the run can end before it, as no later chunk is out.
const SURE_BYTES: usize = 128 * 1024;

pub(crate) struct ChunkPublisher<'a> {
    pub(crate) broker: &'a dyn Broker,
    pub(crate) store: &'a dyn Store,
    /// Whether the broker keeps confirmed chunks when this process ends. If not, a checkpoint passes only recorded chunks.
    pub(crate) durable: bool,
    /// Without it, no checkpoint is written: the run is sealed.
    pub(crate) lease: Option<&'a Lease>,
    pub(crate) progress: &'a LoadProgress,
    /// Receives each batch whose chunks are all confirmed.
    pub(crate) batches: mpsc::UnboundedSender<ReadBatch>,
    /// Cancelled when no more chunks are to be published.
    pub(crate) no_more: &'a CancellationToken,
    /// Cancelled when unconfirmed chunks are given up too.
    pub(crate) give_up: &'a CancellationToken,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishReport {
    /// Everything before it is confirmed.
    pub(crate) confirmed: Checkpoint,
    /// Whether all chunks of the reader are confirmed. If not, later chunks may be on the broker too.
    pub(crate) is_complete: bool,
    /// Number and size of the chunk that the broker did not accept.
    pub(crate) too_large: Option<(u64, usize)>,
    /// Published chunks, without the recorded ones.
    pub(crate) chunks: u64,
    pub(crate) rows: u64,
}

impl PublishReport {
    pub(crate) fn nothing(from: Checkpoint) -> Self {
        Self { confirmed: from, is_complete: true, too_large: None, chunks: 0, rows: 0 }
    }
}

/// A chunk that is on the broker, or recorded.
struct ConfirmedChunk {
    /// Start of the next chunk.
    next: Checkpoint,
    bytes: usize,
    /// Published rows. None if the chunk was recorded.
    rows: Option<u64>,
}

/// Why a chunk may not be on the broker.
enum Unconfirmed {
    Stopped,
    TooLarge { chunk: u64, bytes: usize },
}

impl ChunkPublisher<'_> {
    /// Publishes the chunks of the reader in order, without those in `recorded`. After `no_more`, waits only for what is in
    /// flight.
    pub(crate) async fn publish(
        &self,
        from: Checkpoint,
        mut chunks: mpsc::Receiver<ReaderMessage>,
        mut recorded: RecordedChunks<'_>,
        mut stored: StoredRowMarker<'_>,
    ) -> Result<PublishReport, LoadError> {
        let mut published = PublishReport::nothing(from);
        let mut in_flight = FuturesOrdered::new();
        let mut window = PublishWindow::new(self.broker.max_in_flight(), MAX_BYTES_IN_FLIGHT);
        // The last chunk in flight may be too large.
        let (mut sure, mut is_unsure) = (SURE_BYTES, false);
        let mut batches = VecDeque::new();
        let mut checkpoints = CheckpointWriter::new(self.durable, |at| self.checkpoint(at));
        let (mut reading, mut skipped) = (true, 0);
        while reading || !in_flight.is_empty() {
            let has_room = in_flight.is_empty() || window.has_room() && !is_unsure;
            tokio::select! {
                Some(chunk) = in_flight.next() => match chunk {
                    Ok(ConfirmedChunk { next, bytes, rows }) => {
                        window.remove(bytes);
                        sure = sure.max(bytes);
                        rows.inspect(|rows| metrics::published(*rows));
                        published.chunks += u64::from(rows.is_some());
                        published.rows += rows.unwrap_or_default();
                        published.confirmed = next;
                        self.progress.set_rows_published(next.rows_before());
                        if self.finish_batches(&mut batches, next) {
                            checkpoints.confirmed(next, self.progress.rows_recorded());
                        }
                    }
                    Err(Unconfirmed::Stopped) => {
                        published.is_complete = false;
                        break;
                    }
                    Err(Unconfirmed::TooLarge { chunk, bytes }) => {
                        (published.is_complete, published.too_large) = (false, Some((chunk, bytes)));
                        break;
                    }
                },
                read = chunks.recv(), if reading && has_room => match read {
                    Some(ReaderMessage::Batch(batch)) => {
                        batches.push_back(batch);
                        if self.finish_batches(&mut batches, published.confirmed) {
                            checkpoints.confirmed(published.confirmed, self.progress.rows_recorded());
                        }
                    }
                    Some(ReaderMessage::Cut(CutChunk { chunk, next })) => {
                        let (id, rows) = (chunk.id.clone(), chunk.range.rows);
                        // An unreachable database may not answer before the shutdown.
                        let looking_up = async {
                            if recorded.has(chunk.id.chunk).await? {
                                return Ok(None);
                            }
                            Ok::<_, LoadError>(Some(stored.mark(chunk).await?))
                        };
                        let Some(missing) = self.no_more.run_until_cancelled(looking_up).await else {
                            // This chunk is not published, even if the reader has finished.
                            published.is_complete = false;
                            continue;
                        };
                        let missing = missing?;
                        if missing.is_none() {
                            skipped += rows;
                            self.progress.set_rows_skipped(skipped);
                        }
                        let bytes = missing.as_ref().map_or(0, |chunk| chunk.body.len());
                        window.add(bytes);
                        is_unsure = bytes > sure;
                        in_flight.push_back(self.confirm(&id, rows, missing, next));
                    }
                    None => reading = false,
                },
                () = checkpoints.follow() => {}
                () = self.no_more.cancelled(), if reading => {
                    published.is_complete = false;
                    reading = false;
                    chunks.close();
                }
            }
        }
        if published.confirmed != from {
            checkpoints.confirmed(published.confirmed, self.progress.rows_recorded());
        }
        checkpoints.finish().await;
        stored.log();
        // The last batch ends with the last chunk, which is cut only at the end of the source.
        self.finish_batches(&mut batches, published.confirmed);
        Ok(published)
    }

    /// Publishes a chunk, unless it is recorded.
    fn confirm(
        &self,
        id: &ChunkId,
        rows: u64,
        missing: Option<EncodedChunk>,
        next: Checkpoint,
    ) -> impl Future<Output = Result<ConfirmedChunk, Unconfirmed>> + use<'_> {
        let (broker, give_up, chunk) = (self.broker, self.give_up, id.chunk);
        let span = error_span!("chunk", run_id = %id.run_id, chunk, lane = ROUTE.lane.as_str());
        let message = missing.map(|chunk| Message::new(id.to_string(), Chunk::MESSAGE_TYPE, &id.run_id, chunk.body));
        let publishing = async move {
            let Some(message) = message else { return Ok(ConfirmedChunk { next, bytes: 0, rows: None }) };
            let bytes = message.body.len();
            match publish_until_confirmed(broker, ROUTE, message, give_up).await {
                Ok(()) => {
                    debug!("published {rows} rows");
                    Ok(ConfirmedChunk { next, bytes, rows: Some(rows) })
                }
                Err(ConfirmError::Stopped) => Err(Unconfirmed::Stopped),
                Err(ConfirmError::TooLarge { bytes }) => Err(Unconfirmed::TooLarge { chunk, bytes }),
            }
        };
        publishing.instrument(span)
    }

    /// Reports the batches whose rows are all confirmed. Returns whether there were any.
    fn finish_batches(&self, batches: &mut VecDeque<ReadBatch>, confirmed: Checkpoint) -> bool {
        let mut any = false;
        while let Some(batch) = batches.pop_front_if(|batch| batch.last_row <= confirmed.rows_before()) {
            any = true;
            // Fails if there is no receiver.
            let _ = self.batches.send(batch);
        }
        any
    }

    /// Writes a checkpoint. A lost one costs the next loader some work, but never a row.
    async fn checkpoint(&self, at: Checkpoint) {
        let Some(lease) = self.lease else { return };
        let Some(written) = within_grace(self.store.checkpoint(lease, at), self.give_up).await else {
            warn!("the checkpoint at row {} is not written in time", at.at.row);
            return;
        };
        match written {
            // The renewal of the lease is about to fail too.
            Err(error) if error.is_lease_lost() => debug!("{error}"),
            Err(error) => warn!("the checkpoint at row {} is not written: {error}", at.at.row),
            Ok(()) => {}
        }
    }
}

/// Logs each published batch, for loads that do not wait until it is stored.
pub(crate) async fn log_published_batches(mut batches: mpsc::UnboundedReceiver<ReadBatch>) {
    while let Some(batch) = batches.recv().await {
        info!("Batch {}: published {} transactions", batch.number, batch.transactions);
    }
}

//! Publishing: chunks go to the predictors, many at a time, and the checkpoint follows what is confirmed.

use std::collections::VecDeque;

use assay_queue::{Broker, Message, Route, Unpublished, Work, publish_until_confirmed};
use assay_store::Store;
use assay_transaction::{Checkpoint, Chunk, Cut, Lane, RunId};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::reading::{Batch, Read};
use crate::recorded::Recorded;
use crate::{LoadError, LoadProgress};

/// Where a loader's chunks go.
pub(crate) const ROUTE: Route = Route { work: Work::Transactions, lane: Lane::Batch };

/// Bytes of unconfirmed chunks, at which no more are published: what bounds memory where rows are long.
const MAX_BYTES_IN_FLIGHT: usize = 32 * 1024 * 1024;

/// Publishes the chunks of one run.
pub(crate) struct Publishing<'a> {
    pub(crate) broker: &'a dyn Broker,
    pub(crate) store: &'a dyn Store,
    pub(crate) run_id: &'a RunId,
    pub(crate) progress: &'a LoadProgress,
    /// Hears of each batch whose chunks are all confirmed.
    pub(crate) batches: mpsc::UnboundedSender<Batch>,
    /// Where nothing more is to be published.
    pub(crate) shutdown: &'a CancellationToken,
    /// Where nothing more is waited for either.
    pub(crate) stop: &'a CancellationToken,
}

/// A chunk that the broker has, and where the run goes on after it.
struct Confirmed {
    next: Checkpoint,
    bytes: usize,
}

impl Publishing<'_> {
    /// Publishes what the reader sends, in order, and tells up to where everything is confirmed; passes over what is
    /// `recorded`. At a shutdown it takes nothing more and waits for what is in flight.
    pub(crate) async fn publish(
        &self,
        from: Checkpoint,
        mut chunks: mpsc::Receiver<Read>,
        mut recorded: Recorded<'_>,
    ) -> Result<Checkpoint, LoadError> {
        let mut confirmed = from;
        let mut in_flight = FuturesOrdered::new();
        let mut bytes_in_flight = 0;
        let mut batches = VecDeque::new();
        let mut reading = true;
        while reading || !in_flight.is_empty() {
            let room = in_flight.len() < self.broker.max_in_flight() && bytes_in_flight < MAX_BYTES_IN_FLIGHT;
            tokio::select! {
                Some(chunk) = in_flight.next() => {
                    let Confirmed { next, bytes } = match chunk {
                        Ok(chunk) => chunk,
                        Err(LoadError::Stopped { .. }) => break,
                        Err(error) => return Err(error),
                    };
                    bytes_in_flight -= bytes;
                    confirmed = next;
                    self.progress.set_rows_published(confirmed.rows_before());
                    self.finish_batches(&mut batches, confirmed).await;
                }
                read = chunks.recv(), if reading && room => match read {
                    Some(Read::Batch(batch)) => {
                        batches.push_back(batch);
                        self.finish_batches(&mut batches, confirmed).await;
                    }
                    Some(Read::Cut(cut)) => {
                        let body = if recorded.has(cut.chunk.id.chunk).await? { None } else { Some(cut.chunk.encode()?) };
                        let bytes = body.as_ref().map_or(0, Vec::len);
                        bytes_in_flight += bytes;
                        in_flight.push_back(self.confirm(cut, body));
                    }
                    None => reading = false,
                },
                () = self.shutdown.cancelled(), if reading => {
                    reading = false;
                    chunks.close();
                }
            }
        }
        if confirmed != from {
            self.checkpoint(confirmed).await;
        }
        // The last batch ends with the last chunk, which is cut only at the end of the source.
        for batch in batches.drain(..).filter(|batch| batch.last_row <= confirmed.rows_before()) {
            let _ = self.batches.send(batch);
        }
        Ok(confirmed)
    }

    /// Publishes a chunk, unless it is recorded already.
    fn confirm(&self, cut: Cut, body: Option<Vec<u8>>) -> impl Future<Output = Result<Confirmed, LoadError>> + use<'_> {
        let (broker, stop, run_id) = (self.broker, self.stop, self.run_id);
        async move {
            let Some(body) = body else { return Ok(Confirmed { next: cut.next, bytes: 0 }) };
            let bytes = body.len();
            let message = Message::new(cut.chunk.id.to_string(), Chunk::MESSAGE_TYPE, run_id, body);
            match publish_until_confirmed(broker, ROUTE, message, stop).await {
                Ok(()) => Ok(Confirmed { next: cut.next, bytes }),
                Err(Unpublished::Stopped) => Err(LoadError::Stopped { run_id: run_id.clone(), row: 0 }),
                Err(Unpublished::TooLarge { bytes }) => {
                    Err(LoadError::ChunkTooLarge { chunk: cut.chunk.id.chunk, bytes })
                }
            }
        }
    }

    /// Moves the checkpoint over the batches whose every row is confirmed.
    async fn finish_batches(&self, batches: &mut VecDeque<Batch>, confirmed: Checkpoint) {
        let mut finished = false;
        while let Some(batch) = batches.pop_front_if(|batch| batch.last_row <= confirmed.rows_before()) {
            finished = true;
            // Nobody may listen.
            let _ = self.batches.send(batch);
        }
        if finished {
            self.checkpoint(confirmed).await;
        }
    }

    /// Keeps the position. A checkpoint that is lost costs a later loader some work, but never a row.
    async fn checkpoint(&self, at: Checkpoint) {
        if self.broker.survives_restart()
            && let Err(error) = self.store.checkpoint(self.run_id, at).await
        {
            warn!("the checkpoint at row {} is not kept: {error}", at.row);
        }
    }
}

/// Says of each batch that it is published: for loaders that do not wait until it is stored.
pub(crate) async fn say_published(mut batches: mpsc::UnboundedReceiver<Batch>) {
    while let Some(batch) = batches.recv().await {
        info!("Batch {}: published {} transactions", batch.number, batch.transactions);
    }
}

//! Publishes failed rows in parts.
//!
//! Guarantee: memory is bounded however many rows failed, and a part counts as sent only once the broker has confirmed it.

use assay_queue::{Broker, ConfirmError, Message, PublishWindow, QueueKind, Route, publish_until_confirmed};
use assay_report::replayable_entry;
use assay_store::{FailedRowSelection, Store};
use assay_transaction::{Entry, FailureClass, IdScheme, Lane, ReplayId, ReplayPart, Run, RunSettings};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::CommandError;

/// Bytes of unconfirmed parts at which publishing pauses.
const MAX_BYTES_IN_FLIGHT: usize = 8 * 1024 * 1024;
/// Most failed rows of a query, as each comes with a payload that may exceed 1 MiB.
const MAX_PAGE: u32 = 32;

/// Publishes the selected rows of a run.
pub(super) struct PartPublisher<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) broker: &'a dyn Broker,
    pub(super) run: &'a Run,
    pub(super) selection: &'a FailedRowSelection,
    pub(super) replay: u64,
    pub(super) shutdown: &'a CancellationToken,
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SentParts {
    pub(super) rows: u64,
    pub(super) parts: u64,
    /// Rows without a readable payload.
    pub(super) unreadable: u64,
}

impl PartPublisher<'_> {
    /// Publishes all, and returns once the broker has confirmed them.
    pub(super) async fn send(&self) -> Result<SentParts, CommandError> {
        let chunk_rows = self.run.settings.chunk_rows.get();
        let page_rows = chunk_rows.min(MAX_PAGE);
        let mut builder = PartBuilder::new(self.first_part(), self.run.settings.ids, chunk_rows);
        let mut sent = SentParts::default();
        let mut in_flight = FuturesUnordered::new();
        let mut window = PublishWindow::new(self.broker.max_in_flight(), MAX_BYTES_IN_FLIGHT);
        let (mut from, mut more) = (0, true);
        while more || !in_flight.is_empty() {
            if !more || !window.has_room() {
                if let Some(confirmed) = in_flight.next().await {
                    let (rows, bytes) = self.confirmed(confirmed, sent)?;
                    window.remove(bytes);
                    sent.rows += rows;
                    sent.parts += 1;
                }
                continue;
            }
            if self.shutdown.is_cancelled() {
                return Err(self.stopped(sent));
            }
            let page = self.store.failed_rows(&self.run.run_id, self.selection, from, page_rows).await?;
            more = !page.is_empty();
            from = page.last().map_or(from, |last| last.row + 1);
            let mut parts = Vec::new();
            for record in page.iter().filter(|record| !FailureClass::from(record.class.as_str()).is_tombstone()) {
                if let Some(entry) = replayable_entry(record) {
                    parts.extend(builder.add(entry, record.payload.len()));
                } else {
                    sent.unreadable += 1;
                    warn!("row {} cannot be sent: its stored payload cannot be read", record.row);
                }
            }
            if !more {
                parts.extend(builder.rest());
            }
            for part in parts {
                let (rows, body) = (part.transactions.len() as u64, part.encode()?);
                window.add(body.len());
                in_flight.push(self.publish(&part.id, rows, body));
            }
        }
        info!("sent {} rows in {} parts", sent.rows, sent.parts);
        Ok(sent)
    }

    fn first_part(&self) -> ReplayId {
        ReplayId { run_id: self.run.run_id.clone(), replay: self.replay, part: 0 }
    }

    fn publish(
        &self,
        id: &ReplayId,
        rows: u64,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<(u64, usize), ConfirmError>> + use<'_> {
        let bytes = body.len();
        let message = Message::new(id.to_string(), ReplayPart::MESSAGE_TYPE, &id.run_id, body);
        let (broker, route, shutdown) = (self.broker, route(self.run), self.shutdown);
        async move {
            publish_until_confirmed(broker, route, message, shutdown).await?;
            Ok((rows, bytes))
        }
    }

    fn confirmed(
        &self,
        published: Result<(u64, usize), ConfirmError>,
        sent: SentParts,
    ) -> Result<(u64, usize), CommandError> {
        published.map_err(|error| match error {
            ConfirmError::Stopped => self.stopped(sent),
            ConfirmError::TooLarge { bytes } => CommandError::PartTooLarge { bytes },
        })
    }

    fn stopped(&self, sent: SentParts) -> CommandError {
        CommandError::ReplayStopped { run_id: self.run.run_id.clone(), rows: sent.rows }
    }
}

/// The route of a run's rows, as the lane decides the type that they are stored with.
fn route(run: &Run) -> Route {
    let lane = if run.source.is_live() { Lane::Realtime } else { Lane::Batch };
    Route { kind: QueueKind::Transactions, lane }
}

/// Cuts rows into parts by rows and bytes, as chunks are.
struct PartBuilder {
    next: ReplayId,
    ids: IdScheme,
    max_rows: usize,
    entries: Vec<Entry>,
    bytes: usize,
}

impl PartBuilder {
    fn new(next: ReplayId, ids: IdScheme, max_rows: u32) -> Self {
        let max_rows = usize::try_from(max_rows).unwrap_or(usize::MAX);
        Self { next, ids, max_rows, entries: Vec::new(), bytes: 0 }
    }

    /// Adds a row; returns the part if it is full.
    fn add(&mut self, entry: Entry, bytes: usize) -> Option<ReplayPart> {
        self.entries.push(entry);
        self.bytes += bytes;
        let is_full = self.entries.len() >= self.max_rows || self.bytes >= RunSettings::CHUNK_BYTES.get() as usize;
        if is_full { self.rest() } else { None }
    }

    /// Returns the last part.
    fn rest(&mut self) -> Option<ReplayPart> {
        if self.entries.is_empty() {
            return None;
        }
        let id = self.next.clone();
        self.next.part += 1;
        self.bytes = 0;
        Some(ReplayPart { id, ids: self.ids, transactions: std::mem::take(&mut self.entries) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::failed;

    fn rows(part: &ReplayPart) -> (u64, usize) {
        (part.id.part, part.transactions.len())
    }

    #[test]
    fn parts_are_cut_by_rows_and_bytes() {
        let entry = || replayable_entry(&failed()).unwrap();
        let first = ReplayId { run_id: "run".parse().unwrap(), replay: 2, part: 0 };
        let mut builder = PartBuilder::new(first, IdScheme::V8, 3);
        assert_eq!(builder.rest(), None);
        assert_eq!(builder.add(entry(), 10), None);
        assert_eq!(builder.add(entry(), 10), None);
        assert_eq!(rows(&builder.add(entry(), 10).unwrap()), (0, 3));
        assert_eq!(rows(&builder.add(entry(), 1024 * 1024).unwrap()), (1, 1));
        assert_eq!(builder.add(entry(), 10), None);
        let last = builder.rest().unwrap();
        assert_eq!(rows(&last), (2, 1));
        assert_eq!((last.id.to_string().as_str(), last.ids), ("run/2/2", IdScheme::V8));
        assert_eq!(builder.rest(), None);
    }
}

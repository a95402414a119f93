//! Sources of events about objects that may have to be loaded, behind one trait.

use assay_source::ObjectEvent;
use assay_transaction::RunId;
use async_trait::async_trait;

/// A source of events. It is asked for the next one only when there is room for another load.
#[async_trait]
pub(crate) trait EventSource: Send {
    /// Waits for the next event. Logs errors, and retries. Safe to cancel: undelivered events come again.
    async fn next(&mut self) -> Event;

    /// Returns events that are on their way, as there is no room for now.
    fn put_back(&mut self) {}
}

/// An item of work. Whether there is anything to do is decided when it is dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkItem {
    /// An object that may be new.
    Object(ObjectEvent),
    /// A run that has lost its loader.
    Orphan(RunId),
}

pub(crate) struct Event {
    pub(crate) items: Vec<WorkItem>,
    pub(crate) receipt: Box<dyn WorkReceipt>,
}

/// Acknowledges an event. If it is dropped instead, the event comes again.
#[async_trait]
pub(crate) trait WorkReceipt: Send + Sync {
    /// The runs and their leases are committed, or there is nothing to do.
    async fn ack(self: Box<Self>);
}

/// For sources that find unfinished work again by themselves.
pub(super) struct NoReceipt;

#[async_trait]
impl WorkReceipt for NoReceipt {
    async fn ack(self: Box<Self>) {}
}

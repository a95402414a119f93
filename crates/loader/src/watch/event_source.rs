//! Where it is heard of objects that may have to be loaded: each kind of source behind one trait.

use assay_source::ObjectEvent;
use assay_transaction::RunId;
use async_trait::async_trait;

/// A source of work. What it has to tell is asked for only when there is room for another load.
#[async_trait]
pub(crate) trait EventSource: Send {
    /// What comes next; waits until something does. Safe to cancel: what was not given out comes again. Trouble is its own:
    /// it says so, and tries again.
    async fn next(&mut self) -> Event;

    /// There is no room for now: what is on its way, others may have.
    fn put_back(&mut self) {}
}

/// An item of work, as it was heard of. Whether there is anything to do about it is seen when it is taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkItem {
    /// An object that may be new.
    Object(ObjectEvent),
    /// A run that has lost its loader.
    Orphan(RunId),
}

/// Work, and whom to tell that it is taken care of.
pub(crate) struct Event {
    pub(crate) items: Vec<WorkItem>,
    pub(crate) receipt: Box<dyn Receipt>,
}

/// The way back to a source. Dropped without an acknowledgement, what was told comes again.
#[async_trait]
pub(crate) trait Receipt: Send + Sync {
    /// The runs, with their leases, are committed; or there is nothing to do.
    async fn ack(self: Box<Self>);
}

/// Of a source that nobody has to tell: what is left undone, it finds again.
pub(super) struct NoReceipt;

#[async_trait]
impl Receipt for NoReceipt {
    async fn ack(self: Box<Self>) {}
}

//! Messages of others: what a bucket says of its objects, in a queue of its own.
//!
//! They are pulled one by one, not pushed: who has no room for another piece of work leaves the next event where it is, and
//! any other process may have it.

use async_trait::async_trait;
use bytes::Bytes;

use crate::BrokerError;

/// A queue of events. It outlives the connection to the broker: after an outage the next pull works again.
#[async_trait]
pub trait EventQueue: Send {
    /// The next event; none where none waits at the moment. After an error it is worth another try a little later. Safe to
    /// cancel: what was on its way by then is what the next pull gives.
    async fn pull(&mut self) -> Result<Option<EventDelivery>, BrokerError>;

    /// Gives back what was on its way when a pull was cancelled: nobody is about to pull again.
    fn put_back(&mut self);
}

/// An event that somebody holds until it is settled. Dropped unsettled, it goes back to its queue.
pub struct EventDelivery {
    /// What is said, as it was sent.
    pub body: Bytes,
    receipt: Box<dyn EventReceipt>,
}

impl EventDelivery {
    pub(crate) fn new(body: Bytes, receipt: Box<dyn EventReceipt>) -> Self {
        Self { body, receipt }
    }

    /// Takes the event out of its queue: what it led to is committed. Where the broker does not hear of it, the event comes
    /// again.
    pub async fn ack(self) -> Result<(), BrokerError> {
        self.receipt.ack().await
    }

    /// Moves the event to the dead letters, as nobody can read it.
    pub async fn bury(self) -> Result<(), BrokerError> {
        self.receipt.bury().await
    }
}

impl std::fmt::Debug for EventDelivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EventDelivery").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The way back to the queue. Dropping it gives the event back.
#[async_trait]
pub(crate) trait EventReceipt: Send + Sync {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError>;
    async fn bury(self: Box<Self>) -> Result<(), BrokerError>;
}

/// The name of the queue of those who watch the same place: readable, short, and unlike that of any other place.
pub(crate) fn queue_name(watched: &str) -> String {
    let readable: String = watched
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '-' })
        .take(64)
        .collect();
    format!("assay.events.{readable}.{:08x}", fingerprint(watched))
}

/// FNV-1a, folded: the same with every version of everything, unlike the hashes of the standard library.
fn fingerprint(text: &str) -> u32 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_queue_is_readable_and_lasts() {
        assert_eq!(
            queue_name("s3://drops/in/"),
            format!("assay.events.s3---drops-in-.{:08x}", fingerprint("s3://drops/in/"))
        );
        assert_eq!(fingerprint(""), 0xcbf2_9ce4 ^ 0x8422_2325, "pinned: another hash would leave a queue behind");
        assert_ne!(queue_name("s3://drops/a b"), queue_name("s3://drops/a-b"));
        assert!(queue_name(&"x".repeat(2_000)).len() < 100);
    }
}

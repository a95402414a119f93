//! Bucket notifications, which other programs publish, in a queue of their own.
//!
//! They are pulled one by one: a process without room for more work leaves the next event in the queue for another process.

use async_trait::async_trait;
use bytes::Bytes;

use crate::BrokerError;

/// A queue of events. After an outage the next pull connects again.
#[async_trait]
pub trait EventQueue: Send {
    /// The next event, if one is waiting. After an error, try again a little later. Cancel-safe: the next pull returns what was on
    /// its way.
    async fn pull(&mut self) -> Result<Option<EventDelivery>, BrokerError>;

    /// Gives back what was on its way when a pull was cancelled, if no other pull follows soon.
    fn put_back(&mut self);
}

/// An event, held until it is settled. Dropped unsettled, it goes back to its queue.
pub struct EventDelivery {
    /// The content, as it was sent.
    pub body: Bytes,
    receipt: Box<dyn EventReceipt>,
}

impl EventDelivery {
    pub(crate) fn new(body: Bytes, receipt: Box<dyn EventReceipt>) -> Self {
        Self { body, receipt }
    }

    /// Removes the event from its queue. If the broker does not receive that, the event is redelivered.
    pub async fn ack(self) -> Result<(), BrokerError> {
        self.receipt.ack().await
    }

    /// Moves an unreadable event to the dead letters.
    pub async fn dead_letter(self) -> Result<(), BrokerError> {
        self.receipt.dead_letter().await
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
    async fn dead_letter(self: Box<Self>) -> Result<(), BrokerError>;
}

/// The name of the queue that watchers of the same place share: readable, short and unique to the place.
pub(crate) fn queue_name(watched: &str) -> String {
    let readable: String = watched
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '-' })
        .take(64)
        .collect();
    format!("assay.events.{readable}.{:08x}", fingerprint(watched))
}

/// FNV-1a, folded: stable across versions, unlike the hashes of the standard library.
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
    fn the_name_of_a_queue_is_readable_and_stable() {
        assert_eq!(
            queue_name("s3://drops/in/"),
            format!("assay.events.s3---drops-in-.{:08x}", fingerprint("s3://drops/in/"))
        );
        assert_eq!(fingerprint(""), 0xcbf2_9ce4 ^ 0x8422_2325, "pinned: another hash would leave a queue behind");
        assert_ne!(queue_name("s3://drops/a b"), queue_name("s3://drops/a-b"));
        assert!(queue_name(&"x".repeat(2_000)).len() < 100);
    }
}

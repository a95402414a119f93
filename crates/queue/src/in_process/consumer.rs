//! A consumer of a queue in memory. When it ends, its unsettled messages go back to the queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lock;
use super::queue::{MemoryQueue, QueuedMessage};
use crate::broker::{Receipt, Settlement};
use crate::memory::{MemoryBudget, MemoryPermit};
use crate::{Consumer, Delivery};

pub(super) struct InProcessConsumer {
    inner: Arc<Inner>,
    prefetch: u16,
    budget: MemoryBudget,
    closed: CancellationToken,
}

/// What a consumer shares with the receipts of its deliveries.
struct Inner {
    queue: Arc<MemoryQueue>,
    unsettled: Mutex<Unsettled>,
    settled: Notify,
}

#[derive(Default)]
struct Unsettled {
    held: BTreeMap<u64, Box<QueuedMessage>>,
    next_tag: u64,
}

impl Inner {
    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        lock(&self.unsettled)
    }
}

impl InProcessConsumer {
    pub(super) fn new(queue: Arc<MemoryQueue>, prefetch: u16, budget: MemoryBudget, closed: CancellationToken) -> Self {
        queue.add_consumer();
        let inner = Arc::new(Inner { queue, unsettled: Mutex::default(), settled: Notify::new() });
        Self { inner, prefetch: prefetch.max(1), budget, closed }
    }

    /// Takes the next message if it has the size that memory was taken for: another consumer may have been quicker.
    fn take(&self, bytes: usize, taken: MemoryPermit) -> Option<Delivery> {
        let held = self.inner.queue.pop(bytes)?;
        let (message, redelivered, death) = (held.message.clone(), held.returned > 0, held.death.clone());
        let mut unsettled = self.inner.unsettled();
        let tag = unsettled.next_tag;
        unsettled.next_tag += 1;
        unsettled.held.insert(tag, held);
        drop(unsettled);
        let receipt = QueueReceipt { inner: Arc::clone(&self.inner), tag };
        Some(Delivery::new(message, redelivered, death, Box::new(receipt), taken))
    }
}

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.closed.is_cancelled() {
                return None;
            }
            let may_take = self.inner.unsettled().held.len() < usize::from(self.prefetch);
            if may_take && let Some(bytes) = self.inner.queue.next_bytes() {
                let taken = tokio::select! {
                    () = self.closed.cancelled() => return None,
                    taken = self.budget.take(bytes) => taken,
                };
                match self.take(bytes, taken) {
                    Some(delivery) => return Some(delivery),
                    None => continue,
                }
            }
            tokio::select! {
                () = self.closed.cancelled() => return None,
                () = self.inner.queue.arrived(), if may_take => {}
                () = self.inner.settled.notified(), if !may_take => {}
            }
        }
    }

    fn prefetch(&self) -> u16 {
        self.prefetch
    }

    fn set_prefetch(&mut self, prefetch: u16) {
        self.prefetch = prefetch.max(1);
    }

    async fn close(self: Box<Self>) {}
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.inner.unsettled().held);
        self.inner.queue.requeue(held.into_values());
        self.inner.queue.remove_consumer();
    }
}

struct QueueReceipt {
    inner: Arc<Inner>,
    tag: u64,
}

impl Receipt for QueueReceipt {
    fn settle(self: Box<Self>, settlement: Settlement) {
        let Some(held) = self.inner.unsettled().held.remove(&self.tag) else { return };
        if settlement == Settlement::Release {
            self.inner.queue.requeue(std::iter::once(held));
        }
        self.inner.settled.notify_one();
    }
}

//! A consumer of a queue in memory: it holds what it was given until that is settled, and gives the rest back at its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::queue::{Held, Queue};
use crate::broker::{Receipt, Settlement};
use crate::memory::{Budget, Taken};
use crate::{Consumer, Delivery};

pub(super) struct InProcessConsumer {
    shared: Arc<Shared>,
    prefetch: u16,
    budget: Budget,
    closed: CancellationToken,
}

/// What a consumer has in common with the receipts of its deliveries.
struct Shared {
    queue: Arc<Queue>,
    holding: Mutex<Holding>,
    settled: Notify,
}

#[derive(Default)]
struct Holding {
    held: BTreeMap<u64, Box<Held>>,
    next_tag: u64,
}

impl Shared {
    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InProcessConsumer {
    pub(super) fn new(queue: Arc<Queue>, prefetch: u16, budget: Budget, closed: CancellationToken) -> Self {
        queue.consumer_came();
        let shared = Arc::new(Shared { queue, holding: Mutex::default(), settled: Notify::new() });
        Self { shared, prefetch: prefetch.max(1), budget, closed }
    }

    /// Takes the next message where it has as many bytes as were taken for it: another consumer may have been quicker.
    fn take(&self, bytes: usize, taken: Taken) -> Option<Delivery> {
        let held = self.shared.queue.pop(bytes)?;
        let (message, redelivered, death) = (held.message.clone(), held.returned > 0, held.death.clone());
        let mut holding = self.shared.holding();
        let tag = holding.next_tag;
        holding.next_tag += 1;
        holding.held.insert(tag, held);
        drop(holding);
        let receipt = TagReceipt { shared: Arc::clone(&self.shared), tag };
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
            let may_take = self.shared.holding().held.len() < usize::from(self.prefetch);
            if may_take && let Some(bytes) = self.shared.queue.next_bytes() {
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
                () = self.shared.queue.arrived(), if may_take => {}
                () = self.shared.settled.notified(), if !may_take => {}
            }
        }
    }

    fn prefetch(&self) -> u16 {
        self.prefetch
    }

    fn want(&mut self, prefetch: u16) {
        self.prefetch = prefetch.max(1);
    }

    async fn close(self: Box<Self>) {}
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.shared.holding().held);
        self.shared.queue.give_back(held.into_values());
        self.shared.queue.consumer_went();
    }
}

struct TagReceipt {
    shared: Arc<Shared>,
    tag: u64,
}

impl Receipt for TagReceipt {
    fn settle(self: Box<Self>, settlement: Settlement) {
        let Some(held) = self.shared.holding().held.remove(&self.tag) else { return };
        if settlement == Settlement::Release {
            self.shared.queue.give_back(std::iter::once(held));
        }
        self.shared.settled.notify_one();
    }
}

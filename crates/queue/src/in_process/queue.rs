//! One queue in memory. Its bound applies to publishers; what a consumer gives back always finds room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::lock;
use crate::{Death, Message, PublishWindow, QueueCounts};

/// How often a message may come back before it is dead-lettered, as `x-delivery-limit` in RabbitMQ.
const DELIVERY_LIMIT: u32 = 100;

pub(super) struct QueuedMessage {
    pub(super) message: Message,
    pub(super) death: Option<Death>,
    /// How often it came back from a consumer.
    pub(super) returned: u32,
}

impl QueuedMessage {
    pub(super) fn new(message: Message) -> Box<Self> {
        Box::new(Self { message, death: None, returned: 0 })
    }

    pub(super) fn dead(message: Message, death: Death) -> Box<Self> {
        Box::new(Self { message, death: Some(death), returned: 0 })
    }

    fn bytes(&self) -> usize {
        self.message.bytes()
    }
}

pub(super) struct MemoryQueue {
    name: String,
    /// Takes messages that came back too often; the dead letters themselves have no such queue, and keep them.
    dead_letters: Option<Arc<MemoryQueue>>,
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

struct State {
    ready: VecDeque<Box<QueuedMessage>>,
    /// Of what is ready.
    window: PublishWindow,
    consumers: u32,
}

impl State {
    fn push_back(&mut self, queued: Box<QueuedMessage>) {
        self.window.add(queued.bytes());
        self.ready.push_back(queued);
    }

    fn push_front(&mut self, queued: Box<QueuedMessage>) {
        self.window.add(queued.bytes());
        self.ready.push_front(queued);
    }
}

impl MemoryQueue {
    pub(super) fn new(name: String, window: PublishWindow, dead_letters: Option<Arc<MemoryQueue>>) -> Arc<Self> {
        let state = Mutex::new(State { ready: VecDeque::new(), window, consumers: 0 });
        Arc::new(Self { name, dead_letters, state, arrived: Notify::new(), left: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Appends a message; returns it if the queue is full.
    pub(super) fn push(&self, queued: Box<QueuedMessage>) -> Result<(), Box<QueuedMessage>> {
        let mut state = self.state();
        if !state.window.has_room() {
            return Err(queued);
        }
        state.push_back(queued);
        let has_room = state.window.has_room();
        drop(state);
        self.arrived.notify_one();
        if has_room {
            // Pass it on: the publisher notified before may have left without using the room.
            self.left.notify_one();
        }
        Ok(())
    }

    pub(super) async fn push_when_room(&self, mut queued: Box<QueuedMessage>) {
        while let Err(refused) = self.push(queued) {
            queued = refused;
            self.room().await;
        }
    }

    /// Waits until the queue is below its bound.
    pub(super) async fn room(&self) {
        loop {
            let left = self.left.notified();
            if self.state().window.has_room() {
                return;
            }
            left.await;
        }
    }

    /// The size of the next message's body.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        self.state().ready.front().map(|queued| queued.bytes())
    }

    /// The next message, if its body has that size.
    pub(super) fn pop(&self, bytes: usize) -> Option<Box<QueuedMessage>> {
        let mut state = self.state();
        let queued = state.ready.pop_front_if(|queued| queued.bytes() == bytes)?;
        state.window.remove(bytes);
        let has_more = !state.ready.is_empty();
        drop(state);
        self.left.notify_one();
        if has_more {
            // Pass it on: two messages that arrive while no consumer waits leave one notification only.
            self.arrived.notify_one();
        }
        Some(queued)
    }

    /// Returns when there may be a message to pop. Each message wakes one consumer.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes back a consumer's messages, to the front and in the order given; past the delivery limit, to the dead letters.
    pub(super) fn requeue(&self, returned: impl DoubleEndedIterator<Item = Box<QueuedMessage>>) {
        let mut state = self.state();
        let mut dead = Vec::new();
        for mut queued in returned.rev() {
            queued.returned = queued.returned.saturating_add(1);
            match &self.dead_letters {
                Some(_) if queued.returned > DELIVERY_LIMIT => dead.push(queued),
                _ => {
                    state.push_front(queued);
                    self.arrived.notify_one();
                }
            }
        }
        drop(state);
        let Some(dead_letters) = &self.dead_letters else { return };
        for queued in dead.into_iter().rev() {
            let death = Death { queue: self.name.clone(), reason: "delivery_limit".to_owned() };
            dead_letters.push_past_bound(QueuedMessage::dead(queued.message, death));
        }
    }

    /// For what a queue itself gives up: there is no other place for it.
    fn push_past_bound(&self, queued: Box<QueuedMessage>) {
        self.state().push_back(queued);
        self.arrived.notify_one();
    }

    pub(super) fn depth(&self) -> QueueCounts {
        let state = self.state();
        QueueCounts { messages: state.ready.len() as u64, consumers: state.consumers }
    }

    pub(super) fn add_consumer(&self) {
        self.state().consumers += 1;
    }

    pub(super) fn remove_consumer(&self) {
        let mut state = self.state();
        state.consumers = state.consumers.saturating_sub(1);
        let is_waiting = !state.ready.is_empty();
        drop(state);
        if is_waiting {
            // The consumer may have been woken for a message that it did not take.
            self.arrived.notify_one();
        }
    }
}

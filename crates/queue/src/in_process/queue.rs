//! One queue in memory: bounded towards publishers, in messages and in bytes, with a place to go back to for what consumers held.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Death, Depth, Message};

/// How often a message may come back before it is dead-lettered, as `x-delivery-limit` says in RabbitMQ.
const DELIVERY_LIMIT: u32 = 100;

/// A message in a queue or with a consumer.
pub(super) struct QueuedMessage {
    pub(super) message: Message,
    pub(super) death: Option<Death>,
    /// How often it came back from a consumer.
    pub(super) returned: u32,
}

impl QueuedMessage {
    pub(super) fn new(message: Message) -> Self {
        Self { message, death: None, returned: 0 }
    }

    pub(super) fn dead(message: Message, death: Death) -> Self {
        Self { message, death: Some(death), returned: 0 }
    }
}

pub(super) struct MemoryQueue {
    name: String,
    bounds: QueueBounds,
    /// Where messages go that came back too often; the dead letters themselves have no such place, and keep them.
    dead_letters: Option<Arc<MemoryQueue>>,
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

/// How much a queue takes from publishers. One message is always taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueBounds {
    pub(super) messages: usize,
    /// Of their bodies.
    pub(super) bytes: usize,
}

impl QueueBounds {
    fn has_room(self, messages: usize, bytes: usize) -> bool {
        messages == 0 || messages < self.messages && bytes < self.bytes
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Box<QueuedMessage>>,
    /// Of the bodies of what is ready.
    bytes: usize,
    consumers: u32,
}

impl State {
    fn push_back(&mut self, held: Box<QueuedMessage>) {
        self.bytes += held.message.body.len();
        self.ready.push_back(held);
    }

    fn push_front(&mut self, held: Box<QueuedMessage>) {
        self.bytes += held.message.body.len();
        self.ready.push_front(held);
    }

    fn has_room(&self, bounds: QueueBounds) -> bool {
        bounds.has_room(self.ready.len(), self.bytes)
    }
}

/// Messages that enter a queue later, bounded as the queue is.
#[derive(Debug, Default)]
pub(super) struct DelayedMessages(Mutex<(usize, usize)>);

impl DelayedMessages {
    /// Whether there is room for one of so many bytes; it has to [leave](Self::leave) then.
    pub(super) fn enter(&self, bytes: usize, bounds: QueueBounds) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = bounds.has_room(held.0, held.1);
        if has_room {
            *held = (held.0 + 1, held.1 + bytes);
        }
        has_room
    }

    pub(super) fn leave(&self, bytes: usize) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (held.0.saturating_sub(1), held.1.saturating_sub(bytes));
    }
}

impl MemoryQueue {
    pub(super) fn new(name: String, bounds: QueueBounds, dead_letters: Option<Arc<MemoryQueue>>) -> Self {
        Self { name, bounds, dead_letters, state: Mutex::default(), arrived: Notify::new(), left: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can leave the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message at the end; hands it back if the queue is full.
    pub(super) fn push(&self, held: Box<QueuedMessage>) -> Result<(), Box<QueuedMessage>> {
        let mut state = self.state();
        if !state.has_room(self.bounds) {
            return Err(held);
        }
        state.push_back(held);
        let has_room = state.has_room(self.bounds);
        drop(state);
        self.arrived.notify_one();
        if has_room {
            // Pass it on: whoever was told of room before may have gone away without using it.
            self.left.notify_one();
        }
        Ok(())
    }

    pub(super) async fn push_when_room(&self, mut held: Box<QueuedMessage>) {
        while let Err(refused) = self.push(held) {
            held = refused;
            self.room().await;
        }
    }

    /// Waits until the queue is below its bound.
    pub(super) async fn room(&self) {
        loop {
            let left = self.left.notified();
            if self.state().has_room(self.bounds) {
                return;
            }
            left.await;
        }
    }

    /// How many bytes the body of the next message has.
    pub(super) fn next_bytes(&self) -> Option<usize> {
        self.state().ready.front().map(|held| held.message.body.len())
    }

    /// The next message, where its body has so many bytes.
    pub(super) fn pop(&self, bytes: usize) -> Option<Box<QueuedMessage>> {
        let mut state = self.state();
        let held = state.ready.pop_front_if(|held| held.message.body.len() == bytes)?;
        state.bytes -= bytes;
        let more = !state.ready.is_empty();
        drop(state);
        self.left.notify_one();
        if more {
            // Pass it on: two messages that arrive while nobody listens leave one notice only.
            self.arrived.notify_one();
        }
        Some(held)
    }

    /// Ends when a message may be there to be popped. Each message wakes one consumer.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes back what a consumer held, to the front and in the order given; past the limit, to the dead letters.
    pub(super) fn requeue(&self, held: impl DoubleEndedIterator<Item = Box<QueuedMessage>>) {
        let mut state = self.state();
        let mut dead = Vec::new();
        for mut held in held.rev() {
            held.returned = held.returned.saturating_add(1);
            match &self.dead_letters {
                Some(_) if held.returned > DELIVERY_LIMIT => dead.push(held),
                _ => {
                    state.push_front(held);
                    self.arrived.notify_one();
                }
            }
        }
        drop(state);
        let Some(dead_letters) = &self.dead_letters else { return };
        for held in dead.into_iter().rev() {
            let death = Death { queue: self.name.clone(), reason: "delivery_limit".to_owned() };
            dead_letters.push_past_bound(Box::new(QueuedMessage::dead(held.message, death)));
        }
    }

    /// Past the bound: there is no other place for what the queue itself gives up.
    fn push_past_bound(&self, held: Box<QueuedMessage>) {
        self.state().push_back(held);
        self.arrived.notify_one();
    }

    pub(super) fn depth(&self) -> Depth {
        let state = self.state();
        Depth { messages: state.ready.len() as u64, consumers: state.consumers }
    }

    pub(super) fn add_consumer(&self) {
        self.state().consumers += 1;
    }

    pub(super) fn remove_consumer(&self) {
        let mut state = self.state();
        state.consumers = state.consumers.saturating_sub(1);
        let waiting = !state.ready.is_empty();
        drop(state);
        if waiting {
            // It may have been woken for a message that it did not take.
            self.arrived.notify_one();
        }
    }
}

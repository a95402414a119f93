//! The in-process broker of `assay run`: queues in memory, under the same contract as RabbitMQ's.
//!
//! Guarantees: a queue never holds more than its bound (but what was held by a consumer always has its place to go back
//! to); what a consumer held when it ended is redelivered, in order; what came back more than 100 times is
//! dead-lettered. What it holds is gone with the process: whoever needs more uses RabbitMQ.

mod consumer;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use self::consumer::InProcessConsumer;
use self::queue::{DelayedMessages, MemoryQueue, QueueBounds, QueuedMessage};
use crate::broadcast::{BACKLOG, ChannelListener};
use crate::consume::Delay;
use crate::memory::MemoryBudget;
use crate::message::MAX_MESSAGE_BYTES;
use crate::options::HOLD_TIMEOUT;
use crate::{Broker, BrokerError, Consumer, Death, Depth, EventQueue, Listener, Message, PublishError, Route, Work};

/// How many dead letters are kept: as many as in RabbitMQ.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Bodies that a queue takes from publishers, and as much again of those that come later: all stages are in this one process.
const MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Bodies in work of a queue, for the same reason fewer than in a process that has one stage alone. A writer needs them for its
/// batches: one in the database, and the next one.
const IN_WORK_BYTES: usize = 8 * 1024 * 1024;
/// A publish takes no time here; this is how many chunks a loader may have at hand to be published.
const IN_FLIGHT: usize = 256;

/// The broker of a single process.
pub struct InProcess {
    work: [Arc<MemoryQueue>; 4],
    delayed: [Arc<DelayedMessages>; 4],
    budgets: [MemoryBudget; 4],
    dead: Arc<MemoryQueue>,
    dead_budget: MemoryBudget,
    broadcasts: broadcast::Sender<Message>,
    bounds: QueueBounds,
    hold_timeout: Duration,
    closed: CancellationToken,
}

impl InProcess {
    /// Empty queues that take `max_length` messages each.
    #[expect(clippy::new_ret_no_self, reason = "stages take brokers of any kind")]
    pub fn new(max_length: usize) -> Arc<dyn Broker> {
        Self::with_hold_timeout(max_length, HOLD_TIMEOUT)
    }

    /// As [`InProcess::new`], with another [`Broker::hold_timeout`] than the default.
    pub fn with_hold_timeout(max_length: usize, hold_timeout: Duration) -> Arc<dyn Broker> {
        let dead_bounds = QueueBounds { messages: MAX_DEAD_LETTERS, bytes: MAX_QUEUE_BYTES };
        let dead = Arc::new(MemoryQueue::new("dead_letters".to_owned(), dead_bounds, None));
        let bounds = QueueBounds { messages: max_length.max(1), bytes: MAX_QUEUE_BYTES };
        let queue = |route: Route| Arc::new(MemoryQueue::new(route.to_string(), bounds, Some(Arc::clone(&dead))));
        Arc::new(Self {
            work: Route::ALL.map(queue),
            delayed: Default::default(),
            budgets: Route::ALL.map(|route| match route.work {
                Work::Transactions => MemoryBudget::new(IN_WORK_BYTES / 2),
                Work::Scored => MemoryBudget::new(IN_WORK_BYTES),
            }),
            dead: Arc::clone(&dead),
            dead_budget: MemoryBudget::new(IN_WORK_BYTES),
            broadcasts: broadcast::Sender::new(BACKLOG),
            bounds,
            hold_timeout,
            closed: CancellationToken::new(),
        })
    }

    fn queue(&self, route: Route) -> &Arc<MemoryQueue> {
        &self.work[route.index()]
    }

    fn check(&self, message: &Message) -> Result<(), PublishError> {
        if self.closed.is_cancelled() {
            return Err(PublishError::Unavailable("the in-process broker is closed".to_owned()));
        }
        match message.body.len() {
            bytes if bytes > MAX_MESSAGE_BYTES => Err(PublishError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Broker for InProcess {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.check(&message)?;
        self.queue(route).push(Box::new(QueuedMessage::new(message))).map_err(|_| PublishError::Full)
    }

    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError> {
        self.check(&message)?;
        let (delayed, bytes) = (Arc::clone(&self.delayed[route.index()]), message.body.len());
        if !delayed.enter(bytes, self.bounds) {
            return Err(PublishError::Full);
        }
        let (queue, closed) = (Arc::clone(self.queue(route)), self.closed.clone());
        tokio::spawn(async move {
            let enter = async {
                tokio::time::sleep(Delay::at_least(after).duration()).await;
                queue.push_when_room(Box::new(QueuedMessage::new(message))).await;
                delayed.leave(bytes);
            };
            tokio::select! {
                () = closed.cancelled() => {}
                () = enter => {}
            }
        });
        Ok(())
    }

    async fn bury(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError> {
        self.check(&message)?;
        let death = Death::of(route, reason);
        self.dead.push(Box::new(QueuedMessage::dead(message, death))).map_err(|_| PublishError::Full)
    }

    async fn room(&self, route: Route) {
        self.queue(route).room().await;
    }

    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let budget = self.budgets[route.index()].clone();
        Ok(Box::new(InProcessConsumer::new(Arc::clone(self.queue(route)), prefetch, budget, self.closed.clone())))
    }

    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let budget = self.dead_budget.clone();
        Ok(Box::new(InProcessConsumer::new(Arc::clone(&self.dead), prefetch, budget, self.closed.clone())))
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        self.check(&message)?;
        // It is no error that nobody listens.
        let _ = self.broadcasts.send(message);
        Ok(())
    }

    async fn announce(&self, _: &str, message: Message) -> Result<(), PublishError> {
        self.check(&message)
    }

    async fn listen(&self) -> Result<Box<dyn Listener>, BrokerError> {
        Ok(Box::new(ChannelListener { receiver: self.broadcasts.subscribe(), closing: self.closed.child_token() }))
    }

    async fn subscribe_events(&self, _: &str, _: &str) -> Result<Box<dyn EventQueue>, BrokerError> {
        Err(BrokerError::Usage("the broker in this process hears of no bucket: set AMQP_URL".to_owned()))
    }

    async fn depth(&self, route: Route) -> Result<Depth, BrokerError> {
        Ok(self.queue(route).depth())
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn max_in_flight(&self) -> usize {
        // More than a queue takes would only be refused, and come there in another order.
        IN_FLIGHT.min(self.bounds.messages)
    }

    fn hold_timeout(&self) -> Duration {
        self.hold_timeout
    }

    fn survives_restart(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.closed.cancel();
    }
}

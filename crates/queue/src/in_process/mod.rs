//! The in-process broker of `assay run`: queues in memory, under the same contract as RabbitMQ's.
//!
//! Guarantees: publishers never exceed a queue's bound; a consumer's unsettled messages are redelivered in order when it ends; a
//! message that came back more than 100 times is dead-lettered. Messages are lost with the process.

mod consumer;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use self::consumer::InProcessConsumer;
use self::queue::{MemoryQueue, QueuedMessage};
use crate::broadcast::{BACKLOG, ChannelListener};
use crate::consume::Delay;
use crate::memory::MemoryBudget;
use crate::message::MAX_MESSAGE_BYTES;
use crate::options::HOLD_TIMEOUT;
use crate::{
    BroadcastListener, Broker, BrokerError, Consumer, Death, EventQueue, Message, PublishError, PublishWindow,
    QueueCounts, QueueKind, Route,
};

/// Dead letters kept: as many as in RabbitMQ.
const MAX_DEAD_LETTERS: usize = 100_000;
/// Bytes of bodies in a queue, and as many of delayed messages: all stages share this process.
const MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of bodies in work from a queue, fewer than in a process with a single stage. A writer needs them for two batches: one in
/// the database, and the next one.
const IN_WORK_BYTES: usize = 8 * 1024 * 1024;
/// Publishing takes no time here; this bounds the chunks that a loader has ready to publish.
const IN_FLIGHT: usize = 256;

/// Locks what no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The broker of a single process.
pub struct InProcess {
    work: [Arc<MemoryQueue>; 4],
    delayed: [Arc<Mutex<PublishWindow>>; 4],
    budgets: [MemoryBudget; 4],
    dead: Arc<MemoryQueue>,
    dead_budget: MemoryBudget,
    broadcasts: broadcast::Sender<Message>,
    max_length: usize,
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
        let max_length = max_length.max(1);
        let window = || PublishWindow::new(max_length, MAX_QUEUE_BYTES);
        let dead_window = PublishWindow::new(MAX_DEAD_LETTERS, MAX_QUEUE_BYTES);
        let dead = MemoryQueue::new("dead_letters".to_owned(), dead_window, None);
        let queue = |route: Route| MemoryQueue::new(route.to_string(), window(), Some(Arc::clone(&dead)));
        Arc::new(Self {
            work: Route::ALL.map(queue),
            delayed: Route::ALL.map(|_| Arc::new(Mutex::new(window()))),
            budgets: Route::ALL.map(|route| match route.kind {
                QueueKind::Transactions => MemoryBudget::new(IN_WORK_BYTES / 2),
                QueueKind::Scored => MemoryBudget::new(IN_WORK_BYTES),
            }),
            dead: Arc::clone(&dead),
            dead_budget: MemoryBudget::new(IN_WORK_BYTES),
            broadcasts: broadcast::Sender::new(BACKLOG),
            max_length,
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
        match message.bytes() {
            bytes if bytes > MAX_MESSAGE_BYTES => Err(PublishError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Broker for InProcess {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.check(&message)?;
        self.queue(route).push(QueuedMessage::new(message)).map_err(|_| PublishError::Full)
    }

    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError> {
        self.check(&message)?;
        let (delayed, bytes) = (Arc::clone(&self.delayed[route.index()]), message.bytes());
        if !lock(&delayed).try_add(bytes) {
            return Err(PublishError::Full);
        }
        let (queue, closed) = (Arc::clone(self.queue(route)), self.closed.clone());
        tokio::spawn(async move {
            let enter = async {
                tokio::time::sleep(Delay::at_least(after).duration()).await;
                queue.push_when_room(QueuedMessage::new(message)).await;
                lock(&delayed).remove(bytes);
            };
            tokio::select! {
                () = closed.cancelled() => {}
                () = enter => {}
            }
        });
        Ok(())
    }

    async fn dead_letter(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError> {
        self.check(&message)?;
        let death = Death::of(route, reason);
        self.dead.push(QueuedMessage::dead(message, death)).map_err(|_| PublishError::Full)
    }

    async fn wait_for_room(&self, route: Route) {
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
        // Having no listener is no error.
        let _ = self.broadcasts.send(message);
        Ok(())
    }

    async fn publish_to_feed(&self, _: &str, message: Message) -> Result<(), PublishError> {
        self.check(&message)
    }

    async fn listen(&self) -> Result<Box<dyn BroadcastListener>, BrokerError> {
        Ok(Box::new(ChannelListener { receiver: self.broadcasts.subscribe(), closing: self.closed.child_token() }))
    }

    async fn subscribe_events(&self, _: &str, _: &str) -> Result<Box<dyn EventQueue>, BrokerError> {
        Err(BrokerError::Usage("the in-process broker receives no bucket events: set AMQP_URL".to_owned()))
    }

    async fn depth(&self, route: Route) -> Result<QueueCounts, BrokerError> {
        Ok(self.queue(route).depth())
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn max_in_flight(&self) -> usize {
        // More than a queue takes would be refused, and arrive in another order.
        IN_FLIGHT.min(self.max_length)
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

//! The seam: what a broker can do and how it can fail. `rabbitmq` and `in_process` implement it under one contract suite.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use assay_connect::SettingError;
use assay_transaction::Exit;
use async_trait::async_trait;
use tokio::time::Instant;
use tracing::Span;

use crate::memory::MemoryPermit;
use crate::{EventQueue, Message, Route};

/// A message broker. Delivery is at least once; a full queue refuses and never drops.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes, and returns once the broker has confirmed that the message is in the route's queue. After an error the message
    /// may be there nevertheless. At most [`Broker::max_in_flight`] messages are unconfirmed at a time; more wait.
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError>;

    /// As [`Broker::publish`], but the message enters the route's queue after 1, 10 or 60 seconds: `after`, rounded up.
    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError>;

    /// Publishes to the dead letters, with the route by which the message came and the reason.
    async fn dead_letter(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError>;

    /// Compresses the body if the broker sends it compressed, once for all attempts to publish the message.
    fn compress(&self, message: Message) -> Message {
        message
    }

    /// Waits, after a publish that found the queue full, until another attempt makes sense. Others may be quicker.
    async fn wait_for_room(&self, route: Route);

    /// Starts to consume a work queue. At most `prefetch` deliveries are unsettled at a time, fewer if messages are large
    /// ([`Consumer::prefetch`]).
    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Starts to consume the dead letters; their deliveries have a [`Death`].
    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Sends a message to all current [listeners](Broker::listen), in all processes: at most once, and possibly to none. A sender
    /// that needs more repeats it.
    async fn broadcast(&self, message: Message) -> Result<(), PublishError>;

    /// Publishes to the feed of predictions (`assay.predictions`, a topic exchange) under this routing key. It is no error that no
    /// queue is bound. Fails at once while the broker is unreachable. The in-process broker has no feed, and drops the message.
    async fn publish_to_feed(&self, key: &str, message: Message) -> Result<(), PublishError>;

    /// Starts to receive [broadcasts](Broker::broadcast), from now on.
    async fn listen(&self) -> Result<Box<dyn BroadcastListener>, BrokerError>;

    /// Starts to collect the events published to an exchange, from now on; watchers of the same place share a queue. The in-process
    /// broker refuses.
    async fn subscribe_events(&self, exchange: &str, watched: &str) -> Result<Box<dyn EventQueue>, BrokerError>;

    /// Messages waiting in a work queue, and its consumers.
    async fn depth(&self, route: Route) -> Result<QueueCounts, BrokerError>;

    /// Whether it takes and delivers messages at the moment; if not, why.
    fn health(&self) -> Result<(), String>;

    /// Most unconfirmed messages at a time (`PUBLISH_WINDOW`).
    fn max_in_flight(&self) -> usize;

    /// Longest time that work on a message may take before the message is deferred (`HOLD_TIMEOUT`).
    fn hold_timeout(&self) -> Duration;

    /// Whether published messages outlive this process.
    fn survives_restart(&self) -> bool;

    /// Ends the consumers, waits for unconfirmed messages (within the publish timeout), and disconnects. Unsettled deliveries are
    /// redelivered.
    async fn close(&self);
}

/// A subscription to one queue. It resumes by itself after an outage. Dropping it gives back the unsettled deliveries.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery, once there is memory for its body; `None` once the broker is closed. Cancel-safe.
    async fn next(&mut self) -> Option<Delivery>;

    /// Most unsettled deliveries at the moment.
    fn prefetch(&self) -> u16;

    /// Asks for another prefetch than the consumer was started with.
    fn set_prefetch(&mut self, prefetch: u16);

    /// Ends the subscription: settlements reach the broker, unsettled deliveries are given back.
    async fn close(self: Box<Self>);
}

/// A receiver of broadcasts. It resumes by itself after an outage, and misses what was sent meanwhile. A slow listener loses the
/// oldest messages.
#[async_trait]
pub trait BroadcastListener: Send {
    /// The next message; `None` once the broker is closed. Cancel-safe.
    async fn next(&mut self) -> Option<Message>;
}

/// A message that a consumer holds until it is settled. Dropped unsettled, it stays held until the consumer ends.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Why it is a dead letter; `None` if it is not.
    pub death: Option<Death>,
    /// When it was received.
    pub(crate) since: Instant,
    /// The trace of the work on it; ends with the delivery.
    pub(crate) span: Span,
    receipt: Box<dyn Receipt>,
    /// The memory of its body, until it is settled.
    _taken: MemoryPermit,
}

impl Delivery {
    pub(crate) fn new(
        message: Message,
        redelivered: bool,
        death: Option<Death>,
        receipt: Box<dyn Receipt>,
        taken: MemoryPermit,
    ) -> Self {
        Self { message, redelivered, death, since: Instant::now(), span: Span::none(), receipt, _taken: taken }
    }

    /// Removes the message from its queue. Stages return [`DeliveryOutcome`](crate::DeliveryOutcome)s instead of calling this. If the connection
    /// is lost before the broker receives it, the message is redelivered.
    pub fn ack(self) {
        self.receipt.settle(Settlement::Ack);
    }

    /// Gives the message back for immediate redelivery.
    pub fn release(self) {
        self.receipt.settle(Settlement::Release);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No body: it ends up in logs.
        let Self { message, redelivered, death, since: _, span: _, receipt: _, _taken: _ } = self;
        formatter
            .debug_struct("Delivery")
            .field("id", &message.id)
            .field("redelivered", redelivered)
            .field("death", death)
            .finish_non_exhaustive()
    }
}

/// How a delivery is settled towards the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    Ack,
    Release,
}

/// The way back from a delivery to its consumer. Settling after the consumer has ended does nothing.
pub(crate) trait Receipt: Send + Sync {
    fn settle(self: Box<Self>, settlement: Settlement);
}

/// Where and why a message became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The queue it was in, without the prefix, such as `transactions.batch`.
    pub queue: String,
    /// The reason, in the words of a stage or of RabbitMQ (`delivery_limit`).
    pub reason: String,
}

/// The longest reason, in bytes. RabbitMQ closes the connection over headers that exceed a frame of 128 KiB.
const MAX_REASON: usize = 1024;

impl Death {
    /// A message that a stage gives up. The reason is cut to what a header takes.
    pub(crate) fn of(route: Route, reason: &str) -> Self {
        Self { queue: route.to_string(), reason: reason[..reason.floor_char_boundary(MAX_REASON)].to_owned() }
    }

    /// For a dead letter without any header that says why.
    pub(crate) fn unknown() -> Self {
        Self { queue: String::new(), reason: "unknown".to_owned() }
    }
}

/// The size of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that wait for a consumer; unsettled deliveries are not counted.
    pub messages: u64,
    /// Consumers, in all processes.
    pub consumers: u32,
}

/// Why a message was not, or may not have been, published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is at its bound.
    #[error("the queue is full (its bound is set by QUEUE_MAX_LENGTH)")]
    Full,
    /// No queue takes messages of this route at the moment.
    #[error("no queue takes the message: the queue was deleted, and is about to be declared again")]
    Unroutable,
    /// The message exceeds the broker's limit; a retry does not help.
    #[error("the message of {bytes} bytes is larger than the broker takes: lower CHUNK_ROWS")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
    /// The broker is unreachable, or did not confirm in time.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a broker cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// A setting is wrong; a retry does not help.
    #[error("{0}")]
    Usage(String),
    /// The broker is unreachable.
    #[error("{0}")]
    Unreachable(String),
    /// Messages have to be worked off first.
    #[error("{0}")]
    NotYet(String),
}

impl From<SettingError> for BrokerError {
    fn from(error: SettingError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl BrokerError {
    /// The exit code of a program that ends for this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) | Self::NotYet(_) => Exit::DependencyUnavailable,
        }
    }
}

/// The health of a broker, as a check of the process's health.
pub fn health_check(broker: &Arc<dyn Broker>) -> impl Fn() -> Ready<Result<(), String>> + Send + 'static {
    let broker = Arc::clone(broker);
    move || ready(broker.health())
}

//! The seam: what a broker can do, and how it can fail. `rabbitmq` and `in_process` implement it under one contract suite.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use assay_credentials::CredentialsError;
use assay_transaction::Exit;
use async_trait::async_trait;
use tokio::time::Instant;

use crate::memory::MemoryPermit;
use crate::{EventQueue, Message, Route};

/// A broker of messages. Delivery is at least once; a queue that is full refuses and never drops.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes, and returns once the broker has taken the message over and put it into the route's queue. An error may
    /// leave the message published all the same. At most [`Broker::max_in_flight`] are under way at any time; more wait.
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError>;

    /// As [`Broker::publish`], but the message enters the route's queue later: after 1, 10 or 60 seconds, whichever is the
    /// next that is not shorter than `after` (60 at the most).
    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError>;

    /// Publishes to the dead letters, with the route the message came by and the reason it is given up for.
    async fn bury(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError>;

    /// Makes a message ready for its way, once, however often it is then published. Where the broker packs bodies, what it gives
    /// back has the body packed alone.
    fn compress(&self, message: Message) -> Message {
        message
    }

    /// Waits, after a publish that found the queue full, until it is worth another try. It promises nothing: others may
    /// have been quicker.
    async fn room(&self, route: Route);

    /// Starts to consume a work queue; at most `prefetch` deliveries are unsettled at any time, and fewer where messages are large
    /// ([`Consumer::prefetch`]).
    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Starts to consume the dead letters; their deliveries have a [`Death`].
    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Tells all who [`listen`](Broker::listen) at the moment, in all processes. Nobody may hear it, and nobody hears it twice:
    /// who needs more repeats it.
    async fn broadcast(&self, message: Message) -> Result<(), PublishError>;

    /// Tells all who have bound a queue to the feed of predictions (`assay.predictions`, a topic exchange) under this routing
    /// key. Nobody may: it is told all the same, and kept for nobody. While the broker is away it fails at once. The broker in
    /// this process has no others to tell.
    async fn announce(&self, key: &str, message: Message) -> Result<(), PublishError>;

    /// Starts to listen to what is [broadcast](Broker::broadcast), from now on.
    async fn listen(&self) -> Result<Box<dyn Listener>, BrokerError>;

    /// Starts to collect what others publish to an exchange, for all who watch the same place, from now on. The broker in
    /// this process has no others, and refuses.
    async fn subscribe_events(&self, exchange: &str, watched: &str) -> Result<Box<dyn EventQueue>, BrokerError>;

    /// What waits in a work queue, and who consumes it.
    async fn depth(&self, route: Route) -> Result<Depth, BrokerError>;

    /// Whether it takes and delivers messages at the moment; else why not.
    fn health(&self) -> Result<(), String>;

    /// How many publishes may be under way at a time (`PUBLISH_WINDOW`).
    fn max_in_flight(&self) -> usize;

    /// How long work on a message may take, or wait for what it needs, before the message is put off (`HOLD_TIMEOUT`).
    fn hold_timeout(&self) -> Duration;

    /// Whether what was published is still there after this process has ended.
    fn survives_restart(&self) -> bool;

    /// Ends the consumers, waits for publishes under way (within the publish timeout), and disconnects. What is unsettled
    /// will be redelivered.
    async fn close(&self);
}

/// A subscription to one queue. It outlives the connection to the broker: after an outage it goes on by itself. Dropping
/// it gives back what is unsettled.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery, once there is memory for its body; `None` once the broker is closed. Safe to cancel.
    async fn next(&mut self) -> Option<Delivery>;

    /// How many deliveries may be unsettled at the moment.
    fn prefetch(&self) -> u16;

    /// Asks for another number of deliveries than the consumer was started with, from now on.
    fn set_prefetch(&mut self, prefetch: u16);

    /// Ends the subscription: what has been settled reaches the broker, what has not is given back.
    async fn close(self: Box<Self>);
}

/// Who hears what is broadcast. It outlives the connection to the broker, but what is said during an outage it misses; and
/// of what it does not take it remembers the latest only.
#[async_trait]
pub trait Listener: Send {
    /// The next message; `None` once the broker is closed. Safe to cancel.
    async fn next(&mut self) -> Option<Message>;
}

/// A message that a consumer holds until it is settled. Dropped unsettled, it stays held until its consumer ends.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Why it is a dead letter, if it is one.
    pub death: Option<Death>,
    /// Since when it is held.
    pub(crate) since: Instant,
    receipt: Box<dyn Receipt>,
    /// The memory of its body, which is free again once it is settled.
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
        Self { message, redelivered, death, since: Instant::now(), receipt, _taken: taken }
    }

    /// Takes the message out of its queue: its work is done. Stages don't call this: they return
    /// [`Outcome`](crate::Outcome)s. Should the connection be lost before the broker learns of it, the message is redelivered.
    pub fn ack(self) {
        self.receipt.settle(Settlement::Ack);
    }

    /// Gives the message back, to be redelivered at once.
    pub fn release(self) {
        self.receipt.settle(Settlement::Release);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No body: it ends up in logs.
        let Self { message, redelivered, death, since: _, receipt: _, _taken: _ } = self;
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

/// The way back from a delivery to the consumer that holds it. Settling with a consumer that is gone does nothing.
pub(crate) trait Receipt: Send + Sync {
    fn settle(self: Box<Self>, settlement: Settlement);
}

/// Where and why a message became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The queue it was in, without the prefix, such as `transactions.batch`.
    pub queue: String,
    /// Why it was given up: a stage's words, or RabbitMQ's, such as `delivery_limit`.
    pub reason: String,
}

/// The longest reason, in bytes. RabbitMQ closes the connection for headers that don't fit into a frame, 128 KiB.
const MAX_REASON: usize = 1024;

impl Death {
    /// What a stage gives up. The reason is cut to what a header takes.
    pub(crate) fn of(route: Route, reason: &str) -> Self {
        Self { queue: route.to_string(), reason: reason[..reason.floor_char_boundary(MAX_REASON)].to_owned() }
    }

    /// A death of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { queue: String::new(), reason: "unknown".to_owned() }
    }
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer; held ones are not counted.
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
    #[error("no queue takes the message: somebody has deleted it, and it is about to be declared again")]
    Unroutable,
    /// The broker takes no message of this size; trying again changes nothing.
    #[error("the message of {bytes} bytes is larger than the broker takes: lower API_BATCH_SIZE")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
    /// The broker is away, or did not confirm in time.
    #[error("{0}")]
    Unavailable(String),
}

/// Why a broker cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// A setting is wrong; trying again changes nothing.
    #[error("{0}")]
    Usage(String),
    /// The broker is away.
    #[error("{0}")]
    Away(String),
}

impl From<CredentialsError> for BrokerError {
    fn from(error: CredentialsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl BrokerError {
    /// The exit code of a program that ends for this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Away(_) => Exit::DependencyAway,
        }
    }
}

/// Asks a broker for its health, in the form that a process's health is told in.
pub fn health_check(broker: &Arc<dyn Broker>) -> impl Fn() -> Ready<Result<(), String>> + Send + 'static {
    let broker = Arc::clone(broker);
    move || ready(broker.health())
}

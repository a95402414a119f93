//! All exchanges and queues of Assay, in one place.
//!
//! ```text
//! assay.chunks       (direct)  ─batch──────► transactions.batch
//! assay.transactions (direct)  ─realtime───► transactions.realtime
//! assay.scored       (direct)  ─batch──────► predictions.batch        (and realtime)
//! assay.chunks.delay (direct)  ─batch.1s───► transactions.batch.delay.chunks.1s, .10s, .60s ──expired──► back through assay.chunks
//! assay.transactions.delay (direct) ─realtime.1s─► transactions.realtime.delay.1s, .10s, .60s ──expired──► back to transactions.realtime
//! assay.scored.delay (direct)  ─batch.1s───► predictions.batch.delay.1s, .10s, .60s ──expired──► back to predictions.batch
//! assay.dead         (fanout)  ────────────► dead_letters
//! assay.events       (topic)   ─#──────────► assay.events.<place>, for the watchers of a place: S3 servers publish here
//! assay.control      (fanout)  ────────────► one queue for each broadcast listener, which ends with it
//! assay.predictions  (topic)   ─<key>──────► queues of other programs: the feed of stored predictions
//! ```
//!
//! Nothing is published to the default exchange, which reaches every queue: a stage's user is granted the exchanges that it
//! writes to (`deploy/rabbitmq`). Chunks have an exchange of their own, as whoever may publish live transactions must not be able
//! to forge a chunk; versions up to 0.1 published both to `assay.transactions`, and what only those need is removed by
//! `super::upgrade`. Users who may not declare need everything declared ([`DeclareMode::IfAllowed`]); bindings
//! cannot be checked, and exist if their queues do.
//!
//! Work queues dead-letter to `assay.dead` what came back more than [`DELIVERY_LIMIT`] times. All queues are quorum queues
//! with a bound that refuses publishers (`reject-publish`): nothing is ever dropped, and a dead letter without room stays in its
//! queue (`at-least-once`). Every argument used here means the same on RabbitMQ 3.10 and 4.x.
//!
//! A quorum queue checks its bound for later publishes only: messages under way when it is reached still enter. So a work queue
//! holds at most its bound, one window of unconfirmed messages (`PUBLISH_WINDOW`) for each publishing process, and the few that
//! return from delay queues at that time. Measured with a bound of 2000: a burst through a window of 256 leaves 2256; with a
//! bound of 5 and windows of 1, 16, 64 and 256: 6, 18, 65 and 257. A smaller window near the bound would save some hundred
//! places and cost speed.

use assay_transaction::Lane;
use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::failure::{FailureKind, classify};
use super::publish::PublishTarget;
use crate::consume::Delay;
use crate::events::queue_name;
use crate::{QueueKind, Route};

/// Live transactions, of the streamer and of other producers.
const TRANSACTIONS_EXCHANGE: &str = "assay.transactions";
/// Chunks, and replays of their rows.
const CHUNKS_EXCHANGE: &str = "assay.chunks";
const SCORED_EXCHANGE: &str = "assay.scored";
const DEAD_EXCHANGE: &str = "assay.dead";
const BROADCAST_EXCHANGE: &str = "assay.control";
const FEED_EXCHANGE: &str = "assay.predictions";

const CHUNKS: Route = Route { kind: QueueKind::Transactions, lane: Lane::Batch };
const LIVE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Realtime };

/// How often a message may return to its queue (its consumer died, or gave it back) before it is dead-lettered.
const DELIVERY_LIMIT: i64 = 100;
/// Dead letters are given back when people look at them; without a limit, RabbitMQ 4 would drop them after 20 times.
const DEAD_LETTERS_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// Room for dead letters. Once it is used up, consumers wait for the operator.
const DEAD_LETTERS_MAX_LENGTH: i64 = 100_000;

/// Room for events that are not pulled yet. More are refused; a listing finds their objects.
const EVENTS_MAX_LENGTH: i64 = 100_000;

/// Room for the broadcasts to one listener.
const LISTENER_MAX_LENGTH: i64 = 256;
const LISTENER_MAX_BYTES: i64 = 1024 * 1024;

/// How a new connection makes sure of exchanges and queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeclareMode {
    /// Declares them; a missing permission is an error.
    Always,
    /// Declares them, or checks that they exist if the user may not declare.
    IfAllowed,
    /// Neither declares nor checks anything.
    Never,
}

/// What versions up to 0.1 declared for chunks, and this one does not.
#[derive(Debug, Clone)]
pub(super) struct ChunksBefore {
    /// Where they published chunks; that of live transactions.
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) queue: ShortString,
    /// Messages in `queue` before it refuses more.
    pub(super) bound: u32,
    pub(super) delay_exchange: ShortString,
    pub(super) delays: [OldDelay; 3],
}

/// A delay queue whose messages return to `exchange`.
#[derive(Debug, Clone)]
pub(super) struct OldDelay {
    pub(super) queue: ShortString,
    pub(super) key: ShortString,
}

#[derive(Debug, Clone)]
pub(super) struct Topology {
    prefix: String,
    max_length: u32,
}

impl Topology {
    pub(super) fn new(prefix: &str, max_length: u32) -> Self {
        Self { prefix: prefix.to_owned(), max_length }
    }

    /// Short enough for AMQP: the length of the prefix is checked.
    fn name(&self, name: &str) -> ShortString {
        format!("{}{name}", self.prefix).into()
    }

    fn exchange(&self, route: Route) -> ShortString {
        self.name(match (route.kind, route.lane) {
            (QueueKind::Transactions, Lane::Batch) => CHUNKS_EXCHANGE,
            (QueueKind::Transactions, Lane::Realtime) => TRANSACTIONS_EXCHANGE,
            (QueueKind::Scored, _) => SCORED_EXCHANGE,
        })
    }

    /// The exchange of delayed messages.
    fn delay_exchange(&self, route: Route) -> ShortString {
        format!("{}.delay", self.exchange(route)).into()
    }

    fn delay_queue(&self, route: Route, delay: Delay) -> ShortString {
        // A queue's arguments never change: `transactions.batch.delay.1s` goes back to `assay.transactions`.
        let through = if route == CHUNKS { "chunks." } else { "" };
        self.name(&format!("{route}.delay.{through}{}", delay.name()))
    }

    /// What versions up to 0.1 declared for chunks, and this one does not.
    pub(super) fn before_chunks(&self) -> ChunksBefore {
        let delays = Delay::ALL.map(|delay| OldDelay {
            queue: self.name(&format!("{CHUNKS}.delay.{}", delay.name())),
            key: delay_key(CHUNKS, delay),
        });
        ChunksBefore {
            exchange: self.name(TRANSACTIONS_EXCHANGE),
            key: CHUNKS.lane.as_str().into(),
            queue: self.work_queue(CHUNKS),
            bound: self.max_length,
            delay_exchange: self.delay_exchange(LIVE),
            delays,
        }
    }

    pub(super) fn work_queue(&self, route: Route) -> ShortString {
        self.name(&route.to_string())
    }

    pub(super) fn dead_letters(&self) -> ShortString {
        self.name("dead_letters")
    }

    pub(super) fn work(&self, route: Route) -> PublishTarget {
        PublishTarget { exchange: self.exchange(route), key: route.lane.as_str().into(), mandatory: true }
    }

    pub(super) fn delayed(&self, route: Route, delay: Delay) -> PublishTarget {
        PublishTarget { exchange: self.delay_exchange(route), key: delay_key(route, delay), mandatory: true }
    }

    pub(super) fn dead(&self, route: Route) -> PublishTarget {
        PublishTarget { exchange: self.name(DEAD_EXCHANGE), key: route.to_string().into(), mandatory: true }
    }

    /// The exchange to which S3 servers publish their events.
    pub(super) fn events_exchange(&self, exchange: &str) -> ShortString {
        self.name(exchange)
    }

    /// The queue that the watchers of a place share.
    pub(super) fn events_queue(&self, watched: &str) -> ShortString {
        self.name(&queue_name(watched))
    }

    /// Declares exchange and queue. The S3 server may have declared the exchange already.
    pub(super) async fn declare_events(
        &self,
        channel: &Channel,
        exchange: ShortString,
        queue: ShortString,
    ) -> lapin::Result<()> {
        declare_exchange(channel, exchange.clone(), ExchangeKind::Topic).await?;
        let dead = (self.name(DEAD_EXCHANGE), queue.clone());
        declare_queue(channel, queue.clone(), bounded(Some(dead), EVENTS_MAX_LENGTH, DELIVERY_LIMIT)).await?;
        bind(channel, queue, exchange, "#".into()).await
    }

    /// The target of broadcasts; having no listener is no error.
    pub(super) fn control(&self) -> PublishTarget {
        PublishTarget { exchange: self.name(BROADCAST_EXCHANGE), key: "".into(), mandatory: false }
    }

    /// The target of the feed of predictions; having no reader is no error.
    pub(super) fn feed(&self, key: &str) -> PublishTarget {
        PublishTarget { exchange: self.name(FEED_EXCHANGE), key: key.into(), mandatory: false }
    }

    /// Declares a queue for one listener, which RabbitMQ deletes with its consumer. Returns its name.
    pub(super) async fn declare_listener(&self, channel: &Channel) -> lapin::Result<ShortString> {
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        // For a slow listener, the latest messages count.
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(LISTENER_MAX_LENGTH));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(LISTENER_MAX_BYTES));
        let queue = channel.queue_declare("".into(), options, arguments).await?.name().clone();
        bind(channel, queue.clone(), self.name(BROADCAST_EXCHANGE), "".into()).await?;
        Ok(queue)
    }

    /// A queue's name without the prefix.
    pub(super) fn without_prefix<'a>(&self, queue: &'a str) -> &'a str {
        queue.strip_prefix(&self.prefix).unwrap_or(queue)
    }

    /// Makes sure that everything exists. What exists already must be as declared here.
    pub(super) async fn ensure(&self, connection: &Connection, declaring: DeclareMode) -> lapin::Result<()> {
        if declaring == DeclareMode::Never {
            return Ok(());
        }
        match self.declare(connection).await {
            // RabbitMQ refuses to declare even what exists.
            Err(error) if declaring == DeclareMode::IfAllowed && classify(&error) == FailureKind::Refused => {
                self.find(connection).await
            }
            declared => declared,
        }
    }

    pub(super) fn exchanges(&self) -> [(ShortString, ExchangeKind); 9] {
        let scored = Route { kind: QueueKind::Scored, lane: Lane::Batch };
        [
            (self.exchange(LIVE), ExchangeKind::Direct),
            (self.exchange(CHUNKS), ExchangeKind::Direct),
            (self.exchange(scored), ExchangeKind::Direct),
            (self.delay_exchange(LIVE), ExchangeKind::Direct),
            (self.delay_exchange(CHUNKS), ExchangeKind::Direct),
            (self.delay_exchange(scored), ExchangeKind::Direct),
            (self.name(BROADCAST_EXCHANGE), ExchangeKind::Fanout),
            (self.name(FEED_EXCHANGE), ExchangeKind::Topic),
            (self.name(DEAD_EXCHANGE), ExchangeKind::Fanout),
        ]
    }

    /// All queues that outlive a connection, with their arguments.
    pub(super) fn queues(&self) -> Vec<(ShortString, FieldTable)> {
        let dead_letters = bounded(None, DEAD_LETTERS_MAX_LENGTH, DEAD_LETTERS_DELIVERY_LIMIT);
        let mut queues = vec![(self.dead_letters(), dead_letters)];
        for route in Route::ALL {
            let queue = self.work_queue(route);
            let dead = (self.name(DEAD_EXCHANGE), queue.clone());
            queues.push((queue, bounded(Some(dead), self.max_length.into(), DELIVERY_LIMIT)));
            for delay in Delay::ALL {
                let back = (self.exchange(route), route.lane.as_str().into());
                // A bound of its own: a full work queue must not block retries.
                let mut arguments = bounded(Some(back), self.max_length.into(), DELIVERY_LIMIT);
                let millis = i64::try_from(delay.duration().as_millis()).unwrap_or(i64::MAX);
                arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
                queues.push((self.delay_queue(route, delay), arguments));
            }
        }
        queues
    }

    /// Which queue takes what from which exchange, by which key.
    fn bindings(&self) -> Vec<(ShortString, ShortString, ShortString)> {
        let mut bindings = vec![(self.dead_letters(), self.name(DEAD_EXCHANGE), "".into())];
        for route in Route::ALL {
            bindings.push((self.work_queue(route), self.exchange(route), route.lane.as_str().into()));
            for delay in Delay::ALL {
                bindings.push((self.delay_queue(route, delay), self.delay_exchange(route), delay_key(route, delay)));
            }
        }
        bindings
    }

    /// Checks that everything exists, which needs no permission. The first missing part is the error.
    async fn find(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        for (name, kind) in self.exchanges() {
            find_exchange(&channel, name, kind).await?;
        }
        for (name, _) in self.queues() {
            find_queue(&channel, name).await?;
        }
        channel.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await
    }

    async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        // Without waiting for each answer: forty round trips are most of what a program's start takes.
        try_join_all(self.exchanges().map(|(name, kind)| declare_exchange(&channel, name, kind))).await?;
        try_join_all(self.queues().into_iter().map(|(name, arguments)| declare_queue(&channel, name, arguments)))
            .await?;
        let bindings = self.bindings().into_iter();
        try_join_all(bindings.map(|(queue, exchange, key)| bind(&channel, queue, exchange, key))).await?;
        channel.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await
    }
}

fn delay_key(route: Route, delay: Delay) -> ShortString {
    format!("{}.{}", route.lane.as_str(), delay.name()).into()
}

/// The arguments of a quorum queue with a bound that refuses publishers, and the target of its dead letters.
fn bounded(dead: Option<(ShortString, ShortString)>, length: i64, delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(delivery_limit));
    if let Some((exchange, key)) = dead {
        arguments.insert("x-dead-letter-exchange".into(), text(exchange.as_str()));
        arguments.insert("x-dead-letter-routing-key".into(), text(key.as_str()));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    arguments
}

pub(super) async fn declare_exchange(channel: &Channel, name: ShortString, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name, kind, options, FieldTable::default()).await
}

/// Checks that an exchange exists.
pub(super) async fn find_exchange(channel: &Channel, name: ShortString, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name, kind, options, FieldTable::default()).await
}

/// Checks that a queue exists, and looks at it.
pub(super) async fn find_queue(channel: &Channel, name: ShortString) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name, options, FieldTable::default()).await
}

pub(super) async fn declare_queue(channel: &Channel, name: ShortString, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name, options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, queue: ShortString, exchange: ShortString, key: ShortString) -> lapin::Result<()> {
    channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
}

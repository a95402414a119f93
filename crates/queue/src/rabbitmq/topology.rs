//! All exchanges and queues of Assay, in one place.
//!
//! ```text
//! assay.transactions (direct)  ─batch──────► transactions.batch       (and realtime)
//! assay.scored       (direct)  ─batch──────► predictions.batch        (and realtime)
//! assay.transactions.delay (direct) ─batch.1s─► transactions.batch.delay.1s, .10s, .60s ──expired──► back to transactions.batch
//! assay.scored.delay (direct)  ─batch.1s───► predictions.batch.delay.1s, .10s, .60s ──expired──► back to predictions.batch
//! assay.dead         (fanout)  ────────────► dead_letters
//! assay.events       (topic)   ─#──────────► assay.events.<place>, for those who watch that place: others publish here
//! assay.control      (fanout)  ────────────► one queue for each listener, which ends with it
//! assay.predictions  (topic)   ─<key>──────► whatever anybody binds to it: the feed of what was stored
//! ```
//!
//! Nothing is published to the default exchange, through which everybody who may use it reaches every queue: what a stage may
//! write to is what its user is granted (`deploy/rabbitmq`). Whoever may not declare finds everything declared
//! ([`DeclareMode::IfAllowed`]); bindings cannot be looked at, and come with what was declared.
//!
//! Work queues dead-letter to `assay.dead` what came back more than [`DELIVERY_LIMIT`] times. All queues are quorum queues
//! with a bound that refuses publishers (`reject-publish`): nothing is ever dropped, and a dead letter that finds no room
//! stays where it is (`at-least-once`). Every argument used here means the same on RabbitMQ 3.10 and 4.x.
//!
//! A quorum queue checks its bound for publishes that are yet to come: what is under way when it is reached still gets in. So
//! a work queue holds at most its bound and one window of unconfirmed publishes (`PUBLISH_WINDOW`) for each process that
//! publishes, and the few that come back from delay queues at that time. Measured with a bound of 2000: a burst through a
//! window of 256 leaves 2256; of 5 through windows of 1, 16, 64 and 256: 6, 18, 65 and 257. Publishing less at a time near
//! the bound would spare some hundred places and cost speed.

use assay_transaction::Lane;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::failure::{FailureKind, classify};
use super::publish::PublishTarget;
use crate::consume::Delay;
use crate::events::queue_name;
use crate::{Route, Work};

/// How often a message may come back to its queue (its consumer died, or gave it back) before it is dead-lettered.
const DELIVERY_LIMIT: i64 = 100;
/// Dead letters are given back by those who look at them: RabbitMQ 4 would drop them after 20 times, had they no limit.
const DEAD_LETTERS_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// Room for dead letters. Once it is used up, consumers wait until somebody looks at them.
const DEAD_LETTERS_MAX_LENGTH: i64 = 100_000;

/// Room for events that nobody has pulled yet. Whoever publishes more is refused; a listing finds what was not heard of.
const EVENTS_MAX_LENGTH: i64 = 100_000;

/// How much waits for one listener.
const LISTENER_MAX_LENGTH: i64 = 256;
const LISTENER_MAX_BYTES: i64 = 1024 * 1024;

/// What is done about exchanges and queues at the start of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeclareMode {
    /// They are declared; it is an error not to be allowed to.
    Always,
    /// They are declared, or looked for where the user may not declare them.
    IfAllowed,
}

/// The names and bounds of one installation.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    prefix: String,
    max_length: u32,
}

impl Topology {
    pub(super) fn new(prefix: &str, max_length: u32) -> Self {
        Self { prefix: prefix.to_owned(), max_length }
    }

    /// A name of ours; the prefix is checked to be short, and so are these.
    fn name(&self, name: &str) -> ShortString {
        format!("{}{name}", self.prefix).into()
    }

    fn exchange(&self, work: Work) -> ShortString {
        match work {
            Work::Transactions => self.name("assay.transactions"),
            Work::Scored => self.name("assay.scored"),
        }
    }

    /// Where messages go that are to come back to a queue of this kind of work.
    fn delay_exchange(&self, work: Work) -> ShortString {
        match work {
            Work::Transactions => self.name("assay.transactions.delay"),
            Work::Scored => self.name("assay.scored.delay"),
        }
    }

    fn dead_exchange(&self) -> ShortString {
        self.name("assay.dead")
    }

    fn control_exchange(&self) -> ShortString {
        self.name("assay.control")
    }

    fn feed_exchange(&self) -> ShortString {
        self.name("assay.predictions")
    }

    fn delay_queue(&self, route: Route, delay: Delay) -> ShortString {
        self.name(&format!("{route}.delay.{}", delay.name()))
    }

    pub(super) fn work_queue(&self, route: Route) -> ShortString {
        self.name(&route.to_string())
    }

    pub(super) fn dead_letters(&self) -> ShortString {
        self.name("dead_letters")
    }

    pub(super) fn work(&self, route: Route) -> PublishTarget {
        PublishTarget { exchange: self.exchange(route.work), key: route.lane.as_str().into(), mandatory: true }
    }

    pub(super) fn delayed(&self, route: Route, delay: Delay) -> PublishTarget {
        PublishTarget { exchange: self.delay_exchange(route.work), key: delay_key(route, delay), mandatory: true }
    }

    pub(super) fn dead(&self, route: Route) -> PublishTarget {
        PublishTarget { exchange: self.dead_exchange(), key: route.to_string().into(), mandatory: true }
    }

    /// Where others publish what happens to their objects.
    pub(super) fn events_exchange(&self, exchange: &str) -> ShortString {
        self.name(exchange)
    }

    /// Where those find it who watch a place.
    pub(super) fn events_queue(&self, watched: &str) -> ShortString {
        self.name(&queue_name(watched))
    }

    /// Declares both. The exchange may be there already: whoever publishes may have declared it.
    pub(super) async fn declare_events(
        &self,
        channel: &Channel,
        exchange: ShortString,
        queue: ShortString,
    ) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, FieldTable::default()).await?;
        let dead = (self.dead_exchange(), queue.clone());
        declare_queue(channel, queue.clone(), bounded(Some(dead), EVENTS_MAX_LENGTH, DELIVERY_LIMIT)).await?;
        bind(channel, queue, exchange, "#").await
    }

    /// Where all who listen are told; it is no error that nobody does.
    pub(super) fn control(&self) -> PublishTarget {
        PublishTarget { exchange: self.control_exchange(), key: "".into(), mandatory: false }
    }

    /// Where whoever wants to hears of predictions; it is no error that nobody does.
    pub(super) fn feed(&self, key: &str) -> PublishTarget {
        PublishTarget { exchange: self.feed_exchange(), key: key.into(), mandatory: false }
    }

    /// Declares a queue for one listener, which RabbitMQ deletes with its consumer. Returns its name.
    pub(super) async fn declare_listener(&self, channel: &Channel) -> lapin::Result<ShortString> {
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        // Should anything keep the listener from being told, the latest is what counts.
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(LISTENER_MAX_LENGTH));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(LISTENER_MAX_BYTES));
        let queue = channel.queue_declare("".into(), options, arguments).await?.name().clone();
        bind(channel, queue.clone(), self.control_exchange(), "").await?;
        Ok(queue)
    }

    /// A queue's name as people know it.
    pub(super) fn without_prefix<'a>(&self, queue: &'a str) -> &'a str {
        queue.strip_prefix(&self.prefix).unwrap_or(queue)
    }

    /// Sees to it that everything is there. What is there already must be as declared here.
    pub(super) async fn ensure(&self, connection: &Connection, declaring: DeclareMode) -> lapin::Result<()> {
        match self.declare(connection).await {
            // Refused is what would have been declared, though it may be there.
            Err(error) if declaring == DeclareMode::IfAllowed && classify(&error) == FailureKind::Refused => {
                self.find(connection).await
            }
            declared => declared,
        }
    }

    fn exchanges(&self) -> [(ShortString, ExchangeKind); 7] {
        [
            (self.exchange(Work::Transactions), ExchangeKind::Direct),
            (self.exchange(Work::Scored), ExchangeKind::Direct),
            (self.delay_exchange(Work::Transactions), ExchangeKind::Direct),
            (self.delay_exchange(Work::Scored), ExchangeKind::Direct),
            (self.control_exchange(), ExchangeKind::Fanout),
            (self.feed_exchange(), ExchangeKind::Topic),
            (self.dead_exchange(), ExchangeKind::Fanout),
        ]
    }

    /// Looks for everything, which needs no rights. What is missing first is the error.
    async fn find(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        for (name, kind) in self.exchanges() {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(name, kind, options, FieldTable::default()).await?;
        }
        let work = Route::ALL.into_iter().flat_map(|route| {
            let delayed = Delay::ALL.map(|delay| self.delay_queue(route, delay));
            std::iter::once(self.work_queue(route)).chain(delayed)
        });
        for queue in work.chain([self.dead_letters()]) {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue, options, FieldTable::default()).await?;
        }
        channel.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await
    }

    async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        for (name, kind) in self.exchanges() {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(name, kind, options, FieldTable::default()).await?;
        }
        self.declare_dead_letters(&channel).await?;
        for route in Route::ALL {
            self.declare_work(&channel, route).await?;
        }
        channel.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into()).await
    }

    async fn declare_work(&self, channel: &Channel, route: Route) -> lapin::Result<()> {
        let queue = self.work_queue(route);
        let dead = (self.dead_exchange(), queue.clone());
        declare_queue(channel, queue.clone(), bounded(Some(dead), self.max_length.into(), DELIVERY_LIMIT)).await?;
        let exchange = self.exchange(route.work);
        bind(channel, queue, exchange.clone(), route.lane.as_str()).await?;
        for delay in Delay::ALL {
            let back = (exchange.clone(), Lane::as_str(route.lane).into());
            // A length of its own: a full work queue must not keep retries from being taken over.
            let mut arguments = bounded(Some(back), self.max_length.into(), DELIVERY_LIMIT);
            let millis = i64::try_from(delay.duration().as_millis()).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
            declare_queue(channel, self.delay_queue(route, delay), arguments).await?;
            let (from, key) = (self.delay_exchange(route.work), delay_key(route, delay));
            bind(channel, self.delay_queue(route, delay), from, key.as_str()).await?;
        }
        Ok(())
    }

    async fn declare_dead_letters(&self, channel: &Channel) -> lapin::Result<()> {
        let queue = self.dead_letters();
        let arguments = bounded(None, DEAD_LETTERS_MAX_LENGTH, DEAD_LETTERS_DELIVERY_LIMIT);
        declare_queue(channel, queue.clone(), arguments).await?;
        bind(channel, queue, self.dead_exchange(), "").await
    }
}

fn delay_key(route: Route, delay: Delay) -> ShortString {
    format!("{}.{}", route.lane.as_str(), delay.name()).into()
}

/// The arguments of a quorum queue that refuses what it has no room for, and where it puts what it gives up.
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

async fn declare_queue(channel: &Channel, name: ShortString, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name, options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, queue: ShortString, exchange: ShortString, key: &str) -> lapin::Result<()> {
    channel.queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), FieldTable::default()).await
}

//! The broker on RabbitMQ, 3.10 to 4.x.
//!
//! - `connect`: connections that reconnect by themselves; `failure`: what errors mean
//! - `topology`: all exchanges and queues; `declare`: declaring them for others; `upgrade`: removing what only older versions need;
//!   `policies`: warnings about policies; `diagnose`: what `assay doctor` finds
//! - `publish`: one task and one channel for all publishes
//! - `consume`: one task and one channel for each subscription: deliveries, broadcasts, events
//! - `wire`: messages as AMQP properties and headers, and compression; `inbound`: repairs of external messages
//!
//! Publishing and consuming have separate connections: when RabbitMQ is short of memory or disk, it stops reading from
//! connections that publish, and acknowledgements must still reach it. Dead letters and events, which hold external messages,
//! have their own connections too, so that a bad message disturbs no other work.

mod connect;
mod consume;
mod declare;
mod diagnose;
mod failure;
mod inbound;
mod policies;
mod publish;
mod topology;
mod upgrade;
mod wire;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assay_transaction::Lane;
use async_trait::async_trait;
use lapin::types::ShortString;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::connect::{ConnectionSettings, NOT_ALLOWED, PersistentConnection};
use self::consume::events::RabbitMqEventQueue;
use self::consume::{ConsumerOptions, RabbitMqConsumer, broadcast as listener};
use self::publish::Publisher;
use self::publish::full_queue::FullQueueGate;
use self::topology::DeclareMode;
use crate::consume::Delay;
use crate::memory::{MemoryBudget, PrefetchShares, REALTIME_BYTES};
use crate::{
    BroadcastListener, Broker, BrokerError, BrokerOptions, Consumer, Death, EventQueue, Message, PublishError,
    QueueCounts, QueueKind, Route,
};

pub(crate) use self::declare::{declare as declare_exchange, declare_topology};
pub(crate) use self::diagnose::{diagnose, round_trip::round_trip};
pub(crate) use self::inbound::damages;
pub(crate) use self::upgrade::finish as finish_upgrade;

pub(crate) struct RabbitMq {
    settings: Arc<ConnectionSettings>,
    startup: Duration,
    hold_timeout: Duration,
    publishing: Arc<PersistentConnection>,
    publisher: Publisher,
    /// Opened by the first consumer.
    consuming: OnceCell<Arc<PersistentConnection>>,
    dead_letters: OnceCell<Arc<PersistentConnection>>,
    events: OnceCell<Arc<PersistentConnection>>,
    gates: [FullQueueGate; 4],
    /// For what is in work, by work queue.
    budgets: [MemoryBudget; 4],
    dead_budget: MemoryBudget,
    shares: PrefetchShares,
    /// Of its consumer of live transactions.
    priority: i32,
    /// Set once RabbitMQ refused a broadcast: it ends the connection each time.
    may_not_broadcast: AtomicBool,
    consumers: TaskTracker,
    closing: CancellationToken,
}

/// Why nothing is broadcast any more.
const NO_BROADCASTS: &str = "RabbitMQ does not let the user of AMQP_URL publish to the control exchange";

impl RabbitMq {
    pub(crate) async fn connect(options: &BrokerOptions, stage: &str, startup: Duration) -> Result<Self, BrokerError> {
        let settings = Arc::new(ConnectionSettings::new(options, stage, DeclareMode::IfAllowed)?);
        let publishing = Arc::new(PersistentConnection::open(&settings, startup).await?);
        let asking = Arc::clone(&settings);
        tokio::spawn(async move { asking.warn_of_policies().await });
        let publisher = Publisher::start(&publishing, options.publish_window, options.publish_timeout);
        Ok(Self {
            settings,
            startup,
            hold_timeout: options.hold_timeout,
            publishing,
            publisher,
            consuming: OnceCell::new(),
            dead_letters: OnceCell::new(),
            events: OnceCell::new(),
            gates: Default::default(),
            budgets: Route::ALL.map(MemoryBudget::of),
            dead_budget: MemoryBudget::new(REALTIME_BYTES),
            shares: PrefetchShares::default(),
            priority: any_priority(),
            may_not_broadcast: AtomicBool::new(false),
            consumers: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    async fn opened(
        &self,
        connection: &OnceCell<Arc<PersistentConnection>>,
    ) -> Result<Arc<PersistentConnection>, BrokerError> {
        let open = async || PersistentConnection::open(&self.settings, self.startup).await.map(Arc::new);
        connection.get_or_try_init(open).await.cloned()
    }

    async fn consuming(&self) -> Result<Arc<PersistentConnection>, BrokerError> {
        self.opened(&self.consuming).await
    }

    fn connections(&self) -> impl Iterator<Item = &Arc<PersistentConnection>> {
        let opened = [&self.consuming, &self.dead_letters, &self.events].into_iter().filter_map(OnceCell::get);
        // The publishing one last, as ending consumers may still publish.
        opened.chain([&self.publishing])
    }

    /// Without a budget, the queue is that of the dead letters.
    async fn subscribe(
        &self,
        connection: Arc<PersistentConnection>,
        queue: ShortString,
        priority: Option<i32>,
        prefetch: u16,
        budget: Option<&MemoryBudget>,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let (share, closing) = (self.shares.join(), self.closing.child_token());
        let is_dead_letters = budget.is_none();
        let budget = budget.unwrap_or(&self.dead_budget).clone();
        let options =
            ConsumerOptions { connection, queue, priority, prefetch, is_dead_letters, budget, share, closing };
        Ok(Box::new(RabbitMqConsumer::start(options, &self.consumers).await?))
    }
}

/// A priority that other processes hardly have. Live transactions go to one predictor first, and to the next one when that holds
/// its prefetch: so they share requests to the ML API across the fleet, and take no more of them from a batch than they need.
fn any_priority() -> i32 {
    i32::try_from(RandomState::new().hash_one(()) % 1_000_000_000).unwrap_or_default()
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        let target = self.settings.topology.work(route);
        let gate = &self.gates[route.index()];
        let result = self.publisher.publish(target, wire::encode(message, Some(route.lane), None)?).await;
        match result {
            Ok(()) => gate.open(),
            Err(PublishError::Full) => gate.close(),
            Err(_) => {}
        }
        result
    }

    async fn publish_later(&self, route: Route, message: Message, after: Duration) -> Result<(), PublishError> {
        let target = self.settings.topology.delayed(route, Delay::at_least(after));
        self.publisher.publish(target, wire::encode(message, Some(route.lane), None)?).await
    }

    async fn dead_letter(&self, route: Route, message: Message, reason: &str) -> Result<(), PublishError> {
        let death = Death::of(route, reason);
        let target = self.settings.topology.dead(route);
        self.publisher.publish(target, wire::encode(message, Some(route.lane), Some(&death))?).await
    }

    fn compress(&self, message: Message) -> Message {
        wire::compress(message)
    }

    async fn wait_for_room(&self, route: Route) {
        self.gates[route.index()].wait().await;
    }

    async fn consume(&self, route: Route, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let (connection, queue) = (self.consuming().await?, self.settings.topology.work_queue(route));
        let is_live = route == Route { kind: QueueKind::Transactions, lane: Lane::Realtime };
        let priority = is_live.then_some(self.priority);
        self.subscribe(connection, queue, priority, prefetch, Some(&self.budgets[route.index()])).await
    }

    async fn consume_dead_letters(&self, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let connection = self.opened(&self.dead_letters).await?;
        self.subscribe(connection, self.settings.topology.dead_letters(), None, prefetch, None).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), PublishError> {
        if self.may_not_broadcast.load(Ordering::Relaxed) {
            return Err(PublishError::Unavailable(NO_BROADCASTS.to_owned()));
        }
        let target = self.settings.topology.control();
        let exchange = target.exchange.clone();
        let published = self.publisher.publish(target, wire::encode(message, None, None)?).await;
        if let Err(PublishError::Unavailable(cause)) = &published
            && cause.contains(NOT_ALLOWED)
            && cause.contains(exchange.as_str())
            && !self.may_not_broadcast.swap(true, Ordering::Relaxed)
        {
            warn!("{NO_BROADCASTS} ({cause}): grant it, as deploy/rabbitmq/permissions does, and restart");
        }
        published
    }

    async fn publish_to_feed(&self, key: &str, message: Message) -> Result<(), PublishError> {
        // During an outage it must neither fill the window nor hold up a shutdown.
        self.publishing.health().map_err(PublishError::Unavailable)?;
        self.publisher.publish(self.settings.topology.feed(key), wire::encode(message, None, None)?).await
    }

    async fn listen(&self) -> Result<Box<dyn BroadcastListener>, BrokerError> {
        let connection = self.consuming().await?;
        Ok(Box::new(listener::listen(connection, self.closing.child_token(), &self.consumers).await))
    }

    async fn subscribe_events(&self, exchange: &str, watched: &str) -> Result<Box<dyn EventQueue>, BrokerError> {
        let connection = self.opened(&self.events).await?;
        let topology = &self.settings.topology;
        let (exchange, queue) = (topology.events_exchange(exchange), topology.events_queue(watched));
        Ok(Box::new(RabbitMqEventQueue::subscribe(connection, exchange, queue).await?))
    }

    async fn depth(&self, route: Route) -> Result<QueueCounts, BrokerError> {
        // Not on the publishing connection, from which RabbitMQ may have stopped reading.
        self.consuming().await?.depth(self.settings.topology.work_queue(route)).await
    }

    fn health(&self) -> Result<(), String> {
        self.connections().try_for_each(|connection| connection.health())
    }

    fn max_in_flight(&self) -> usize {
        self.publisher.window()
    }

    fn hold_timeout(&self) -> Duration {
        self.hold_timeout
    }

    fn survives_restart(&self) -> bool {
        true
    }

    async fn close(&self) {
        self.closing.cancel();
        self.consumers.close();
        // Each consumer bounds its own end.
        self.consumers.wait().await;
        self.publisher.flush().await;
        for connection in self.connections() {
            connection.close().await;
        }
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

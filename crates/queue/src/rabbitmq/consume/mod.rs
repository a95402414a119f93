//! Consumers: one task and one channel for each subscription.
//!
//! - `settlements`: acknowledging in steps, to bound memory; `broadcast`: broadcast listeners; `events`: bucket events
//!
//! Guarantees: the task subscribes again by itself after a loss; a delivery is settled only on the channel by which it came;
//! `multiple` is used only if every lower tag on the channel is settled; the buffer of a lost channel is dropped, as its messages
//! are redelivered. The prefetch bounds what is held, and follows the size of messages (`memory`): buffered messages stay
//! compressed until they are taken.
//!
//! RabbitMQ fixes the prefetch when a consumer starts, and quorum queues know no other. So another prefetch takes another consumer
//! on the same channel; unsettled deliveries stay valid.
//!
//! A consumer with a priority is served before those with a lower one, until it holds its prefetch.

pub(super) mod broadcast;
pub(super) mod events;
mod settlements;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Acker, BasicProperties, Channel};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::settlements::PendingSettlements;
use super::connect::{LiveConnection, PersistentConnection};
use super::failure::cause;
use super::wire;
use crate::broker::{Receipt, Settlement};
use crate::memory::{MemoryBudget, MemoryPermit, MessageSizes, PrefetchShare};
use crate::{BrokerError, Consumer, Delivery};

pub(super) struct RabbitMqConsumer {
    buffer: Arc<DeliveryBuffer>,
    connection: Arc<PersistentConnection>,
    is_dead_letters: bool,
    budget: MemoryBudget,
    /// The prefetch asked for, and the one in use.
    wanted: watch::Sender<u16>,
    prefetch: Arc<AtomicU16>,
    closing: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Received deliveries that are not taken yet.
#[derive(Default)]
struct DeliveryBuffer {
    state: Mutex<BufferState>,
    arrived: Notify,
}

#[derive(Default)]
struct BufferState {
    buffer: VecDeque<BufferedDelivery>,
    has_ended: bool,
}

struct BufferedDelivery {
    properties: BasicProperties,
    body: Vec<u8>,
    redelivered: bool,
    receipt: ChannelReceipt,
    since: Instant,
}

impl BufferedDelivery {
    fn decompressed_bytes(&self) -> usize {
        wire::decompressed_bytes(&self.properties, &self.body)
    }
}

impl DeliveryBuffer {
    fn state(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct ConsumerOptions {
    pub(super) connection: Arc<PersistentConnection>,
    pub(super) queue: ShortString,
    pub(super) priority: Option<i32>,
    pub(super) prefetch: u16,
    pub(super) is_dead_letters: bool,
    pub(super) budget: MemoryBudget,
    pub(super) share: PrefetchShare,
    pub(super) closing: CancellationToken,
}

impl RabbitMqConsumer {
    pub(super) async fn start(options: ConsumerOptions, tasks: &TaskTracker) -> Result<Self, BrokerError> {
        let ConsumerOptions { connection, queue, priority, prefetch, is_dead_letters, budget, share, closing } =
            options;
        let buffer = Arc::new(DeliveryBuffer::default());
        let (settle, settlements) = mpsc::unbounded_channel();
        let (wanted, wants) = watch::channel(prefetch.max(1));
        let prefetch = Arc::new(AtomicU16::new(MessageSizes::default().prefetch(prefetch, share.bytes())));
        let mut subscriber = Subscriber {
            connection: Arc::clone(&connection),
            queue,
            priority,
            wants,
            prefetch: Arc::clone(&prefetch),
            sizes: MessageSizes::default(),
            share,
            buffer: Arc::clone(&buffer),
            closing: closing.clone(),
            settle,
            settlements,
            epoch: 0,
        };
        // The first subscription is made here, so that RabbitMQ knows every started consumer.
        let first = subscriber.subscribe().await;
        let task = tasks.spawn(async move { subscriber.run(first).await });
        Ok(Self { buffer, connection, is_dead_letters, budget, wanted, prefetch, closing, task: Some(task) })
    }

    fn decode(&self, buffered: BufferedDelivery, taken: MemoryPermit) -> Delivery {
        let BufferedDelivery { properties, body, redelivered, receipt, since } = buffered;
        let death = self.is_dead_letters.then(|| wire::death(&properties, &self.connection.settings.topology));
        let message = wire::decode(&properties, body);
        let mut delivery = Delivery::new(message, redelivered, death, Box::new(receipt), taken);
        delivery.since = since;
        delivery
    }
}

#[async_trait]
impl Consumer for RabbitMqConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let arrived = self.buffer.arrived.notified();
            let bytes = {
                let state = self.buffer.state();
                match state.buffer.front() {
                    Some(buffered) => Some(buffered.decompressed_bytes()),
                    None if state.has_ended => return None,
                    None => None,
                }
            };
            let Some(bytes) = bytes else {
                arrived.await;
                continue;
            };
            let taken = self.budget.take(bytes).await;
            // After a lost channel, another message may be the first.
            let buffered = self.buffer.state().buffer.pop_front_if(|buffered| buffered.decompressed_bytes() == bytes);
            if let Some(buffered) = buffered {
                return Some(self.decode(buffered, taken));
            }
        }
    }

    fn prefetch(&self) -> u16 {
        self.prefetch.load(Ordering::Relaxed)
    }

    fn set_prefetch(&mut self, prefetch: u16) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, prefetch.max(1)) != prefetch.max(1));
    }

    async fn close(mut self: Box<Self>) {
        self.closing.cancel();
        if let Some(task) = self.task.take() {
            // It ends by itself, within its own timeout.
            let _ = task.await;
        }
    }
}

impl Drop for RabbitMqConsumer {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// The subscription and tag of a delivery, and how it was settled.
type TaggedSettlement = (u64, u64, Settlement);

struct ChannelReceipt {
    epoch: u64,
    tag: u64,
    settle: mpsc::UnboundedSender<TaggedSettlement>,
}

impl Receipt for ChannelReceipt {
    fn settle(self: Box<Self>, settlement: Settlement) {
        // If the task is gone, so is the channel, and the message is redelivered.
        let _ = self.settle.send((self.epoch, self.tag, settlement));
    }
}

struct Subscriber {
    connection: Arc<PersistentConnection>,
    queue: ShortString,
    priority: Option<i32>,
    wants: watch::Receiver<u16>,
    /// The prefetch of the current consumer.
    prefetch: Arc<AtomicU16>,
    sizes: MessageSizes,
    share: PrefetchShare,
    buffer: Arc<DeliveryBuffer>,
    closing: CancellationToken,
    settle: mpsc::UnboundedSender<TaggedSettlement>,
    settlements: mpsc::UnboundedReceiver<TaggedSettlement>,
    /// Counts subscriptions, so that tags of a lost channel are never used on its successor.
    epoch: u64,
}

struct Subscription {
    live: Arc<LiveConnection>,
    channel: Channel,
    deliveries: lapin::Consumer,
    unsettled: BTreeMap<u64, Acker>,
    pending: PendingSettlements,
}

impl Subscriber {
    async fn run(&mut self, first: Option<Subscription>) {
        let mut next = first;
        while let Some(mut subscription) = next {
            let ended = self.serve(&mut subscription).await;
            self.buffer.state().buffer.clear();
            if let SubscriptionEnd::Lost(cause) = ended {
                if subscription.live.is_up() {
                    warn!(queue = %self.queue, "consuming was interrupted ({cause}); subscribing again");
                }
                drop(subscription);
                next = self.subscribe().await;
            } else {
                let goodbye = subscription.channel.close(REPLY_SUCCESS, "OK".into());
                // Unsettled deliveries go back to the queue with the channel.
                let _ = subscription.live.attempt(self.connection.settings.request_timeout, goodbye).await;
                next = None;
            }
        }
        self.buffer.state().has_ended = true;
        self.buffer.arrived.notify_one();
    }

    /// `None` once the consumer or the connection is closed.
    async fn subscribe(&mut self) -> Option<Subscription> {
        self.epoch += 1;
        let subscribed = self.connection.retry_subscribe(self.queue.as_str(), |live| self.subscribe_once(live));
        self.closing.run_until_cancelled(subscribed).await.flatten()
    }

    async fn subscribe_once(&self, live: Arc<LiveConnection>) -> lapin::Result<Subscription> {
        let channel = live.channel().await?;
        let deliveries = self.consume(&channel, self.prefetch.load(Ordering::Relaxed)).await?;
        Ok(Subscription {
            live,
            channel,
            deliveries,
            unsettled: BTreeMap::new(),
            pending: PendingSettlements::default(),
        })
    }

    async fn consume(&self, channel: &Channel, prefetch: u16) -> lapin::Result<lapin::Consumer> {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let tag = ShortString::from(""); // RabbitMQ chooses one
        let mut arguments = FieldTable::default();
        if let Some(priority) = self.priority {
            arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
        }
        channel.basic_consume(self.queue.clone(), tag, options, arguments).await
    }

    /// Consumes with another prefetch if the size of messages, or the prefetch asked for, has changed.
    async fn adapt(&mut self, subscription: &mut Subscription) -> Result<(), String> {
        let (in_use, wanted) = (self.prefetch.load(Ordering::Relaxed), *self.wants.borrow_and_update());
        let Some(prefetch) = self.sizes.change(in_use, wanted, self.share.bytes()) else { return Ok(()) };
        debug!(queue = %self.queue, "changing the prefetch from {in_use} to {prefetch}");
        let request_timeout = self.connection.settings.request_timeout;
        let tag = subscription.deliveries.tag();
        let cancelled = subscription.channel.basic_cancel(tag, BasicCancelOptions::default());
        subscription.live.attempt(request_timeout, cancelled).await?;
        // Everything that RabbitMQ sent before has arrived; the client has ended the stream after it.
        while let Some(Some(delivery)) = subscription.deliveries.next().now_or_never() {
            self.receive(subscription, delivery.map_err(|error| cause(&error))?);
        }
        let consuming = self.consume(&subscription.channel, prefetch);
        subscription.deliveries = subscription.live.attempt(request_timeout, consuming).await?;
        self.prefetch.store(prefetch, Ordering::Relaxed);
        // The deliveries of the old consumer are not replaced.
        let pending = subscription.pending.take_all();
        self.settle(subscription, pending).await
    }

    async fn serve(&mut self, subscription: &mut Subscription) -> SubscriptionEnd {
        loop {
            if let Err(cause) = self.adapt(subscription).await {
                return SubscriptionEnd::Lost(cause);
            }
            let due = subscription.pending.take_due(self.share.bytes(), Instant::now());
            if let Err(cause) = self.settle(subscription, due).await {
                return SubscriptionEnd::Lost(cause);
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    subscription.pending.add(self.settled_by_now(None));
                    let pending = subscription.pending.take_all();
                    return match self.settle(subscription, pending).await {
                        Ok(()) => SubscriptionEnd::Closed,
                        Err(cause) => SubscriptionEnd::Lost(cause),
                    };
                }
                () = subscription.live.lost.cancelled() => return SubscriptionEnd::Lost("connection lost".to_owned()),
                Some(first) = self.settlements.recv() => subscription.pending.add(self.settled_by_now(Some(first))),
                // Handled at the start of the loop.
                Ok(()) = self.wants.changed() => {}
                () = subscription.pending.wait_for_replacements() => {}
                delivery = subscription.deliveries.next() => match delivery {
                    Some(Ok(delivery)) => self.receive(subscription, delivery),
                    Some(Err(error)) => return SubscriptionEnd::Lost(cause(&error)),
                    None => return SubscriptionEnd::Lost("RabbitMQ ended it".to_owned()),
                },
            }
        }
    }

    fn receive(&mut self, subscription: &mut Subscription, delivery: lapin::message::Delivery) {
        let lapin::message::Delivery { delivery_tag: tag, redelivered, properties, data, acker, .. } = delivery;
        subscription.unsettled.insert(tag, acker);
        subscription.pending.received();
        self.sizes.record(data.len() + wire::header_bytes(&properties));
        let receipt = ChannelReceipt { epoch: self.epoch, tag, settle: self.settle.clone() };
        let buffered = BufferedDelivery { properties, body: data, redelivered, receipt, since: Instant::now() };
        self.buffer.state().buffer.push_back(buffered);
        self.buffer.arrived.notify_one();
    }

    /// Everything settled on this subscription by now.
    fn settled_by_now(&mut self, first: Option<TaggedSettlement>) -> Vec<(u64, Settlement)> {
        let mut settled = Vec::new();
        let mut next = first.or_else(|| self.settlements.try_recv().ok());
        while let Some((epoch, tag, settlement)) = next {
            if epoch == self.epoch {
                settled.push((tag, settlement));
            }
            next = self.settlements.try_recv().ok();
        }
        settled
    }

    async fn settle(&self, subscription: &mut Subscription, settled: Vec<(u64, Settlement)>) -> Result<(), String> {
        if settled.is_empty() {
            return Ok(());
        }
        let mut done = BTreeMap::new();
        let mut released = Vec::new();
        for (tag, settlement) in settled {
            let Some(acker) = subscription.unsettled.remove(&tag) else { continue };
            match settlement {
                Settlement::Ack => drop(done.insert(tag, acker)),
                Settlement::Release => released.push(acker),
            }
        }
        let sent = async {
            for acker in released {
                checked(acker.nack(BasicNackOptions { requeue: true, multiple: false }).await)?;
            }
            for Ack { tag, multiple } in acks(done.keys().copied(), subscription.unsettled.keys().next().copied()) {
                if let Some(acker) = done.get(&tag) {
                    checked(acker.ack(BasicAckOptions { multiple }).await)?;
                }
            }
            Ok(())
        };
        // An acknowledgement may hang in the client when the connection is lost.
        tokio::select! {
            biased;
            () = subscription.live.lost.cancelled() => Err("connection lost".to_owned()),
            sent = timeout(self.connection.settings.request_timeout, sent) => sent.unwrap_or_else(|_| {
                let cause = "acknowledging took too long";
                subscription.live.abandon(cause.to_owned());
                Err(cause.to_owned())
            }),
        }
    }
}

enum SubscriptionEnd {
    Closed,
    Lost(String),
}

/// `false` means that the channel is gone and nothing was sent.
fn checked(sent: lapin::Result<bool>) -> Result<(), String> {
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err("channel closed".to_owned()),
        Err(error) => Err(cause(&error)),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Ack {
    tag: u64,
    multiple: bool,
}

/// The fewest acknowledgements for these tags (in rising order): one for all below `lowest`, the lowest unsettled tag, and one
/// each for those above.
fn acks(tags: impl Iterator<Item = u64>, lowest: Option<u64>) -> Vec<Ack> {
    let mut below = Vec::new();
    let mut acks = Vec::new();
    for tag in tags {
        if lowest.is_none_or(|lowest| tag < lowest) {
            below.push(tag);
        } else {
            acks.push(Ack { tag, multiple: false });
        }
    }
    if let Some(&tag) = below.last() {
        acks.insert(0, Ack { tag, multiple: below.len() > 1 });
    }
    acks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ack_covers_what_lies_below_the_lowest_unsettled_tag() {
        let one = |tag| Ack { tag, multiple: false };
        let all = |tag| Ack { tag, multiple: true };
        let cases = [
            (vec![], None, vec![]),
            (vec![1], None, vec![one(1)]),
            (vec![1, 2, 3], None, vec![all(3)]),
            (vec![1, 2, 3], Some(4), vec![all(3)]),
            (vec![2, 3], Some(1), vec![one(2), one(3)]),
            (vec![1, 2, 4, 6], Some(3), vec![all(2), one(4), one(6)]),
            (vec![1, 4], Some(2), vec![one(1), one(4)]),
        ];
        for (tags, lowest, expected) in cases {
            assert_eq!(acks(tags.iter().copied(), lowest), expected, "{tags:?} below {lowest:?}");
        }
    }
}

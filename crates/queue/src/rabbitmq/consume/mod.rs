//! Consumers: one task and one channel for each subscription.
//!
//! Guarantees: the task subscribes again by itself after any loss; a delivery is acknowledged only on the channel it came
//! by; `multiple` is used only where every lower tag on the channel is settled; what is buffered when a channel is lost
//! is thrown away, as it will be redelivered. The prefetch is the bound of what is held, and it follows from how large messages
//! are (`memory`): what is at hand is kept packed, and unpacked when it is taken.
//!
//! RabbitMQ keeps the prefetch with a consumer, and quorum queues know no other. So for another prefetch the consumer is
//! cancelled, and the next one is begun on the same channel: what is unsettled stays so, and is acknowledged as ever.

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
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, BasicProperties, Channel};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::settlements::Owed;
use super::connect::{Link, Live};
use super::failure::cause;
use super::wire;
use crate::broker::{Receipt, Settlement};
use crate::memory::{Budget, Share, Sizes, Taken};
use crate::{BrokerError, Consumer, Delivery};

pub(super) struct RabbitConsumer {
    intake: Arc<Intake>,
    link: Arc<Link>,
    dead: bool,
    budget: Budget,
    /// How many deliveries are wanted, and how many may be unsettled.
    wanted: watch::Sender<u16>,
    prefetch: Arc<AtomicU16>,
    closing: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// What the task has received and nobody has taken yet.
#[derive(Default)]
struct Intake {
    state: Mutex<IntakeState>,
    arrived: Notify,
}

#[derive(Default)]
struct IntakeState {
    buffer: VecDeque<Packed>,
    ended: bool,
}

/// A delivery as it came.
struct Packed {
    properties: BasicProperties,
    body: Vec<u8>,
    redelivered: bool,
    receipt: TagReceipt,
    since: Instant,
}

impl Packed {
    fn unpacked_bytes(&self) -> usize {
        wire::unpacked_bytes(&self.properties, &self.body)
    }
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, IntakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a consumer consumes, and within which bounds.
pub(super) struct Subscribing {
    pub(super) link: Arc<Link>,
    pub(super) queue: ShortString,
    pub(super) prefetch: u16,
    /// Whether it is the queue of the dead letters.
    pub(super) dead: bool,
    pub(super) budget: Budget,
    pub(super) share: Share,
    pub(super) closing: CancellationToken,
}

impl RabbitConsumer {
    pub(super) async fn start(subscribing: Subscribing, tasks: &TaskTracker) -> Result<Self, BrokerError> {
        let Subscribing { link, queue, prefetch, dead, budget, share, closing } = subscribing;
        let intake = Arc::new(Intake::default());
        let (settle, settlements) = mpsc::unbounded_channel();
        let (wanted, wants) = watch::channel(prefetch.max(1));
        let prefetch = Arc::new(AtomicU16::new(Sizes::default().prefetch(prefetch, share.bytes())));
        let mut subscriber = Subscriber {
            link: Arc::clone(&link),
            queue,
            wants,
            prefetch: Arc::clone(&prefetch),
            sizes: Sizes::default(),
            share,
            intake: Arc::clone(&intake),
            closing: closing.clone(),
            settle,
            settlements,
            epoch: 0,
        };
        // The first subscription is made here, so that a consumer that was started is one that RabbitMQ knows of.
        let first = subscriber.subscribe_until_it_works().await;
        let task = tasks.spawn(async move { subscriber.run(first).await });
        Ok(Self { intake, link, dead, budget, wanted, prefetch, closing, task: Some(task) })
    }

    fn unpack(&self, packed: Packed, taken: Taken) -> Delivery {
        let Packed { properties, body, redelivered, receipt, since } = packed;
        let death = self.dead.then(|| wire::death(&properties, &self.link.settings.topology));
        let message = wire::incoming(&properties, body);
        let mut delivery = Delivery::new(message, redelivered, death, Box::new(receipt), taken);
        delivery.since = since;
        delivery
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let arrived = self.intake.arrived.notified();
            let bytes = {
                let state = self.intake.state();
                match state.buffer.front() {
                    Some(packed) => Some(packed.unpacked_bytes()),
                    None if state.ended => return None,
                    None => None,
                }
            };
            let Some(bytes) = bytes else {
                arrived.await;
                continue;
            };
            let taken = self.budget.take(bytes).await;
            // The channel may have been lost meanwhile, and another message may be the first.
            let packed = self.intake.state().buffer.pop_front_if(|packed| packed.unpacked_bytes() == bytes);
            if let Some(packed) = packed {
                return Some(self.unpack(packed, taken));
            }
        }
    }

    fn prefetch(&self) -> u16 {
        self.prefetch.load(Ordering::Relaxed)
    }

    fn want(&mut self, prefetch: u16) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, prefetch.max(1)) != prefetch.max(1));
    }

    async fn close(mut self: Box<Self>) {
        self.closing.cancel();
        if let Some(task) = self.task.take() {
            // It ends by itself, within the time that it gives RabbitMQ.
            let _ = task.await;
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A settled delivery: the subscription it came by, its tag there, and how it was settled.
type Settled = (u64, u64, Settlement);

struct TagReceipt {
    epoch: u64,
    tag: u64,
    settle: mpsc::UnboundedSender<Settled>,
}

impl Receipt for TagReceipt {
    fn settle(self: Box<Self>, settlement: Settlement) {
        // Where the task is gone, so is the channel, and the message is on its way back.
        let _ = self.settle.send((self.epoch, self.tag, settlement));
    }
}

/// The task behind a consumer.
struct Subscriber {
    link: Arc<Link>,
    queue: ShortString,
    wants: watch::Receiver<u16>,
    /// Of the consumer that RabbitMQ knows.
    prefetch: Arc<AtomicU16>,
    sizes: Sizes,
    share: Share,
    intake: Arc<Intake>,
    closing: CancellationToken,
    settle: mpsc::UnboundedSender<Settled>,
    settlements: mpsc::UnboundedReceiver<Settled>,
    /// Counts subscriptions, so that tags of a dead channel are never used on its successor.
    epoch: u64,
}

/// One subscription on one channel.
struct Subscription {
    live: Arc<Live>,
    channel: Channel,
    deliveries: lapin::Consumer,
    unsettled: BTreeMap<u64, Acker>,
    owed: Owed,
}

impl Subscriber {
    async fn run(&mut self, first: Option<Subscription>) {
        let mut next = first;
        while let Some(mut subscription) = next {
            let ended = self.serve(&mut subscription).await;
            self.intake.state().buffer.clear();
            if let Ended::Lost(cause) = ended {
                if subscription.live.is_up() {
                    warn!(queue = %self.queue, "consuming was interrupted ({cause}); consuming again");
                }
                drop(subscription);
                next = self.subscribe_until_it_works().await;
            } else {
                let goodbye = subscription.channel.close(REPLY_SUCCESS, "OK".into());
                // What is not settled goes back to the queue with the channel, however that ends.
                let _ = subscription.live.attempt(self.link.settings.patience, goodbye).await;
                next = None;
            }
        }
        self.intake.state().ended = true;
        self.intake.arrived.notify_one();
    }

    /// `None` once the consumer or the link is closed.
    async fn subscribe_until_it_works(&mut self) -> Option<Subscription> {
        self.epoch += 1;
        let subscribed = self.link.until_it_works(self.queue.as_str(), |live| self.subscribe(live));
        self.closing.run_until_cancelled(subscribed).await.flatten()
    }

    async fn subscribe(&self, live: Arc<Live>) -> lapin::Result<Subscription> {
        let channel = live.channel().await?;
        let deliveries = self.consume(&channel, self.prefetch.load(Ordering::Relaxed)).await?;
        Ok(Subscription { live, channel, deliveries, unsettled: BTreeMap::new(), owed: Owed::default() })
    }

    async fn consume(&self, channel: &Channel, prefetch: u16) -> lapin::Result<lapin::Consumer> {
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let tag = ShortString::from(""); // RabbitMQ chooses one
        channel.basic_consume(self.queue.clone(), tag, options, FieldTable::default()).await
    }

    /// Consumes with another prefetch, where the messages that came and what is wanted ask for one.
    async fn adapt(&mut self, subscription: &mut Subscription) -> Result<(), String> {
        let (in_use, wanted) = (self.prefetch.load(Ordering::Relaxed), *self.wants.borrow_and_update());
        let Some(prefetch) = self.sizes.change(in_use, wanted, self.share.bytes()) else { return Ok(()) };
        debug!(queue = %self.queue, "at most {prefetch} messages at hand from now on, not {in_use}");
        let patience = self.link.settings.patience;
        let tag = subscription.deliveries.tag();
        let cancelled = subscription.channel.basic_cancel(tag, BasicCancelOptions::default());
        subscription.live.attempt(patience, cancelled).await?;
        // What RabbitMQ had sent by then has come; its end is where the client has ended the stream.
        while let Some(Some(delivery)) = subscription.deliveries.next().now_or_never() {
            self.take_in(subscription, delivery.map_err(|error| cause(&error))?);
        }
        let consuming = self.consume(&subscription.channel, prefetch);
        subscription.deliveries = subscription.live.attempt(patience, consuming).await?;
        self.prefetch.store(prefetch, Ordering::Relaxed);
        // Nothing comes in place of what the consumer before had.
        let owed = subscription.owed.all();
        self.settle(subscription, owed).await
    }

    async fn serve(&mut self, subscription: &mut Subscription) -> Ended {
        loop {
            if let Err(cause) = self.adapt(subscription).await {
                return Ended::Lost(cause);
            }
            let due = subscription.owed.due(self.share.bytes(), Instant::now());
            if let Err(cause) = self.settle(subscription, due).await {
                return Ended::Lost(cause);
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    subscription.owed.add(self.settled_by_now(None));
                    let owed = subscription.owed.all();
                    return match self.settle(subscription, owed).await {
                        Ok(()) => Ended::Closed,
                        Err(cause) => Ended::Lost(cause),
                    };
                }
                () = subscription.live.lost.cancelled() => return Ended::Lost("connection lost".to_owned()),
                Some(first) = self.settlements.recv() => subscription.owed.add(self.settled_by_now(Some(first))),
                // What is wanted now, and what can be settled, is looked at above.
                Ok(()) = self.wants.changed() => {}
                () = subscription.owed.nothing_came() => {}
                delivery = subscription.deliveries.next() => match delivery {
                    Some(Ok(delivery)) => self.take_in(subscription, delivery),
                    Some(Err(error)) => return Ended::Lost(cause(&error)),
                    None => return Ended::Lost("RabbitMQ ended it".to_owned()),
                },
            }
        }
    }

    fn take_in(&mut self, subscription: &mut Subscription, delivery: lapin::message::Delivery) {
        let lapin::message::Delivery { delivery_tag: tag, redelivered, properties, data, acker, .. } = delivery;
        subscription.unsettled.insert(tag, acker);
        subscription.owed.arrived();
        self.sizes.saw(data.len() + wire::header_bytes(&properties));
        let receipt = TagReceipt { epoch: self.epoch, tag, settle: self.settle.clone() };
        let packed = Packed { properties, body: data, redelivered, receipt, since: Instant::now() };
        self.intake.state().buffer.push_back(packed);
        self.intake.arrived.notify_one();
    }

    /// Everything that was settled up to now on this subscription.
    fn settled_by_now(&mut self, first: Option<Settled>) -> Vec<(u64, Settlement)> {
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
        // The client may leave an acknowledgement hanging when the connection is lost.
        tokio::select! {
            biased;
            () = subscription.live.lost.cancelled() => Err("connection lost".to_owned()),
            sent = timeout(self.link.settings.patience, sent) => sent.unwrap_or_else(|_| {
                let cause = "acknowledging took too long";
                subscription.live.give_up(cause.to_owned());
                Err(cause.to_owned())
            }),
        }
    }
}

/// How a subscription ended.
enum Ended {
    Closed,
    Lost(String),
}

/// `false` means that nothing was sent, as the channel is gone.
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

/// The fewest acknowledgements for these tags (in rising order), where `lowest` is the lowest one that is not settled: one
/// for all below it, and one each for those above.
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

//! The publisher: one task owns the one channel that everything is published on.
//!
//! Guarantees: at most `window` messages, and 16 MiB of bodies, are unconfirmed at a time; a publish is reported as done only for
//! its own positive confirm, and not if the message was returned; every publish ends within its timeout. What was under way when
//! the connection was lost ends as unavailable, and may have arrived.
//!
//! A message that comes back tells in a header which publish it is: ids are the senders' business, and two messages may have the
//! same.

pub(super) mod full_queue;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::connect::{LiveConnection, PersistentConnection};
use super::failure::{cause, oversized};
use super::wire::EncodedMessage;
use crate::PublishError;
use crate::memory::{IN_FLIGHT_BYTES, MemoryBudget, MemoryPermit};

/// Where a message is published to.
#[derive(Debug, Clone)]
pub(super) struct PublishTarget {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    /// Whether it is an error that no queue takes the message.
    pub(super) mandatory: bool,
}

/// The way to the task. Cheap to use from many tasks at once.
pub(super) struct Publisher {
    pending: mpsc::UnboundedSender<PendingPublish>,
    permits: Arc<Semaphore>,
    bytes: MemoryBudget,
    window: u16,
    request_timeout: Duration,
    _unused: DropGuard,
}

/// A message on its way, and who waits for it. The permit and its bytes stay with it until it is confirmed, even if nobody waits
/// any longer: the window counts what RabbitMQ has to deal with. It bounds the queue of pending, too.
struct PendingPublish {
    /// Counts the publishes of a channel.
    number: u64,
    address: PublishTarget,
    message: EncodedMessage,
    deadline: Instant,
    reply: oneshot::Sender<Result<(), PublishError>>,
    _permit: OwnedSemaphorePermit,
    _bytes: MemoryPermit,
}

impl Publisher {
    pub(super) fn start(link: &Arc<PersistentConnection>, window: u16, request_timeout: Duration) -> Self {
        let (pending, waiting) = mpsc::unbounded_channel();
        let unused = CancellationToken::new();
        tokio::spawn(run(Arc::clone(link), waiting, unused.clone()));
        let permits = Arc::new(Semaphore::new(window.into()));
        let bytes = MemoryBudget::new(IN_FLIGHT_BYTES);
        Self { pending, permits, bytes, window, request_timeout, _unused: unused.drop_guard() }
    }

    pub(super) fn window(&self) -> usize {
        self.window.into()
    }

    pub(super) async fn publish(&self, address: PublishTarget, message: EncodedMessage) -> Result<(), PublishError> {
        let deadline = Instant::now() + self.request_timeout;
        let confirmed = async {
            let bytes = self.bytes.take(message.body.len()).await;
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Err(closed()) };
            let (reply, confirmed) = oneshot::channel();
            let publish =
                PendingPublish { number: 0, address, message, deadline, reply, _permit: permit, _bytes: bytes };
            self.pending.send(publish).map_err(|_| closed())?;
            confirmed.await.unwrap_or_else(|_| Err(closed()))
        };
        timeout_at(deadline, confirmed).await.unwrap_or_else(|_| Err(no_confirm()))
    }

    /// Waits until nothing is under way any longer; more is refused from then on.
    pub(super) async fn flush(&self) {
        let _ = timeout(self.request_timeout, self.permits.acquire_many(self.window.into())).await;
        self.permits.close();
    }
}

fn closed() -> PublishError {
    PublishError::Unavailable("the connection to RabbitMQ is closed".to_owned())
}

fn no_confirm() -> PublishError {
    PublishError::Unavailable("RabbitMQ did not confirm within PUBLISH_TIMEOUT".to_owned())
}

/// The task. It ends with the link, or once nobody can publish any more, even while RabbitMQ is away.
async fn run(
    link: Arc<PersistentConnection>,
    mut waiting: mpsc::UnboundedReceiver<PendingPublish>,
    unused: CancellationToken,
) {
    while let Some(Some(live)) = unused.run_until_cancelled(link.live()).await {
        let end = match live.attempt(link.settings.request_timeout, open(&live)).await {
            Ok(channel) => publish_on(&channel, &live, &link, &mut waiting).await,
            Err(cause) => ChannelEnd::Lost(cause),
        };
        match end {
            ChannelEnd::Lost(cause) => {
                live.abandon(cause);
                live.lost.cancelled().await;
            }
            ChannelEnd::Unused => return,
        }
    }
}

async fn open(live: &LiveConnection) -> lapin::Result<Channel> {
    let channel = live.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// How long after an unroutable message its queue is declared again. RabbitMQ tells the consumers of a deleted queue that
/// it is gone, but not those of one that is back by then: they would wait forever.
const DECLARE_AFTER: Duration = Duration::from_secs(1);

/// Never ends where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Why a channel is no longer published on.
enum ChannelEnd {
    Lost(String),
    /// The publisher is gone, and nobody will publish any more.
    Unused,
}

async fn publish_on(
    channel: &Channel,
    live: &LiveConnection,
    link: &PersistentConnection,
    waiting: &mut mpsc::UnboundedReceiver<PendingPublish>,
) -> ChannelEnd {
    let mut blocked = live.blocked();
    let mut under_way = FuturesUnordered::new();
    let mut returned = HashSet::new();
    let mut number = 0;
    let mut declare_at = None;
    loop {
        let is_blocked = *blocked.borrow_and_update();
        tokio::select! {
            biased;
            () = live.lost.cancelled() => {
                // Whatever is known by now is passed on. The rest is dropped, which ends it as unavailable.
                while let Some(Some(finished)) = under_way.next().now_or_never() {
                    reply_to(finished);
                }
                return ChannelEnd::Lost("connection lost".to_owned());
            }
            Some(first) = under_way.next() => {
                let mut confirm = vec![first];
                // All that have confirm by now: a returned message may come with the confirm of another one, which the
                // client then resolves before the message's own.
                while let Some(Some(next)) = under_way.next().now_or_never() {
                    confirm.push(next);
                }
                returned.extend(confirm.iter_mut().filter_map(|finished| finished.returned.take()));
                let mut unroutable = false;
                let mut lost = None;
                for finished in confirm {
                    if returned.remove(&finished.publish.number) {
                        unroutable = true;
                        let _ = finished.publish.reply.send(Err(PublishError::Unroutable));
                        continue;
                    }
                    if let Some(cause) = reply_to(finished) {
                        // While RabbitMQ has publishing blocked, waiting is right, and another connection no better.
                        lost = lost.or(Some(cause)).filter(|_| !is_blocked || !live.is_up());
                    }
                }
                if let Some(cause) = lost {
                    while let Some(Some(finished)) = under_way.next().now_or_never() {
                        reply_to(finished);
                    }
                    return ChannelEnd::Lost(cause);
                }
                if unroutable {
                    declare_at.get_or_insert_with(|| Instant::now() + DECLARE_AFTER);
                }
            }
            () = until(declare_at) => {
                declare_at = None;
                match live.declare(&link.settings).await {
                    Ok(()) => debug!("declared the queues again, as one was missing"),
                    Err(cause) => debug!("cannot declare the queues again ({cause})"),
                }
            }
            _ = blocked.changed() => {}
            publish = waiting.recv(), if !is_blocked => match publish {
                // Nobody waits for it any longer, so nobody needs it sent.
                Some(publish) if publish.reply.is_closed() => {}
                Some(publish) => {
                    number += 1;
                    under_way.push(send(channel, PendingPublish { number, ..publish }));
                }
                None => return ChannelEnd::Unused,
            },
        }
    }
}

/// What is known about a message in the end.
enum Confirm {
    Acked,
    Nacked,
    NotRequested,
    Failed(lapin::Error),
    TimedOut,
}

/// A message whose end is known, and the number of the unroutable message that came back with its confirm: its own, or
/// another's.
struct FinishedPublish {
    publish: PendingPublish,
    confirm: Confirm,
    returned: Option<u64>,
}

/// The header that says which publish of its channel a message is.
const NUMBER: &str = "publish";

fn with_number(properties: &BasicProperties, number: u64) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(NUMBER.into(), AMQPValue::LongLongInt(number.cast_signed()));
    properties.clone().with_headers(headers)
}

fn number_of(properties: &BasicProperties) -> Option<u64> {
    match properties.headers().as_ref()?.inner().get(NUMBER)? {
        AMQPValue::LongLongInt(number) => Some(number.cast_unsigned()),
        _ => None,
    }
}

/// Publishes, and waits for the confirm. Everything up to the frames being queued happens when this is first polled,
/// without a pause: that keeps the order of publishes and confirms, as all of them are polled by one task.
async fn send(channel: &Channel, publish: PendingPublish) -> FinishedPublish {
    let confirmed = async {
        let PublishTarget { exchange, key, mandatory } = publish.address.clone();
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let properties = with_number(&publish.message.properties, publish.number);
        channel.basic_publish(exchange, key, options, &publish.message.body, properties).await?.await
    };
    let (confirm, returned) = match timeout_at(publish.deadline, confirmed).await {
        Ok(Ok(Confirmation::Ack(returned))) => (Confirm::Acked, returned),
        Ok(Ok(Confirmation::Nack(returned))) => (Confirm::Nacked, returned),
        Ok(Ok(Confirmation::NotRequested)) => (Confirm::NotRequested, None),
        Ok(Err(error)) => (Confirm::Failed(error), None),
        Err(_) => (Confirm::TimedOut, None),
    };
    let returned = returned.and_then(|message| number_of(&message.properties));
    FinishedPublish { publish, confirm, returned }
}

/// Tells who waits. Returns the cause if the channel can no longer be relied on.
fn reply_to(FinishedPublish { publish, confirm, returned: _ }: FinishedPublish) -> Option<String> {
    let (result, lost) = match confirm {
        Confirm::Acked => (Ok(()), None),
        Confirm::Nacked => (Err(PublishError::Full), None),
        Confirm::NotRequested => {
            let cause = "RabbitMQ does not confirm what is published".to_owned();
            (Err(PublishError::Unavailable(cause.clone())), Some(cause))
        }
        Confirm::Failed(error) => {
            let bytes = publish.message.body.len();
            let result = if oversized(&error) == Some(bytes) {
                PublishError::TooLarge { bytes }
            } else {
                PublishError::Unavailable(format!("the connection to RabbitMQ was lost ({})", cause(&error)))
            };
            (Err(result), Some(cause(&error)))
        }
        Confirm::TimedOut => (Err(no_confirm()), Some("no confirm within PUBLISH_TIMEOUT".to_owned())),
    };
    // Whoever asked may have stopped waiting.
    let _ = publish.reply.send(result);
    lost
}

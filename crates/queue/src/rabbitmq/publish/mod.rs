//! The publisher: one task with one channel for everything that is published.
//!
//! Guarantees: at most `window` messages, and 16 MiB of bodies, are unconfirmed at a time; a publish succeeds only by its own
//! positive confirm, and not if the message was returned; every publish ends within its timeout. Publishes under way when the
//! connection is lost end as unavailable, and may have arrived.
//!
//! A header numbers the publishes of a channel, to recognise returned messages: two messages may have the same id.

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
use crate::consume::wait_until;
use crate::memory::{IN_FLIGHT_BYTES, MemoryBudget, MemoryPermit};

#[derive(Debug, Clone)]
pub(super) struct PublishTarget {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    /// Whether an unroutable message is an error.
    pub(super) mandatory: bool,
}

pub(super) struct Publisher {
    pending: mpsc::UnboundedSender<PendingPublish>,
    permits: Arc<Semaphore>,
    bytes: MemoryBudget,
    window: u16,
    request_timeout: Duration,
    _unused: DropGuard,
}

/// A message on its way, and its caller. It keeps its place in the window until it is confirmed, even if the caller is gone: the
/// window counts what RabbitMQ has to handle. The window bounds the channel to the task, too.
struct PendingPublish {
    /// The number of the publish on its channel.
    number: u64,
    target: PublishTarget,
    message: EncodedMessage,
    deadline: Instant,
    reply: oneshot::Sender<Result<(), PublishError>>,
    _permit: OwnedSemaphorePermit,
    _bytes: MemoryPermit,
}

impl Publisher {
    pub(super) fn start(connection: &Arc<PersistentConnection>, window: u16, request_timeout: Duration) -> Self {
        let (pending, waiting) = mpsc::unbounded_channel();
        let unused = CancellationToken::new();
        tokio::spawn(run(Arc::clone(connection), waiting, unused.clone()));
        let permits = Arc::new(Semaphore::new(window.into()));
        let bytes = MemoryBudget::new(IN_FLIGHT_BYTES);
        Self { pending, permits, bytes, window, request_timeout, _unused: unused.drop_guard() }
    }

    pub(super) fn window(&self) -> usize {
        self.window.into()
    }

    pub(super) async fn publish(&self, target: PublishTarget, message: EncodedMessage) -> Result<(), PublishError> {
        let deadline = Instant::now() + self.request_timeout;
        let confirmed = async {
            let bytes = self.bytes.take(message.body.len()).await;
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Err(closed()) };
            let (reply, confirmed) = oneshot::channel();
            let publish =
                PendingPublish { number: 0, target, message, deadline, reply, _permit: permit, _bytes: bytes };
            self.pending.send(publish).map_err(|_| closed())?;
            confirmed.await.unwrap_or_else(|_| Err(closed()))
        };
        timeout_at(deadline, confirmed).await.unwrap_or_else(|_| Err(no_confirm()))
    }

    /// Waits until nothing is unconfirmed; refuses further publishes.
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

/// The task. It ends with the connection, or with the publisher, even during an outage.
async fn run(
    connection: Arc<PersistentConnection>,
    mut waiting: mpsc::UnboundedReceiver<PendingPublish>,
    unused: CancellationToken,
) {
    while let Some(Some(live)) = unused.run_until_cancelled(connection.live()).await {
        let end = match live.attempt(connection.settings.request_timeout, open(&live)).await {
            Ok(channel) => publish_on(&channel, &live, &connection, &mut waiting).await,
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

/// Pause between an unroutable message and declaring its queue again. RabbitMQ notifies the consumers of a deleted queue, but not
/// if it exists again by then: they would wait for ever.
const DECLARE_AFTER: Duration = Duration::from_secs(1);

enum ChannelEnd {
    Lost(String),
    Unused,
}

async fn publish_on(
    channel: &Channel,
    live: &LiveConnection,
    connection: &PersistentConnection,
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
                // Known results are passed on. The rest is dropped, which ends it as unavailable.
                while let Some(Some(finished)) = under_way.next().now_or_never() {
                    reply_to(finished);
                }
                return ChannelEnd::Lost("connection lost".to_owned());
            }
            Some(first) = under_way.next() => {
                let mut confirm = vec![first];
                // All that have ended by now: the client may attach a returned message to the confirm of another one, and
                // resolve that one first.
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
                        // While RabbitMQ blocks publishing, another connection would be no better.
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
            () = wait_until(declare_at) => {
                declare_at = None;
                match live.declare(&connection.settings).await {
                    Ok(()) => debug!("declared the queues again, as one was missing"),
                    Err(cause) => debug!("cannot declare the queues again ({cause})"),
                }
            }
            _ = blocked.changed() => {}
            publish = waiting.recv(), if !is_blocked => match publish {
                // Its caller is gone.
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

enum Confirm {
    Acked,
    Nacked,
    NotRequested,
    Failed(lapin::Error),
    TimedOut,
}

/// A publish that ended, and the number of the unroutable message returned with its confirm: its own or another's.
struct FinishedPublish {
    publish: PendingPublish,
    confirm: Confirm,
    returned: Option<u64>,
}

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

/// Publishes, and waits for the confirm. The frames are queued when this is first polled, without a pause: as one task polls all
/// publishes, that keeps the order of publishes and confirms.
async fn send(channel: &Channel, publish: PendingPublish) -> FinishedPublish {
    let confirmed = async {
        let PublishTarget { exchange, key, mandatory } = publish.target.clone();
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

/// Replies to the caller. Returns the cause if the channel is no longer reliable.
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
    // The caller may be gone.
    let _ = publish.reply.send(result);
    lost
}

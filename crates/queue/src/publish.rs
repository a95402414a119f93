//! Publishing until confirmed: how all stages publish.
//!
//! Guarantee: a message is reported as published only once the broker has confirmed that it is in its queue. Transient failures
//! (a full queue, an outage) are retried for as long as the stage runs.

use std::future::Future;
use std::time::Duration;

use assay_connect::RetryPolicy;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, warn};

use crate::trace::begin_publish;
use crate::{Broker, Message, PublishError, Route};

/// Pauses after a failed attempt to publish.
pub(crate) const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5));

/// Messages that are published and not yet confirmed, or that wait in a queue, bounded in number and in bytes. One message
/// always has room.
#[derive(Debug)]
pub struct PublishWindow {
    max_messages: usize,
    max_bytes: usize,
    messages: usize,
    bytes: usize,
}

impl PublishWindow {
    /// An empty window.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { max_messages, max_bytes, messages: 0, bytes: 0 }
    }

    /// Whether another message may enter.
    pub fn has_room(&self) -> bool {
        self.messages == 0 || self.messages < self.max_messages && self.bytes < self.max_bytes
    }

    /// Adds a message with a body of that size, whether or not there is room.
    pub fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    /// Adds a message if there is room, and returns whether there was.
    pub fn try_add(&mut self, bytes: usize) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.add(bytes);
        }
        has_room
    }

    /// Removes a message that was added with that size.
    pub fn remove(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Why [`publish_until_confirmed`] gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// Stopped. The message may have been published nevertheless, if its confirm was lost.
    #[error("stopped before the broker confirmed the message")]
    Stopped,
    /// The message exceeds the broker's limit.
    #[error("the message of {bytes} bytes is larger than the broker takes: lower CHUNK_ROWS")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
}

/// Publishes, waiting for room in a full queue and for the end of an outage. It always tries once, so that a draining stage can
/// publish its results; `stop` ends the waiting between attempts.
pub async fn publish_until_confirmed(
    broker: &dyn Broker,
    route: Route,
    message: Message,
    stop: &CancellationToken,
) -> Result<(), ConfirmError> {
    let (message, span) = begin_publish(broker, route, message);
    let message = broker.compress(message);
    let attempt = || broker.publish(route, message.clone());
    let queue = route.to_string();
    let publishing = until_confirmed(attempt, || broker.wait_for_room(route), &message.id, &queue, stop);
    let confirming = async {
        let confirmed = publishing.await;
        if confirmed.is_err() {
            assay_trace::fail("not_confirmed");
        }
        confirmed
    };
    confirming.instrument(span).await
}

/// Repeats `attempt` until it is confirmed; after a full queue it waits for `room`.
pub(crate) async fn until_confirmed<A, R>(
    attempt: impl Fn() -> A,
    room: impl Fn() -> R,
    id: &str,
    queue: &str,
    stop: &CancellationToken,
) -> Result<(), ConfirmError>
where
    A: Future<Output = Result<(), PublishError>>,
    R: Future<Output = ()>,
{
    let mut backoff = RETRY.backoff();
    loop {
        let wait_for_room = match attempt().await {
            Ok(()) => return Ok(()),
            Err(PublishError::TooLarge { bytes }) => return Err(ConfirmError::TooLarge { bytes }),
            Err(PublishError::Full) => {
                debug!(queue, message_id = id, "queue is full; waiting for room");
                true
            }
            Err(error @ PublishError::Unroutable) => {
                warn!(queue, message_id = id, "cannot publish yet: {error}");
                false
            }
            Err(error @ PublishError::Unavailable(_)) => {
                // The connection logs each outage once.
                debug!(queue, message_id = id, "cannot publish yet: {error}");
                false
            }
        };
        let again = async {
            if wait_for_room {
                room().await;
            } else {
                backoff.pause().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(ConfirmError::Stopped),
            () = again => {}
        }
    }
}

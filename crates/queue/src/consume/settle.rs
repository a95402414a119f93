//! Settling deliveries by their outcome.
//!
//! Guarantees: a delivery is acknowledged only once its replacement (a delayed retry, a dead letter) is confirmed; it waits for
//! that no longer than the hold timeout.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::publish::until_confirmed;
use crate::{Broker, Delivery, Message, PublishError, Route, metrics};

/// Attempts that panic before the message is taken to be the cause.
const MAX_PANICS: u32 = 5;
/// How long a released message is held while the stage is not stopping, so that it does not circulate in a busy loop.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// What became of the work on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// Everything is published or stored: the message is acknowledged.
    Done,
    /// It failed: the message is redelivered after a delay of 1, 10 or 60 s, as a further attempt.
    Retry {
        /// Shortest delay.
        after: Duration,
    },
    /// It cannot be done: the message becomes a dead letter.
    DeadLetter {
        /// Why, for the operator. No data of the message.
        reason: String,
    },
    /// It was not done, as the stage is stopping: the message is given back.
    Release,
}

impl DeliveryOutcome {
    /// What a trace says of it, unless it is done.
    fn failure(&self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::Retry { .. } => Some("retry"),
            Self::DeadLetter { .. } => Some("dead_letter"),
            Self::Release => Some("released"),
        }
    }

    /// The outcome for a message whose work panicked.
    pub(super) fn of_panic(message: &Message) -> Self {
        if message.attempt + 1 >= MAX_PANICS {
            return Self::DeadLetter { reason: format!("the work on it panicked {MAX_PANICS} times") };
        }
        let seconds = if message.attempt == 0 { 1 } else { 10 };
        Self::Retry { after: Duration::from_secs(seconds) }
    }
}

/// Does what the outcome asks for, and settles the delivery; the span that this runs in says so too. If the replacement is not confirmed within the hold timeout, the
/// message goes back to its queue. If this future is dropped, the message is redelivered.
pub(super) async fn settle(
    broker: &dyn Broker,
    route: Route,
    delivery: Delivery,
    outcome: DeliveryOutcome,
    shutdown: &CancellationToken,
) {
    if let Some(failure) = outcome.failure() {
        assay_trace::fail(failure);
    }
    let hold = broker.hold_timeout();
    let confirmed = match outcome {
        DeliveryOutcome::Done => Ok(()),
        DeliveryOutcome::Release => {
            release_after_pause(delivery, shutdown).await;
            return;
        }
        DeliveryOutcome::Retry { after } => {
            metrics::count(metrics::RETRIES, route);
            let again = Message { attempt: delivery.message.attempt.saturating_add(1), ..delivery.message.clone() };
            let message = broker.compress(again);
            let attempt = || broker.publish_later(route, message.clone(), after);
            publish_replacement(hold, attempt, &message.id, &format!("{route}, delayed")).await
        }
        DeliveryOutcome::DeadLetter { reason } => {
            metrics::count(metrics::DEAD_LETTERS, route);
            warn!(queue = %route, message_id = delivery.message.id, "message becomes a dead letter: {reason}");
            let message = broker.compress(delivery.message.clone());
            let attempt = || broker.dead_letter(route, message.clone(), &reason);
            publish_replacement(hold, attempt, &message.id, "dead_letters").await
        }
    };
    match confirmed {
        Ok(()) => delivery.ack(),
        Err(error) => {
            error!(queue = %route, message_id = delivery.message.id, "message stays in its queue: {error}");
            release_after_pause(delivery, shutdown).await;
        }
    }
}

pub(super) async fn release_after_pause(delivery: Delivery, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(RELEASE_PAUSE, shutdown.cancelled()).await;
    delivery.release();
}

async fn publish_replacement<A>(hold: Duration, attempt: impl Fn() -> A, id: &str, queue: &str) -> Result<(), String>
where
    A: Future<Output = Result<(), PublishError>>,
{
    // Room in these queues comes with time, or when an operator makes some.
    let room = || tokio::time::sleep(Duration::from_secs(1));
    let never = CancellationToken::new();
    match tokio::time::timeout(hold, until_confirmed(attempt, room, id, queue, &never)).await {
        Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no confirm from {queue} within HOLD_TIMEOUT")),
    }
}

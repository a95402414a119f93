//! Outcomes: what a stage says about a message, and what becomes of the message then.
//!
//! Guarantees: a delivery is acknowledged only after what takes its place (a delayed retry, a dead letter) is confirmed; it
//! waits for that no longer than the hold timeout.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::publish::until_confirmed;
use crate::{Broker, Delivery, Message, PublishError, Route, metrics};

/// What became of the work on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, with everything it had to publish or store: the message is acknowledged.
    Done,
    /// It failed: the message comes again after the delay (1, 10 or 60 s), as a further attempt.
    Retry {
        /// How long to wait at least.
        after: Duration,
    },
    /// It can't be done: the message becomes a dead letter.
    Dead {
        /// Why, for the people who look at dead letters. No data of the message.
        reason: String,
    },
    /// It was not done, by no fault of the message, as the stage is stopping: the message is given back.
    Release,
}

/// After so many attempts that ended in a panic, a message is taken to be what causes them.
const PANICS: u32 = 5;

impl Outcome {
    /// What becomes of a message whose work panicked.
    pub(crate) fn of_panic(message: &Message) -> Self {
        if message.attempt + 1 >= PANICS {
            return Self::Dead { reason: format!("the work on it panicked {PANICS} times") };
        }
        let seconds = if message.attempt == 0 { 1 } else { 10 };
        Self::Retry { after: Duration::from_secs(seconds) }
    }
}

/// Runs a decoder. What it refuses, and what makes it panic, is the reason for a dead letter.
pub(crate) fn decode<T>(decode: impl Fn(&Message) -> Result<T, String>, message: &Message) -> Result<T, String> {
    if let Some(reason) = message.unreadable() {
        return Err(reason.to_owned());
    }
    std::panic::catch_unwind(AssertUnwindSafe(|| decode(message)))
        .unwrap_or_else(|_| Err("decoding it panicked".to_owned()))
}

/// Runs the work. `None` if it panicked.
pub(crate) async fn catch_panic<O>(work: impl Future<Output = O>) -> Option<O> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

/// How long a message that is given back while the stage is not stopping is held, so that it cannot go round in a loop.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// Does what the outcome asks for, and settles the delivery. What finds no room within the hold timeout goes back to where it
/// was. A caller that cannot wait drops it, and the message is redelivered.
pub(crate) async fn settle(
    broker: &dyn Broker,
    route: Route,
    delivery: Delivery,
    outcome: Outcome,
    shutdown: &CancellationToken,
) {
    let hold = broker.hold_timeout();
    let confirmed = match outcome {
        Outcome::Done => Ok(()),
        Outcome::Release => {
            release_after_pause(delivery, shutdown).await;
            return;
        }
        Outcome::Retry { after } => {
            metrics::retried(route);
            let again = Message { attempt: delivery.message.attempt.saturating_add(1), ..delivery.message.clone() };
            let message = broker.compress(again);
            let attempt = || broker.publish_later(route, message.clone(), after);
            publish_replacement(hold, attempt, &message.id, &format!("{route}, delayed")).await
        }
        Outcome::Dead { reason } => {
            metrics::dead_lettered(route);
            warn!(queue = %route, message_id = delivery.message.id, "message becomes a dead letter: {reason}");
            let message = broker.compress(delivery.message.clone());
            let attempt = || broker.bury(route, message.clone(), &reason);
            publish_replacement(hold, attempt, &message.id, "dead_letters").await
        }
    };
    match confirmed {
        Ok(()) => delivery.ack(),
        Err(error) => {
            error!(queue = %route, message_id = delivery.message.id, "message stays where it is: {error}");
            release_after_pause(delivery, shutdown).await;
        }
    }
}

/// Gives a message back, after a pause.
pub(crate) async fn release_after_pause(delivery: Delivery, shutdown: &CancellationToken) {
    let _ = tokio::time::timeout(RELEASE_PAUSE, shutdown.cancelled()).await;
    delivery.release();
}

async fn publish_replacement<A>(hold: Duration, attempt: impl Fn() -> A, id: &str, queue: &str) -> Result<(), String>
where
    A: Future<Output = Result<(), PublishError>>,
{
    // Room in these queues comes with time, or when a person makes some.
    let room = || tokio::time::sleep(Duration::from_secs(1));
    let never = CancellationToken::new();
    match tokio::time::timeout(hold, until_confirmed(attempt, room, id, queue, &never)).await {
        Ok(confirmed) => confirmed.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no confirm from {queue} within HOLD_TIMEOUT")),
    }
}

//! What becomes of messages whose work does not end, as what it needs is away: they are put off, so that the broker need not
//! wait for them. RabbitMQ closes a channel on which a message is held for 30 minutes.
//!
//! Guarantees: work that takes longer than [`Broker::hold_timeout`] is dropped, and its message waits a minute in a delay
//! queue; that is no failed attempt. From then on one message at a time is tried, and all else is left to the queue, until
//! work ends again.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::consume::delay::Delay;
use crate::{Broker, Delivery, Route, metrics};

/// How much is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As much as the options allow.
    Full,
    /// One message, to see whether its work ends.
    Probe,
}

/// How the work on a message came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    Settled,
    Deferred,
}

impl Pace {
    /// The other pace, if that is what is called for now.
    pub(crate) fn after(self, ended: Disposition, route: Route) -> Option<Self> {
        match (self, ended) {
            (Self::Full, Disposition::Deferred) => {
                warn!(
                    queue = %route,
                    "work does not end within HOLD_TIMEOUT, as if what it needs were away; messages are put off for a \
                     minute, and tried one at a time until work ends again"
                );
                Some(Self::Probe)
            }
            (Self::Probe, Disposition::Settled) => {
                info!(queue = %route, "work ends again; taking on as much as before");
                Some(Self::Full)
            }
            (Self::Full, Disposition::Settled) | (Self::Probe, Disposition::Deferred) => None,
        }
    }
}

/// Waits until what is under way has ended, as nothing more is taken: for another pace, or for good. Tells whether it ended in
/// time, which is `drain` after the shutdown.
pub(crate) async fn drain_in_time(
    all: impl Future<Output = ()>,
    next: Option<Pace>,
    shutdown: &CancellationToken,
    drain: Duration,
) -> bool {
    let overdue = async {
        if next.is_some() {
            // No shutdown: what is under way ends by itself, within the hold timeout.
            shutdown.cancelled().await;
        }
        sleep(drain).await;
    };
    tokio::select! {
        biased;
        () = all => true,
        () = overdue => false,
    }
}

/// Puts a message off for a minute, as the attempt that it is. Where that cannot be done now, it goes back to its queue, which
/// always has its place.
pub(crate) async fn defer(broker: &dyn Broker, route: Route, delivery: Delivery) {
    match broker.publish_later(route, delivery.message.clone(), Delay::LONGEST.duration()).await {
        Ok(()) => {
            metrics::deferred(route);
            delivery.ack();
        }
        Err(error) => {
            debug!(queue = %route, message_id = delivery.message.id, "cannot put the message off: {error}");
            delivery.release();
        }
    }
}

//! Deferring messages whose work does not end, and the steps of delays.
//!
//! A deferred message waits a minute in a delay queue, as the same attempt. RabbitMQ closes a channel on which a message is held
//! for 30 minutes, so no message is held that long.

use std::time::Duration;

use tracing::debug;

use crate::{Broker, Delivery, Route, metrics};

/// Defers a message by a minute. If the broker cannot take it now, it goes back to its queue, which always has room for it.
pub(super) async fn defer(broker: &dyn Broker, route: Route, delivery: Delivery) {
    match broker.publish_later(route, delivery.message.clone(), Delay::LONGEST.duration()).await {
        Ok(()) => {
            metrics::count(metrics::DEFERRED, route);
            delivery.ack();
        }
        Err(error) => {
            debug!(queue = %route, message_id = delivery.message.id, "cannot defer the message: {error}");
            delivery.release();
        }
    }
}

/// How long a delayed message waits. The steps are few and fixed: RabbitMQ expires messages only at the head of a queue, so each
/// step needs a queue of its own, in which all messages wait equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delay {
    OneSecond,
    TenSeconds,
    OneMinute,
}

impl Delay {
    pub(crate) const ALL: [Self; 3] = [Self::OneSecond, Self::TenSeconds, Self::OneMinute];
    pub(crate) const LONGEST: Self = Self::OneMinute;

    /// The shortest step that is not shorter than `wanted`, else the longest.
    pub(crate) fn at_least(wanted: Duration) -> Self {
        Self::ALL.into_iter().find(|step| step.duration() >= wanted).unwrap_or(Self::LONGEST)
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::OneSecond => 1,
            Self::TenSeconds => 10,
            Self::OneMinute => 60,
        })
    }

    /// The suffix of its queue's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneSecond => "1s",
            Self::TenSeconds => "10s",
            Self::OneMinute => "60s",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_rounded_up_to_the_next_step() {
        let cases = [
            (0, Delay::OneSecond),
            (1_000, Delay::OneSecond),
            (1_001, Delay::TenSeconds),
            (10_000, Delay::TenSeconds),
            (10_001, Delay::OneMinute),
            (60_000, Delay::OneMinute),
            (3_600_000, Delay::OneMinute),
        ];
        for (millis, step) in cases {
            assert_eq!(Delay::at_least(Duration::from_millis(millis)), step, "{millis} ms");
        }
    }
}

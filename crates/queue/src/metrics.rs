//! Metrics of the broker, the same in all programs. Queues are named without the prefix.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{Broker, Message, Route, rabbitmq};

pub(crate) const RETRIES: &str = "assay_queue_retries_total";
pub(crate) const DEFERRED: &str = "assay_queue_put_off_total";
pub(crate) const DEAD_LETTERS: &str = "assay_queue_dead_letters_total";
const MESSAGES: &str = "assay_queue_messages";
const CONSUMERS: &str = "assay_queue_consumers";
const MALFORMED: &str = "assay_queue_malformed_messages_total";
const LOST: &str = "assay_queue_connections_lost_total";
const WAIT: &str = "assay_queue_wait_seconds";
const BLOCKED: &str = "assay_queue_publishing_blocked";

/// Between two observations of the queues.
const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) fn describe() {
    describe_counter!(RETRIES, "Messages retried after a delay, by queue.");
    describe_counter!(
        DEFERRED,
        "Messages deferred by a minute, as their work did not end within HOLD_TIMEOUT, by queue."
    );
    describe_counter!(DEAD_LETTERS, "Messages that this program dead-lettered, by queue.");
    describe_counter!(LOST, "Lost connections to RabbitMQ.");
    for route in Route::ALL {
        for name in [RETRIES, DEFERRED, DEAD_LETTERS] {
            counter!(name, "queue" => route.to_string()).absolute(0);
        }
    }
    counter!(LOST).absolute(0);
    describe_histogram!(
        WAIT,
        "From the publication of a message to its delivery, delays of retries included, by queue."
    );
    describe_gauge!(BLOCKED, "1 while RabbitMQ lets this program publish nothing, as it is short of memory or disk.");
    set_publishing_blocked(false);
    describe_counter!(MALFORMED, "Messages whose properties had to be repaired, by damage.");
    for damage in rabbitmq::damages() {
        counter!(MALFORMED, "damage" => damage).absolute(0);
    }
}

/// Counts a message of a queue under one of the metrics by queue.
pub(crate) fn count(metric: &'static str, route: Route) {
    counter!(metric, "queue" => route.to_string()).increment(1);
}

pub(crate) fn malformed(damage: &'static str) {
    counter!(MALFORMED, "damage" => damage).increment(1);
}

pub(crate) fn connection_lost() {
    counter!(LOST).increment(1);
}

/// Whether RabbitMQ has blocked publishing, from now on.
pub(crate) fn set_publishing_blocked(is_blocked: bool) {
    gauge!(BLOCKED).set(u32::from(is_blocked));
}

/// Records how long a delivered message has waited, as the clocks of both machines see it. Messages of other programs do not
/// say when they were published.
pub(crate) fn delivered(message: &Message, route: Route) {
    if message.published_at_us == 0 || !message.kind.starts_with("assay.") {
        return;
    }
    let published_at = UNIX_EPOCH + Duration::from_micros(message.published_at_us);
    // A publisher whose clock is ahead has published just now.
    let waited = SystemTime::now().duration_since(published_at).unwrap_or_default();
    histogram!(WAIT, "queue" => route.to_string()).record(waited);
}

/// Observes the depth of the work queues for the metrics, until dropped. Every process sees the same, so one stage does it.
pub async fn observe_depths(broker: &dyn Broker) -> Infallible {
    describe_gauge!(MESSAGES, "Messages waiting in a queue; unacknowledged ones are not counted.");
    describe_gauge!(CONSUMERS, "Consumers of a queue, in all programs.");
    loop {
        for route in Route::ALL {
            // `assay_dependency_up` shows that the broker is unreachable.
            let Ok(depth) = broker.depth(route).await else { break };
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
            gauge!(MESSAGES, "queue" => route.to_string()).set(depth.messages as f64);
            gauge!(CONSUMERS, "queue" => route.to_string()).set(depth.consumers);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

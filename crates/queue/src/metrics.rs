//! What is counted of the broker, in all programs alike. Queues are named without the prefix.

use std::convert::Infallible;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::{Broker, Route, rabbitmq};

const RETRIES: &str = "assay_queue_retries_total";
const PUT_OFF: &str = "assay_queue_put_off_total";
const DEAD_LETTERS: &str = "assay_queue_dead_letters_total";
const MESSAGES: &str = "assay_queue_messages";
const CONSUMERS: &str = "assay_queue_consumers";
const MALFORMED: &str = "assay_queue_malformed_messages_total";
const LOST: &str = "assay_queue_connections_lost_total";

/// Between two looks at the queues.
const INTERVAL: Duration = Duration::from_secs(5);

/// Says what the metrics are, and begins them at 0.
pub(crate) fn describe() {
    describe_counter!(
        RETRIES,
        "Messages that come again after a delay, as a further attempt, by the queue they were in."
    );
    describe_counter!(PUT_OFF, "Messages put off for a minute, as what they need is away, by the queue they were in.");
    describe_counter!(DEAD_LETTERS, "Messages that this program gave up, by the queue they were in.");
    describe_counter!(LOST, "Connections to RabbitMQ that were lost.");
    for route in Route::ALL {
        for name in [RETRIES, PUT_OFF, DEAD_LETTERS] {
            counter!(name, "queue" => route.to_string()).absolute(0);
        }
    }
    counter!(LOST).absolute(0);
    describe_counter!(
        MALFORMED,
        "Messages that came with properties that had to be repaired to be read, by what was wrong."
    );
    for damage in rabbitmq::damages() {
        counter!(MALFORMED, "damage" => damage).absolute(0);
    }
}

pub(crate) fn retried(route: Route) {
    counter!(RETRIES, "queue" => route.to_string()).increment(1);
}

pub(crate) fn deferred(route: Route) {
    counter!(PUT_OFF, "queue" => route.to_string()).increment(1);
}

pub(crate) fn dead_lettered(route: Route) {
    counter!(DEAD_LETTERS, "queue" => route.to_string()).increment(1);
}

pub(crate) fn malformed(damage: &'static str) {
    counter!(MALFORMED, "damage" => damage).increment(1);
}

pub(crate) fn connection_lost() {
    counter!(LOST).increment(1);
}

/// Looks at the depth of the work queues again and again, for the metrics; until it is dropped. Every process sees the same, so
/// one stage does it.
pub async fn observe_depths(broker: &dyn Broker) -> Infallible {
    describe_gauge!(MESSAGES, "Messages that wait in a queue for a consumer; those that one holds are not counted.");
    describe_gauge!(CONSUMERS, "Consumers of a queue, in all programs.");
    loop {
        for route in Route::ALL {
            // Whoever reads them sees in `assay_dependency_up` that the broker is away.
            let Ok(depth) = broker.depth(route).await else { break };
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
            gauge!(MESSAGES, "queue" => route.to_string()).set(depth.messages as f64);
            gauge!(CONSUMERS, "queue" => route.to_string()).set(depth.consumers);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

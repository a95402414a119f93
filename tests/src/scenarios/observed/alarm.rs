//! RabbitMQ short of memory: the metric and the alert show that it blocks publishers, and show when it is over.

use std::time::Duration;

use tokio::time::{interval, timeout};

use super::live;
use super::prometheus::Prometheus;
use crate::{DEADLINE, Program, post};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Raises the alarm, and takes it back.
pub(super) async fn blocks_publishing(prometheus: &Prometheus, transactions: &str) {
    Program::shell("rabbitmqctl -q set_vm_memory_high_watermark absolute 1MB").run().await.expect_exit(0);
    // RabbitMQ blocks a connection once it publishes. The streamer answers when it may publish again.
    let publishing = async { post(transactions, "/transactions", &live(u64::MAX)).await };
    let watching = async {
        until(prometheus, "max(assay_queue_publishing_blocked{stage=\"streamer\"}) == 1").await;
        until(prometheus, "count(ALERTS{alertname=\"AssayPublishingBlocked\"})").await;
        Program::shell("rabbitmqctl -q set_vm_memory_high_watermark 0.4").run().await.expect_exit(0);
        until(prometheus, "max(assay_queue_publishing_blocked) == 0").await;
        until(prometheus, "absent(ALERTS{alertname=\"AssayPublishingBlocked\"})").await;
    };
    let (answer, ()) = tokio::join!(publishing, watching);
    answer.expect("the streamer answers");
}

/// Waits until a query returns something.
async fn until(prometheus: &Prometheus, query: &str) {
    let returned = async {
        let mut looks = interval(LOOK);
        while prometheus.value(query).await.is_none() {
            looks.tick().await;
        }
    };
    timeout(DEADLINE, returned).await.unwrap_or_else(|_| panic!("never so: {query}"));
}

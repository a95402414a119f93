//! Which of several processes is served first.

use assay_queue::{Consumer, QueueKind, Route};
use assay_transaction::Lane;

use crate::fixture::{Server, message, next, within_a_minute};

const LIVE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Realtime };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_transactions_go_to_one_process_until_it_holds_its_prefetch() {
    let server = Server::new(100);
    let (one, other) = (server.connect().await, server.connect().await);
    let mut consumers = [one.consume(LIVE, 2).await.unwrap(), other.consume(LIVE, 2).await.unwrap()];
    for id in 0..4 {
        one.publish(LIVE, message(id.to_string())).await.unwrap();
    }
    let mut received = Vec::new();
    for consumer in &mut consumers {
        received.push([id_of_next(consumer).await, id_of_next(consumer).await]);
    }
    received.sort();
    assert_eq!(received, [["0", "1"], ["2", "3"]]);
    for consumer in consumers {
        consumer.close().await;
    }
    other.close().await;
    server.end(one).await;
}

/// The message stays held.
async fn id_of_next(consumer: &mut Box<dyn Consumer>) -> String {
    within_a_minute(next(consumer)).await.message.id
}

//! The contract of broadcasts, on both brokers.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{BroadcastListener, Broker, PublishError};

use crate::fixture::{Server, message, on_both, within_a_minute};

on_both! {
    every_listener_receives_a_broadcast(100);
    a_late_listener_misses_earlier_broadcasts(100);
    a_broadcast_without_listeners_is_no_error(100);
    a_slow_listener_loses_the_oldest_broadcasts(100);
    a_closed_broker_neither_sends_nor_receives_broadcasts(100);
}

async fn receive(listener: &mut Box<dyn BroadcastListener>) -> String {
    listener.next().await.expect("the broker is closed").id
}

async fn every_listener_receives_a_broadcast(broker: Arc<dyn Broker>) {
    let mut one = broker.listen().await.unwrap();
    let mut two = broker.listen().await.unwrap();
    let gone = broker.listen().await.unwrap();
    drop(gone);
    for id in ["first", "second"] {
        broker.broadcast(message(id)).await.unwrap();
    }
    for listener in [&mut one, &mut two] {
        let first = listener.next().await.unwrap();
        assert_eq!(
            (first.id.as_str(), first.kind.as_str(), first.run_id.as_str()),
            ("first", "assay.test.v1", "run_1")
        );
        assert_eq!(&first.body[..], b"{}");
        assert_eq!(receive(listener).await, "second");
    }
}

async fn a_late_listener_misses_earlier_broadcasts(broker: Arc<dyn Broker>) {
    let mut early = broker.listen().await.unwrap();
    broker.broadcast(message("before")).await.unwrap();
    assert_eq!(receive(&mut early).await, "before");
    let mut late = broker.listen().await.unwrap();
    broker.broadcast(message("after")).await.unwrap();
    assert_eq!(receive(&mut late).await, "after");
}

async fn a_broadcast_without_listeners_is_no_error(broker: Arc<dyn Broker>) {
    assert_eq!(broker.broadcast(message("unreceived")).await, Ok(()));
}

async fn a_slow_listener_loses_the_oldest_broadcasts(broker: Arc<dyn Broker>) {
    let mut slow = broker.listen().await.unwrap();
    let mut quick = broker.listen().await.unwrap();
    for id in 0..2000 {
        broker.broadcast(message(id.to_string())).await.unwrap();
        assert_eq!(receive(&mut quick).await, id.to_string());
    }
    // The last one may still be on its way to the slow one.
    let mut received = Vec::new();
    while received.last().is_none_or(|id| id != "1999") {
        received.push(receive(&mut slow).await);
    }
    assert!((1..=1000).contains(&received.len()), "it remembers {} of 2000", received.len());
}

async fn a_closed_broker_neither_sends_nor_receives_broadcasts(broker: Arc<dyn Broker>) {
    let mut listener = broker.listen().await.unwrap();
    let waiting = tokio::spawn(async move { listener.next().await });
    broker.close().await;
    assert_eq!(waiting.await.unwrap(), None);
    let sent = broker.broadcast(message("late")).await;
    assert!(matches!(sent, Err(PublishError::Unavailable(_))), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_resumes_when_connections_are_cut() {
    let server = Server::new(100);
    let (proxy, broker) = server.connect_through_proxy().await;
    // Another process, with healthy connections.
    let sender = server.connect().await;
    within_a_minute(async {
        let mut listener = broker.listen().await.unwrap();
        for round in 0..3 {
            proxy.cut().await;
            // Broadcasts during the outage are missed, so they are repeated.
            let id = round.to_string();
            let send = async {
                loop {
                    sender.broadcast(message(id.as_str())).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let received = async { while receive(&mut listener).await != id {} };
            tokio::select! {
                () = received => {}
                () = send => {}
            }
        }
    })
    .await;
    sender.close().await;
    server.end(broker).await;
}

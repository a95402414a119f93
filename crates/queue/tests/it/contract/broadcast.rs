//! The contract of what is broadcast to all processes, on both brokers.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, BrokerOptions, Listener, PublishError, connect};

use crate::fixture::{STARTUP, Server, message, on_both, within_a_minute};
use crate::proxy::Proxy;

on_both! {
    every_listener_hears_what_is_broadcast(100);
    a_late_listener_does_not_hear_what_was_said_before(100);
    it_is_no_error_that_nobody_listens(100);
    a_listener_that_takes_nothing_forgets_the_oldest(100);
    a_closed_broker_neither_tells_nor_hears(100);
}

async fn hear(listener: &mut Box<dyn Listener>) -> String {
    listener.next().await.expect("the broker is closed").id
}

async fn every_listener_hears_what_is_broadcast(broker: Arc<dyn Broker>) {
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
        assert_eq!(hear(listener).await, "second");
    }
}

async fn a_late_listener_does_not_hear_what_was_said_before(broker: Arc<dyn Broker>) {
    let mut early = broker.listen().await.unwrap();
    broker.broadcast(message("before")).await.unwrap();
    assert_eq!(hear(&mut early).await, "before");
    let mut late = broker.listen().await.unwrap();
    broker.broadcast(message("after")).await.unwrap();
    assert_eq!(hear(&mut late).await, "after");
}

async fn it_is_no_error_that_nobody_listens(broker: Arc<dyn Broker>) {
    assert_eq!(broker.broadcast(message("unheard")).await, Ok(()));
}

async fn a_listener_that_takes_nothing_forgets_the_oldest(broker: Arc<dyn Broker>) {
    let mut slow = broker.listen().await.unwrap();
    let mut quick = broker.listen().await.unwrap();
    for id in 0..2000 {
        broker.broadcast(message(id.to_string())).await.unwrap();
        assert_eq!(hear(&mut quick).await, id.to_string());
    }
    // The last one may still be on its way to the slow one.
    let mut heard = Vec::new();
    while heard.last().is_none_or(|id| id != "1999") {
        heard.push(hear(&mut slow).await);
    }
    assert!((1..=1000).contains(&heard.len()), "it remembers {} of 2000", heard.len());
}

async fn a_closed_broker_neither_tells_nor_hears(broker: Arc<dyn Broker>) {
    let mut listener = broker.listen().await.unwrap();
    let waiting = tokio::spawn(async move { listener.next().await });
    broker.close().await;
    assert_eq!(waiting.await.unwrap(), None);
    let told = broker.broadcast(message("late")).await;
    assert!(matches!(told, Err(PublishError::Unavailable(_))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_listens_again_when_connections_are_cut() {
    let server = Server::new(100);
    let proxy = Proxy::start().await;
    let options = BrokerOptions { amqp_url: Some(proxy.url()), ..server.options.clone() };
    let broker = connect(&options, "test", STARTUP).await.unwrap();
    // Another process, whose connections are well.
    let teller = server.connect().await;
    within_a_minute(async {
        let mut listener = broker.listen().await.unwrap();
        for round in 0..3 {
            proxy.cut();
            // What is said while it is away is not heard; who must be heard says it again.
            let id = round.to_string();
            let say = async {
                loop {
                    teller.broadcast(message(id.as_str())).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let heard = async { while hear(&mut listener).await != id {} };
            tokio::select! {
                () = heard => {}
                () = say => {}
            }
        }
    })
    .await;
    broker.close().await;
    teller.close().await;
    server.delete_all().await;
}

//! Lost connections, deleted queues, wrong settings: what only a broker behind a network can suffer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use assay_queue::{
    BrokerEndpoint, BrokerError, BrokerOptions, DeliveryOutcome, PublishError, ServeOptions, connect,
    publish_until_confirmed,
};
use assay_transaction::Exit;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::contract::single;
use crate::fixture::{ROUTE, STARTUP, Server, address, message, next, until_depth, within_a_minute};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_connections_are_cut() {
    const MESSAGES: usize = 500;
    let mut server = Server::new(2000);
    server.options.publish_window = 50;
    let (proxy, broker) = server.connect_through_proxy().await;
    let (done, mut all_done) = mpsc::unbounded_channel();
    let options = ServeOptions { concurrency: 8, prefetch: 16, ..single::OPTIONS };
    let serving = single::start(&broker, options, move |message| {
        let done = done.clone();
        async move {
            done.send(message.id).unwrap();
            DeliveryOutcome::Done
        }
    });
    let mut publishing = JoinSet::new();
    for id in 0..MESSAGES {
        let broker = Arc::clone(&broker);
        publishing.spawn(async move {
            publish_until_confirmed(&*broker, ROUTE, message(id.to_string()), &CancellationToken::new()).await
        });
    }
    let delivered = within_a_minute(async {
        let mut delivered = HashSet::new();
        let mut cuts = [50, 100, 200, 300, 450].into_iter().peekable();
        while delivered.len() < MESSAGES {
            delivered.insert(all_done.recv().await.unwrap());
            if cuts.next_if(|at| delivered.len() >= *at).is_some() {
                proxy.cut().await;
            }
        }
        while let Some(published) = publishing.join_next().await {
            published.unwrap().unwrap();
        }
        delivered
    })
    .await;
    assert_eq!(delivered, (0..MESSAGES).map(|id| id.to_string()).collect());

    // Duplicates, published twice or redelivered after a lost ack, are worked off too.
    until_depth(&*broker, ROUTE, 0, 1).await;
    serving.end().await;
    until_depth(&*broker, ROUTE, 0, 0).await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_replaced() {
    let mut server = Server::new(100);
    server.options.publish_timeout = Duration::from_millis(500);
    let (proxy, broker) = server.connect_through_proxy().await;
    broker.publish(ROUTE, message("before")).await.unwrap();
    proxy.silence().await;
    let published = broker.publish(ROUTE, message("lost")).await;
    assert!(matches!(published, Err(PublishError::Unavailable(_))), "{published:?}");
    within_a_minute(publish_until_confirmed(&*broker, ROUTE, message("after"), &CancellationToken::new()))
        .await
        .unwrap();
    // A confirm that takes longer than the short timeout of this test makes a duplicate.
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    let mut seen = HashSet::new();
    while seen.len() < 2 {
        let delivery = within_a_minute(next(&mut consumer)).await;
        seen.insert(delivery.message.id.clone());
        delivery.ack();
    }
    assert_eq!(seen, HashSet::from(["before", "after"].map(str::to_owned)));
    consumer.close().await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_of_a_lost_channel_is_not_acknowledged_on_the_next() {
    let server = Server::new(100);
    let (proxy, broker) = server.connect_through_proxy().await;
    for id in ["first", "second"] {
        broker.publish(ROUTE, message(id)).await.unwrap();
    }
    let mut consumer = broker.consume(ROUTE, 1).await.unwrap();
    let stale = next(&mut consumer).await;
    assert_eq!(stale.message.id, "first");
    proxy.cut().await;
    let again = within_a_minute(next(&mut consumer)).await;
    assert_eq!((again.message.id.as_str(), again.redelivered), ("first", true));
    // It has the tag of the delivery held now.
    stale.ack();
    consumer.close().await;
    until_depth(&*broker, ROUTE, 2, 0).await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topology_is_declared_idempotently() {
    let server = Server::new(100);
    let first = server.connect().await;
    first.publish(ROUTE, message("kept")).await.unwrap();
    let second = server.connect().await;
    until_depth(&*second, ROUTE, 1, 0).await;

    let other = BrokerOptions { queue_max_length: 101, ..server.options.clone() };
    let error = refused(&other, STARTUP).await;
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("QUEUE_MAX_LENGTH") && error.to_string().contains("x-max-length"), "{error}");
    for broker in [first, second] {
        broker.close().await;
    }
    server.delete_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_reported_and_declared_again() {
    let server = Server::new(100);
    let broker = server.connect().await;
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    let client = server.client().await;
    server.delete_queue(&client, "predictions.realtime").await;
    let deleted = crate::fixture::OTHER;
    assert_eq!(broker.publish(deleted, message("lost")).await, Err(PublishError::Unroutable));
    within_a_minute(publish_until_confirmed(&*broker, deleted, message("kept"), &CancellationToken::new()))
        .await
        .unwrap();
    until_depth(&*broker, deleted, 1, 0).await;

    // A consumer resumes, too.
    server.delete_queue(&client, "transactions.batch").await;
    within_a_minute(publish_until_confirmed(&*broker, ROUTE, message("found"), &CancellationToken::new()))
        .await
        .unwrap();
    assert_eq!(within_a_minute(next(&mut consumer)).await.message.id, "found");
    consumer.close().await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unconfirmed_messages_are_bounded_by_the_window() {
    let mut server = Server::new(2000);
    server.options.publish_window = 7;
    let (_proxy, broker) = server.connect_through_proxy().await;
    assert_eq!(broker.max_in_flight(), 7);
    // Far more than the window at once, over one channel.
    let published = Arc::new(Mutex::new(0));
    let mut publishing = JoinSet::new();
    for id in 0..1000 {
        let (broker, published) = (Arc::clone(&broker), Arc::clone(&published));
        publishing.spawn(async move {
            broker.publish(ROUTE, message(id.to_string())).await.unwrap();
            *published.lock().unwrap() += 1;
        });
    }
    within_a_minute(publishing.join_all()).await;
    assert_eq!(*published.lock().unwrap(), 1000);
    until_depth(&*broker, ROUTE, 1000, 0).await;
    server.end(broker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_exceeds_its_bound_by_the_windows_at_most() {
    const LENGTH: usize = 20;
    const WINDOW: u16 = 64;
    let server = Server::new(LENGTH);
    let options = BrokerOptions { publish_window: WINDOW, ..server.options.clone() };
    let publishers =
        [connect(&options, "test", STARTUP).await.unwrap(), connect(&options, "test", STARTUP).await.unwrap()];
    let bound = LENGTH + publishers.len() * usize::from(WINDOW);
    let mut bursts = JoinSet::new();
    for broker in &publishers {
        for id in 0..5 * bound {
            let broker = Arc::clone(broker);
            bursts.spawn(async move { broker.publish(ROUTE, message(id.to_string())).await });
        }
    }
    let published = within_a_minute(bursts.join_all()).await;
    let taken = published.iter().filter(|published| published.is_ok()).count();
    assert!(published.iter().all(|published| matches!(published, Ok(()) | Err(PublishError::Full))), "{published:?}");
    assert!((LENGTH..=bound).contains(&taken), "{taken} messages, not within {LENGTH} and {bound}");

    // The same holds while room is made and publishers wait for it.
    let stop = CancellationToken::new();
    let mut waiting = JoinSet::new();
    for broker in &publishers {
        for _ in 0..2 * WINDOW {
            let (broker, stop) = (Arc::clone(broker), stop.clone());
            waiting.spawn(async move {
                while publish_until_confirmed(&*broker, ROUTE, message("more"), &stop).await.is_ok() {}
            });
        }
    }
    let [broker, other] = publishers;
    let mut consumer = broker.consume(ROUTE, 10).await.unwrap();
    within_a_minute(async {
        for settled in 0..10 * bound {
            next(&mut consumer).await.ack();
            if settled % 20 == 0 {
                let waiting = broker.depth(ROUTE).await.unwrap().messages;
                assert!(waiting <= bound as u64, "{waiting} messages, more than {bound}");
            }
        }
        stop.cancel();
        // Waiting publishers stop; the others have one last attempt.
        while let Some(ended) = waiting.join_next().await {
            ended.unwrap();
        }
    })
    .await;
    consumer.close().await;
    for broker in [broker, other] {
        broker.close().await;
    }
    server.delete_all().await;
}

async fn refused(options: &BrokerOptions, startup: Duration) -> BrokerError {
    match connect(options, "test", startup).await {
        Ok(_) => panic!("it connects"),
        Err(error) => error,
    }
}

fn at(url: String) -> BrokerOptions {
    BrokerOptions {
        endpoint: BrokerEndpoint::at(url),
        queue_prefix: "test.refused.".to_owned(),
        ..BrokerOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_reported_at_once_and_without_the_password() {
    let mut wrong_password = address();
    wrong_password.authority.userinfo.password = "hunter2".to_owned();
    let mut wrong_host = address();
    wrong_host.vhost = "nowhere".to_owned();
    let cases = [
        (wrong_password.to_string(), "check user and password in AMQP_URL"),
        (wrong_host.to_string(), "check AMQP_URL"),
        ("http://user:hunter2@localhost".to_owned(), "AMQP_URL is not an address of RabbitMQ"),
        ("user:hunter2@localhost".to_owned(), "AMQP_URL is not an address of RabbitMQ"),
    ];
    for (url, expected) in cases {
        // The startup is longer than the test may take.
        let error = within_a_minute(refused(&at(url), Duration::from_mins(10))).await;
        assert_eq!(error.exit(), Exit::Usage, "{error}");
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_waited_for_during_the_startup() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // This listener is no RabbitMQ.
    let startup = Duration::from_millis(700);
    let url = format!("amqp://user:hunter2@{address}");
    let start = Instant::now();
    let silent = refused(&at(url.clone()), startup).await;
    assert!(start.elapsed() >= startup, "it gave up early");
    assert_eq!(silent.exit(), Exit::DependencyUnavailable);
    assert_eq!(
        silent.to_string(),
        format!("cannot reach RabbitMQ at {address} within 0.7 s (no answer): check AMQP_URL")
    );

    drop(listener);
    let refused = refused(&at(url), Duration::from_secs(1)).await;
    assert_eq!(refused.exit(), Exit::DependencyUnavailable);
    let expected = format!("cannot reach RabbitMQ at {address} within 1 s (connection refused): check AMQP_URL");
    assert_eq!(refused.to_string(), expected);
}

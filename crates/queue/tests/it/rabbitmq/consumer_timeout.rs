//! RabbitMQ interrupts consumers that hold a message for too long; ours never do. Its timeout of 30 minutes is seconds here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_queue::{Broker, BrokerOptions, DeliveryOutcome, ServeOptions, connect};
use assay_testkit::servers::{Extras, RabbitMq};
use tokio::sync::mpsc;

use crate::contract::{batch as serving_batches, single as serving};
use crate::fixture::{ROUTE, STARTUP, Server, publish, until_depth, within_a_minute};

const TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn rabbitmq_does_not_interrupt_a_consumer_that_defers_in_time() {
    let Some(server) = std::env::var_os("TEST_RABBITMQ_SERVER") else {
        eprintln!("skipped: no RabbitMQ is installed here, and another broker's timeout is not ours to set");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let settings =
        format!("[{{rabbit,[{{consumer_timeout,{}}},{{channel_tick_interval,200}}]}}].\n", TIMEOUT.as_millis());
    let extras = Extras { files: vec![("advanced.config", settings)], ..Extras::default() };
    let node = RabbitMq::start(&directory, server.into(), &extras).await;
    within_a_minute(async {
        held_too_long(&node).await;
        let before = interruptions(&node);
        deferred_in_time(&node).await;
        assert_eq!(interruptions(&node), before, "{}", log(&node));
    })
    .await;
}

/// How often the node closed a channel over the timeout.
fn interruptions(node: &RabbitMq) -> usize {
    log(node).matches("has timed out waiting").count()
}

fn log(node: &RabbitMq) -> String {
    std::fs::read_to_string(node.log()).unwrap()
}

async fn broker(node: &RabbitMq, prefix: &str, hold_timeout: Duration) -> (Server, Arc<dyn Broker>) {
    let mut server = Server::at(node.url_at(node.port()), 100);
    server.options = BrokerOptions { queue_prefix: prefix.to_owned(), hold_timeout, ..server.options };
    let broker = connect(&server.options, "test", STARTUP).await.unwrap();
    (server, broker)
}

/// The control of the test: a consumer that holds a message past the timeout is interrupted, and the message is redelivered while
/// it is still in work.
async fn held_too_long(node: &RabbitMq) {
    let (_server, broker) = broker(node, "held.", Duration::from_mins(1)).await;
    let (begun, mut all_begun) = mpsc::unbounded_channel();
    let serving = serving::start(&broker, ServeOptions { drain: Duration::ZERO, ..serving::OPTIONS }, {
        move |message| {
            begun.send(message.id).unwrap();
            std::future::pending()
        }
    });
    publish(&*broker, ROUTE, 1).await;
    for _ in 0..2 {
        assert_eq!(all_begun.recv().await.as_deref(), Some("0"));
    }
    assert!(interruptions(node) > 0, "{}", log(node));
    serving.end().await;
    broker.close().await;
}

async fn deferred_in_time(node: &RabbitMq) {
    let hold = TIMEOUT / 4;
    let (server, singly) = broker(node, "singly.", hold).await;
    let (server_of_batches, in_batches) = broker(node, "in-batches.", hold).await;
    let client = server.client().await;
    server.let_minutes_pass(&client, ROUTE).await;
    server_of_batches.let_minutes_pass(&client, ROUTE).await;
    for broker in [&singly, &in_batches] {
        publish(&**broker, ROUTE, 20).await;
    }
    let back_at = Instant::now() + 4 * TIMEOUT;
    let (done, mut all_done) = mpsc::unbounded_channel();
    let serving = serving::start(&singly, serving::OPTIONS, move |message| {
        let done = done.clone();
        async move {
            tokio::time::sleep_until(back_at.into()).await;
            done.send((message.id, message.attempt)).unwrap();
            DeliveryOutcome::Done
        }
    });
    let batches = serving_batches::Serving::start(&in_batches, serving_batches::OPTIONS, serving_batches::done);
    tokio::time::sleep_until(back_at.into()).await;
    batches.let_end(100);
    for _ in 0..20 {
        let (id, attempt) = all_done.recv().await.unwrap();
        assert_eq!(attempt, 0, "message {id}");
    }
    for broker in [&singly, &in_batches] {
        until_depth(&**broker, ROUTE, 0, 1).await;
    }
    serving.end().await;
    batches.end().await;
    assert!(all_done.try_recv().is_err(), "some work was done twice");
    for broker in [&singly, &in_batches] {
        until_depth(&**broker, ROUTE, 0, 0).await;
        broker.close().await;
    }
    client.close(200, "the test is over".into()).await.unwrap();
}

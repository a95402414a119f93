//! Poison messages, with properties that no client library writes or reads: each becomes a dead letter, in every queue. No
//! connection is lost over them, so no message is delivered twice.

use std::sync::Arc;
use std::time::Duration;

use assay_connect::ExposeSecret as _;
use assay_queue::{Broker, Death, Delivery, DeliveryOutcome, DrainOutcome, Message};
use assay_testkit::{NOT_UTF_8, RawAmqp, RawProperties};
use tokio::sync::mpsc;

use super::events;
use crate::contract::dead_letters::{self, DRAIN};
use crate::contract::single as serving;
use crate::fixture::{ROUTE, Server, message, next, within_a_minute};

/// A broker, and a connection to publish poison.
struct Poisoned {
    server: Server,
    broker: Arc<dyn Broker>,
    amqp: RawAmqp,
}

impl Poisoned {
    async fn new() -> Self {
        let server = Server::new(100);
        let broker = server.connect().await;
        let amqp = RawAmqp::connect(server.options.endpoint.url.as_ref().unwrap().expose_secret()).await;
        Self { server, broker, amqp }
    }

    /// Publishes each poison message, with its name as the body.
    async fn publish(&mut self, exchange: &str, key: &[u8]) -> usize {
        let poisons = RawProperties::poisons();
        for (name, properties) in &poisons {
            assert!(self.amqp.publish(&self.server.name(exchange), key, properties, name.as_bytes()).await);
        }
        poisons.len()
    }

    async fn end(self) {
        self.server.end(self.broker).await;
    }
}

fn expect_in_order(deliveries: &[Delivery]) {
    for (delivery, (name, _)) in deliveries.iter().zip(RawProperties::poisons()) {
        assert_eq!(String::from_utf8_lossy(&delivery.message.body), name);
        assert!(!delivery.redelivered, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_in_a_work_queue_is_delivered_once() {
    within_a_minute(async {
        let mut poisoned = Poisoned::new().await;
        let count = poisoned.publish("assay.chunks", b"batch").await;
        let mut consumer = poisoned.broker.consume(ROUTE, 100).await.unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..count {
            deliveries.push(next(&mut consumer).await);
        }
        expect_in_order(&deliveries);
        let exchange = poisoned.server.name("assay.chunks");
        assert!(poisoned.amqp.publish(&exchange, b"batch", &RawProperties::deepest(), b"the deepest").await);
        let deepest = next(&mut consumer).await;
        assert_eq!((&deepest.message.body[..], deepest.redelivered), (&b"the deepest"[..], false));
        deepest.ack();
        // Given back, each is redelivered with the headers that RabbitMQ adds.
        for delivery in deliveries {
            delivery.release();
        }
        for _ in 0..count {
            let again = next(&mut consumer).await;
            assert!(again.redelivered);
            again.ack();
        }
        poisoned.broker.publish(ROUTE, message("one of ours")).await.unwrap();
        let ours = next(&mut consumer).await;
        assert_eq!((ours.message.id.as_str(), ours.redelivered), ("one of ours", false));
        ours.ack();
        consumer.close().await;
        poisoned.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_among_the_dead_letters_blocks_no_others() {
    within_a_minute(async {
        let mut poisoned = Poisoned::new().await;
        let count = poisoned.publish("assay.dead", b"\xffany\xfe").await;
        poisoned.broker.dead_letter(ROUTE, message("a real one"), "hopeless").await.unwrap();
        let mut dead = poisoned.broker.consume_dead_letters(100).await.unwrap();
        let mut deliveries = Vec::new();
        for _ in 0..count {
            deliveries.push(next(&mut dead).await);
        }
        expect_in_order(&deliveries);
        let real = next(&mut dead).await;
        let death = Death { queue: "transactions.batch".to_owned(), reason: "hopeless".to_owned() };
        assert_eq!((real.message.id.as_str(), real.death.as_ref()), ("a real one", Some(&death)));
        dead.close().await;
        poisoned.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_among_broadcasts_stops_no_listener() {
    within_a_minute(async {
        let mut poisoned = Poisoned::new().await;
        let mut listener = poisoned.broker.listen().await.unwrap();
        let count = poisoned.publish("assay.control", b"\xff").await;
        // Nor does an oversized one.
        let large = vec![b' '; 100_000];
        poisoned
            .amqp
            .publish(&poisoned.server.name("assay.control"), b"", &RawProperties::short(5, b"x"), &large)
            .await;
        poisoned.broker.broadcast(message("one of ours")).await.unwrap();
        for _ in 0..count {
            listener.next().await.unwrap();
        }
        assert_eq!(listener.next().await.unwrap().id, "one of ours");
        poisoned.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_among_the_events_blocks_no_others() {
    within_a_minute(async {
        let mut poisoned = Poisoned::new().await;
        let mut queue = poisoned.broker.subscribe_events("assay.events", "s3://drops/in/").await.unwrap();
        poisoned.publish("assay.events", b"any\xff").await;
        for (name, _) in RawProperties::poisons() {
            let event = loop {
                // An error would mean a lost connection.
                match queue.pull().await.unwrap() {
                    Some(event) => break event,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            };
            assert_eq!(String::from_utf8_lossy(&event.body), name);
            event.ack().await.unwrap();
        }
        drop(queue);
        poisoned.broker.close().await;
        events::delete(&poisoned.server, &[events::QUEUE]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_with_a_damaged_identity_becomes_a_dead_letter_with_the_reason() {
    within_a_minute(async {
        let mut poisoned = Poisoned::new().await;
        let serving = serving::start(&poisoned.broker, serving::OPTIONS, |_| async { DeliveryOutcome::Done });
        let (seen, mut all_seen) = mpsc::unbounded_channel();
        let draining = dead_letters::start(&poisoned.broker, DRAIN, move |message: Message, death| {
            seen.send((message.id, death.reason)).unwrap();
            async { DrainOutcome::Recorded }
        });
        // The body is valid.
        for (bit, id) in [(7, "a\u{1a}\u{1a}b"), (5, ""), (3, "")] {
            let exchange = poisoned.server.name("assay.chunks");
            assert!(poisoned.amqp.publish(&exchange, b"batch", &RawProperties::short(bit, NOT_UTF_8), b"{}").await);
            let (dead, reason) = all_seen.recv().await.unwrap();
            assert_eq!(dead, id);
            assert!(reason.contains("message_id, type and app_id must be UTF-8"), "{reason}");
        }
        serving.end().await;
        draining.end().await;
        poisoned.end().await;
    })
    .await;
}

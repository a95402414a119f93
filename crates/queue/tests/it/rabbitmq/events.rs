//! Bucket events: pulled, settled, given back, and never lost.

use std::collections::HashSet;
use std::time::Duration;

use assay_queue::{BrokerError, EventDelivery, EventQueue, InProcess};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};

use crate::fixture::{Server, next, within_a_minute};

const EXCHANGE: &str = "assay.events";
const PLACE: &str = "s3://drops/in/";

/// The publisher, such as an S3 server. It knows only the exchange.
struct Bucket {
    channel: Channel,
    exchange: String,
}

impl Bucket {
    async fn of(server: &Server) -> Self {
        let channel = server.client().await.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, exchange: server.name(EXCHANGE) }
    }

    async fn publishes(&self, body: &str) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (self.exchange.as_str().into(), "any.key".into());
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties).await.unwrap();
        let confirmed = sent.await.unwrap();
        assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "{body} finds its queue");
    }
}

async fn pull(events: &mut Box<dyn EventQueue>) -> EventDelivery {
    loop {
        match events.pull().await {
            Ok(Some(event)) => return event,
            // Not there yet, or reconnecting.
            Ok(None) | Err(BrokerError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn read(events: &mut Box<dyn EventQueue>) -> String {
    let event = pull(events).await;
    let text = String::from_utf8(event.body.to_vec()).unwrap();
    event.ack().await.unwrap();
    text
}

pub(crate) async fn delete(server: &Server, queues: &[&str]) {
    let channel = server.client().await.create_channel().await.unwrap();
    for queue in queues {
        channel.queue_delete(server.name(queue).into(), QueueDeleteOptions::default()).await.unwrap();
    }
    channel.exchange_delete(server.name(EXCHANGE).into(), ExchangeDeleteOptions::default()).await.unwrap();
    server.delete_all().await;
}

/// The names in RabbitMQ, pinned: another name in a later version would leave a queue behind.
pub(crate) const QUEUE: &str = "assay.events.s3---drops-in-.9d820514";
const OTHER_QUEUE: &str = "assay.events.s3---drops-out-.cab72020";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_held_by_one_watcher_until_it_is_settled() {
    let server = Server::new(100);
    let (one, two) = (server.connect().await, server.connect().await);
    within_a_minute(async {
        let mut first = one.subscribe_events(EXCHANGE, PLACE).await.unwrap();
        let mut second = two.subscribe_events(EXCHANGE, PLACE).await.unwrap();
        let mut elsewhere = two.subscribe_events(EXCHANGE, "s3://drops/out/").await.unwrap();
        assert!(first.pull().await.unwrap().is_none());
        let bucket = Bucket::of(&server).await;
        for body in ["1", "2"] {
            bucket.publishes(body).await;
        }
        let held = pull(&mut first).await;
        assert_eq!(&held.body[..], b"1");
        assert_eq!(read(&mut second).await, "2");
        assert!(second.pull().await.unwrap().is_none(), "the first has it");
        drop(held);
        assert_eq!(read(&mut second).await, "1", "it came back");
        assert!(first.pull().await.unwrap().is_none());
        // The watchers of another place receive all events too.
        assert_eq!((read(&mut elsewhere).await, read(&mut elsewhere).await), ("1".into(), "2".into()));
    })
    .await;
    one.close().await;
    two.close().await;
    delete(&server, &[QUEUE, OTHER_QUEUE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_event_becomes_a_dead_letter() {
    let server = Server::new(100);
    let broker = server.connect().await;
    within_a_minute(async {
        let mut events = broker.subscribe_events(EXCHANGE, PLACE).await.unwrap();
        Bucket::of(&server).await.publishes("hello").await;
        pull(&mut events).await.dead_letter().await.unwrap();
        let mut letters = broker.consume_dead_letters(1).await.unwrap();
        let letter = next(&mut letters).await;
        assert_eq!(&letter.message.body[..], b"hello");
        let death = letter.death.clone().unwrap();
        assert_eq!((death.queue.as_str(), death.reason.as_str()), (QUEUE, "rejected"));
        letter.ack();
        letters.close().await;
        assert!(events.pull().await.unwrap().is_none());
    })
    .await;
    broker.close().await;
    delete(&server, &[QUEUE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_outlive_connections_and_their_queue() {
    let server = Server::new(100);
    let (proxy, broker) = server.connect_through_proxy().await;
    within_a_minute(async {
        let mut events = broker.subscribe_events(EXCHANGE, PLACE).await.unwrap();
        let bucket = Bucket::of(&server).await;
        for body in ["0", "1", "2"] {
            bucket.publishes(body).await;
        }
        let mut seen = HashSet::new();
        while seen.len() < 3 {
            let event = pull(&mut events).await;
            seen.insert(event.body.clone());
            // It may be redelivered, if RabbitMQ did not receive the acknowledgement.
            let _ = tokio::join!(event.ack(), proxy.cut());
        }
        server.delete_queue(&server.client().await, QUEUE).await;
        // A pull that finds the queue missing makes the next one declare it.
        while events.pull().await.is_err() {
            tokio::task::yield_now().await;
        }
        bucket.publishes("after").await;
        assert_eq!(read(&mut events).await, "after");
    })
    .await;
    broker.close().await;
    delete(&server, &[QUEUE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_another_kind_is_refused_with_the_setting_to_change() {
    let server = Server::new(100);
    let broker = server.connect().await;
    let channel = server.client().await.create_channel().await.unwrap();
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = server.name(EXCHANGE).into();
    channel.exchange_declare(exchange, ExchangeKind::Fanout, options, FieldTable::default()).await.unwrap();
    let error = broker.subscribe_events(EXCHANGE, PLACE).await.err().expect("it is a fanout exchange");
    assert!(matches!(&error, BrokerError::Usage(text) if text.contains("EVENTS_EXCHANGE")), "{error}");
    broker.close().await;
    delete(&server, &[]).await;
}

#[tokio::test]
async fn the_in_process_broker_refuses_events() {
    let error = InProcess::new(1).subscribe_events(EXCHANGE, PLACE).await.err().expect("it has none");
    assert_eq!(error.exit(), assay_transaction::Exit::Usage);
    assert!(error.to_string().contains("AMQP_URL"), "{error}");
}

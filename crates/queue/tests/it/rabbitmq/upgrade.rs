//! The end of an upgrade from versions up to 0.1, which published chunks to the exchange of live transactions: while a message may
//! return through it, the way stays; then it goes.

use std::time::Duration;

use assay_queue::{BrokerError, finish_upgrade};
use assay_transaction::Exit;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection};

use crate::fixture::{ROUTE, STARTUP, Server, until_depth, within_a_minute};

const DELAYS: [(&str, i32); 3] = [("1s", 1000), ("10s", 10_000), ("60s", 60_000)];
/// Half of this is too much while retries may wait for room.
const LENGTH: usize = 6;

/// Declares what versions up to 0.1 did, beside what this one has declared.
async fn declare_as_before(server: &Server, client: &Connection) {
    let channel = client.create_channel().await.unwrap();
    let name = |name: &str| server.name(name);
    let bind = async |queue: String, exchange: &str, key: &str| {
        let (exchange, options) = (name(exchange), QueueBindOptions::default());
        channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await.unwrap();
    };
    bind(name("transactions.batch"), "assay.transactions", "batch").await;
    for (delay, millis) in DELAYS {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(6));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(100));
        arguments.insert("x-dead-letter-exchange".into(), text(&name("assay.transactions")));
        arguments.insert("x-dead-letter-routing-key".into(), text("batch"));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis.into()));
        let queue = name(&format!("transactions.batch.delay.{delay}"));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone().into(), options, arguments).await.unwrap();
        bind(queue, "assay.transactions.delay", &format!("batch.{delay}")).await;
    }
}

/// Whether a queue took the message.
async fn publish(server: &Server, client: &Connection, exchange: &str, key: &str) -> bool {
    let channel = client.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, properties) = (server.name(exchange), BasicProperties::default());
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await.unwrap().await;
    match confirm.unwrap() {
        Confirmation::Ack(returned) => returned.is_none(),
        other => panic!("{other:?}"),
    }
}

async fn purge(server: &Server, client: &Connection, queue: &str) {
    let channel = client.create_channel().await.unwrap();
    channel.queue_purge(server.name(queue).into(), QueuePurgeOptions::default()).await.unwrap();
}

async fn refused(server: &Server, words: &str) {
    let error = finish_upgrade(&server.options, STARTUP, Duration::ZERO).await.unwrap_err();
    assert!(matches!(&error, BrokerError::NotYet(text) if text.contains(words)), "{error}");
    assert_eq!(error.exit(), Exit::DependencyUnavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_have_an_exchange_of_their_own_from_the_start() {
    within_a_minute(async {
        let server = Server::new(100);
        let broker = server.connect().await;
        let client = server.client().await;
        assert!(!publish(&server, &client, "assay.transactions", "batch").await);
        assert!(!publish(&server, &client, "assay.chunks", "realtime").await);
        assert!(publish(&server, &client, "assay.chunks", "batch").await);
        let deleted = finish_upgrade(&server.options, STARTUP, Duration::from_hours(1)).await.unwrap();
        assert_eq!(deleted, Vec::<String>::new(), "there was nothing to wait for");
        until_depth(&*broker, ROUTE, 1, 0).await;
        server.end(broker).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_versions_need_stays_while_a_message_may_return_and_is_then_removed() {
    within_a_minute(async {
        let server = Server::new(LENGTH);
        let broker = server.connect().await;
        let client = server.client().await;
        declare_as_before(&server, &client).await;
        // This version declares it all again, and removes nothing.
        server.connect().await.close().await;
        assert!(publish(&server, &client, "assay.transactions", "batch").await);

        // A retry of theirs still returns.
        assert!(publish(&server, &client, "assay.transactions.delay", "batch.1s").await);
        until_depth(&*broker, ROUTE, 2, 0).await;

        assert!(publish(&server, &client, "assay.transactions.delay", "batch.60s").await);
        refused(&server, "transactions.batch.delay.60s holds 1 messages").await;
        assert!(publish(&server, &client, "assay.transactions", "batch").await, "the way stays");
        purge(&server, &client, "transactions.batch.delay.60s").await;

        assert!(publish(&server, &client, "assay.chunks", "batch").await);
        refused(&server, "transactions.batch holds 4 of at most 6 messages").await;
        assert!(publish(&server, &client, "assay.transactions", "batch").await, "the way stays");
        purge(&server, &client, "transactions.batch").await;

        let deleted = finish_upgrade(&server.options, STARTUP, Duration::ZERO).await.unwrap();
        assert_eq!(deleted, DELAYS.map(|(delay, _)| server.name(&format!("transactions.batch.delay.{delay}"))));
        assert!(!publish(&server, &client, "assay.transactions", "batch").await);
        assert!(!publish(&server, &client, "assay.transactions.delay", "batch.1s").await);
        assert!(publish(&server, &client, "assay.transactions", "realtime").await);
        assert!(publish(&server, &client, "assay.chunks", "batch").await);
        assert_eq!(finish_upgrade(&server.options, STARTUP, Duration::ZERO).await.unwrap(), Vec::<String>::new());

        // One of their programs comes back, and goes.
        declare_as_before(&server, &client).await;
        assert_eq!(finish_upgrade(&server.options, STARTUP, Duration::ZERO).await.unwrap().len(), DELAYS.len());
        assert!(!publish(&server, &client, "assay.transactions", "batch").await);
        server.end(broker).await;
    })
    .await;
}

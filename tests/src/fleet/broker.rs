//! A set of queues for one test, deleted with it.

use assay_testkit::topology::{DELAYS, EXCHANGES, WORK_QUEUES};
use assay_testkit::{on_drop, service_url, unique_name};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::Program;

/// RabbitMQ, with a prefix that no other test has.
#[derive(Debug)]
pub struct Broker {
    url: String,
    prefix: String,
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    /// A new prefix; the programs declare what they need under it.
    pub fn new() -> Self {
        Self::on(service_url("TEST_AMQP_URL"))
    }

    /// The same, on the RabbitMQ at this URL.
    pub fn on(url: String) -> Self {
        Self { url, prefix: format!("{}.", unique_name()) }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the names of its queues begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Tells a program where the broker is, and which queues are its own.
    pub fn known_to(&self, program: Program) -> Program {
        program.env("AMQP_URL", &self.url).env("QUEUE_PREFIX", &self.prefix)
    }

    /// How many messages a queue, which exists, holds that no consumer has taken.
    pub async fn depth(&self, queue: &str) -> lapin::Result<u32> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = format!("{}{queue}", self.prefix);
        let queue = channel.queue_declare(name.into(), passive, FieldTable::default()).await?;
        connection.close(200, "asked".into()).await?;
        Ok(queue.message_count())
    }

    /// Publishes as an S3 server does: to an exchange that the programs have declared, and that has a queue.
    pub async fn tell(&self, exchange: &str, body: &[u8]) {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("RabbitMQ confirms");
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (format!("{}{exchange}", self.prefix), "drops".into());
        let properties = BasicProperties::default().with_delivery_mode(2);
        let told =
            channel.basic_publish(exchange.into(), key, options, body, properties).await.expect("it is published");
        let confirmed = told.await.expect("it is confirmed");
        assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "a queue is bound for it");
        connection.close(200, "told".into()).await.expect("RabbitMQ hears the goodbye");
    }

    /// Deletes queues, and exchanges of the same names, that programs other than Assay's declared under the prefix.
    pub async fn forget(&self, names: &[&str]) {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
        for name in names.iter().map(|name| format!("{}{name}", self.prefix)) {
            let queue = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await;
            queue.unwrap_or_else(|error| panic!("{name}: {error}"));
            let exchange = channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await;
            exchange.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        connection.close(200, "forgotten".into()).await.expect("RabbitMQ hears the goodbye");
    }

    /// Looks at a queue that the programs have declared, such as `transactions.batch`.
    pub async fn look_at(&self, queue: &str) -> Queue {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("RabbitMQ confirms");
        Queue { name: format!("{}{queue}", self.prefix), channel, _connection: connection }
    }
}

/// A queue that is looked at, on a connection of its own.
#[derive(Debug)]
pub struct Queue {
    name: String,
    channel: Channel,
    _connection: Connection,
}

impl Queue {
    /// How many messages wait in it; held ones are not counted.
    pub async fn depth(&self) -> u32 {
        self.declared().await.message_count()
    }

    async fn declared(&self) -> lapin::Queue {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(self.name.as_str().into(), passive, FieldTable::default()).await;
        declared.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// How many consume from it.
    pub async fn consumers(&self) -> u32 {
        self.declared().await.consumer_count()
    }

    /// Puts a message of this type into it, whatever it holds.
    pub async fn put(&self, kind: &str, body: &[u8]) {
        let properties = BasicProperties::default().with_type(kind.into()).with_delivery_mode(2);
        let (exchange, options) = ("".into(), BasicPublishOptions::default());
        let put = self.channel.basic_publish(exchange, self.name.as_str().into(), options, body, properties).await;
        let told = put.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        // Else the connection could end before the message is sent.
        assert!(told.await.is_ok_and(|confirmed| confirmed.is_ack()), "{} takes it", self.name);
    }
}

/// Of those who watch `s3://drops/in/`.
const EVENTS_QUEUE: &str = "assay.events.s3---drops-in-.9d820514";

impl Drop for Broker {
    fn drop(&mut self) {
        let (url, prefix) = (self.url.clone(), self.prefix.clone());
        on_drop(async move {
            // A broker that the test stopped has nothing to delete.
            let _ = delete(&url, &prefix).await;
        });
    }
}

async fn delete(url: &str, prefix: &str) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queues = WORK_QUEUES.iter().flat_map(|queue| DELAYS.map(|delay| format!("{prefix}{queue}{delay}")));
    for queue in queues.chain([format!("{prefix}dead_letters"), format!("{prefix}{EVENTS_QUEUE}")]) {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in EXCHANGES {
        channel.exchange_delete(format!("{prefix}{exchange}").into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "the test is over".into()).await
}

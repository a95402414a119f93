//! Brokers for tests, each with its own queues, and shared helpers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use assay_connect::ExposeSecret as _;
use assay_queue::{
    Broker, BrokerEndpoint, BrokerError, BrokerOptions, Consumer, Delivery, Message, PublishError, QueueCounts,
    QueueKind, Route, connect,
};
use assay_testkit::topology::{DELAYS, EXCHANGES, WORK_QUEUES};
use assay_testkit::{Proxy, service_url};
use assay_transaction::{Lane, RunId};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const ROUTE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Batch };
pub(crate) const OTHER: Route = Route { kind: QueueKind::Scored, lane: Lane::Realtime };

/// Runs each test of the contract on both brokers, with queues of the given length.
macro_rules! on_both {
    ($($test:ident($length:expr);)*) => {
        mod in_process {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    $crate::fixture::within_a_minute(super::$test(assay_queue::InProcess::new($length))).await;
                }
            )*
        }
        mod on_rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let server = $crate::fixture::Server::new($length);
                    let broker = server.connect().await;
                    $crate::fixture::within_a_minute(super::$test(std::sync::Arc::clone(&broker))).await;
                    server.end(broker).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// A service in a task of its own.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), BrokerError>>,
}

impl Running {
    pub(crate) fn start<F>(serve: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), BrokerError>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Fails a test that hangs.
pub(crate) async fn within_a_minute<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), test).await.expect("the test hangs")
}

/// The tests' RabbitMQ, with a prefix of its own.
pub(crate) struct Server {
    pub(crate) options: BrokerOptions,
}

pub(crate) const STARTUP: Duration = Duration::from_secs(20);

impl Server {
    pub(crate) fn new(length: usize) -> Self {
        Self::at(url(), length)
    }

    pub(crate) fn at(url: String, length: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let options = BrokerOptions {
            endpoint: BrokerEndpoint::at(url),
            queue_prefix: format!("test.{}.{number}.", std::process::id()),
            queue_max_length: length.try_into().unwrap(),
            ..BrokerOptions::default()
        };
        Self { options }
    }

    pub(crate) async fn connect(&self) -> Arc<dyn Broker> {
        connect(&self.options, "test", STARTUP).await.unwrap()
    }

    /// Connects through a proxy.
    pub(crate) async fn connect_through_proxy(&self) -> (Proxy, Arc<dyn Broker>) {
        let mut address = address();
        let rabbitmq = &mut address.authority;
        let proxy = Proxy::before(&*rabbitmq.host, rabbitmq.port).await;
        (rabbitmq.host, rabbitmq.port) = ("127.0.0.1".to_owned(), proxy.port());
        let options = BrokerOptions { endpoint: BrokerEndpoint::at(address.to_string()), ..self.options.clone() };
        (proxy, connect(&options, "test", STARTUP).await.unwrap())
    }

    /// A raw connection of the client.
    pub(crate) async fn client(&self) -> Connection {
        let url = self.options.endpoint.url.as_ref().unwrap().expose_secret();
        Connection::connect(url, ConnectionProperties::default()).await.unwrap()
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.options.queue_prefix)
    }

    /// Moves messages at once from the longest delay queue of a route to its work queue, as RabbitMQ does after a minute. Ends
    /// with the client's connection.
    pub(crate) async fn let_minutes_pass(&self, client: &Connection, route: Route) {
        let channel = client.create_channel().await.unwrap();
        let through = if route.to_string() == "transactions.batch" { "chunks." } else { "" };
        let queue = self.name(&format!("{route}.delay.{through}60s"));
        let mut waiting = channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap();
        let work_queue = self.name(&route.to_string());
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = waiting.next().await {
                let options = BasicPublishOptions::default();
                let key = work_queue.as_str().into();
                channel.basic_publish("".into(), key, options, &delivery.data, delivery.properties).await.unwrap();
                delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
            }
        });
    }

    pub(crate) async fn delete_queue(&self, client: &Connection, queue: &str) {
        let channel = client.create_channel().await.unwrap();
        channel.queue_delete(self.name(queue).into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Ends a test.
    pub(crate) async fn end(&self, broker: Arc<dyn Broker>) {
        broker.close().await;
        self.delete_all().await;
    }

    pub(crate) async fn delete_all(&self) {
        let client = self.client().await;
        self.delete_queue(&client, "dead_letters").await;
        for queue in WORK_QUEUES {
            for suffix in DELAYS {
                self.delete_queue(&client, &format!("{queue}{suffix}")).await;
            }
        }
        let channel = client.create_channel().await.unwrap();
        for exchange in EXCHANGES {
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(self.name(exchange).into(), options).await.unwrap();
        }
    }
}

fn url() -> String {
    service_url("TEST_AMQP_URL")
}

pub(crate) fn address() -> AMQPUri {
    url().parse().unwrap()
}

pub(crate) fn message(id: impl Into<String>) -> Message {
    let run_id: RunId = "run_1".parse().unwrap();
    Message::new(id, "assay.test.v1", &run_id, "{}")
}

pub(crate) fn ids(range: Range<usize>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

/// Publishes messages `0` to `count - 1`.
pub(crate) async fn publish(broker: &dyn Broker, route: Route, count: usize) {
    for id in 0..count {
        broker.publish(route, message(id.to_string())).await.unwrap();
    }
}

/// Publishes until the queue is full. Returns how many messages it took.
pub(crate) async fn fill(broker: &dyn Broker, route: Route) -> usize {
    for id in 0.. {
        match broker.publish(route, message(id.to_string())).await {
            Ok(()) => {}
            Err(PublishError::Full) => return id,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    consumer.next().await.expect("the broker is closed")
}

/// Waits until the queue has that depth: RabbitMQ's counts lag behind a little.
pub(crate) async fn until_depth(broker: &dyn Broker, route: Route, messages: u64, consumers: u32) {
    let expected = QueueCounts { messages, consumers };
    let reached = async {
        while broker.depth(route).await.unwrap() != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
        assert_eq!(broker.depth(route).await.unwrap(), expected);
    }
}

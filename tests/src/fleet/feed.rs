//! Those who listen to the feed of predictions, each with a queue of its own.

use assay_transaction::PredictionNotice;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};

use crate::Broker;

/// A queue that is bound to the feed, and gone with its connection.
#[derive(Debug)]
pub struct Listener {
    queue: lapin::types::ShortString,
    channel: Channel,
    _connection: Connection,
}

/// What a listener was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Its routing key.
    pub key: String,
    /// Its `message_id`.
    pub id: String,
    /// Its `type`.
    pub kind: String,
    /// What it says.
    pub notice: PredictionNotice,
}

impl Broker {
    /// Binds a queue to the feed, which a program has declared.
    pub async fn listen(&self, key: &str) -> Listener {
        self.listen_with(key, FieldTable::default()).await
    }

    /// Binds a queue that refuses all but its first message, as no listener takes it.
    pub async fn sleep_on(&self, key: &str) -> Listener {
        let mut bound = FieldTable::default();
        bound.insert("x-max-length".into(), AMQPValue::LongInt(1));
        bound.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.listen_with(key, bound).await
    }

    async fn listen_with(&self, key: &str, arguments: FieldTable) -> Listener {
        let connection =
            Connection::connect(self.url(), ConnectionProperties::default()).await.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("RabbitMQ opens a channel");
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare("".into(), options, arguments).await.expect("a queue of our own");
        let (queue, exchange) = (declared.name().clone(), format!("{}assay.predictions", self.prefix()));
        let options = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone(), exchange.into(), key.into(), options, FieldTable::default())
            .await
            .expect("a program has declared the feed");
        Listener { queue, channel, _connection: connection }
    }
}

impl Listener {
    /// All that it was told and has not taken yet, in the order of transactions.
    pub async fn take_all(&self) -> Vec<Heard> {
        let mut all = Vec::new();
        let take = BasicGetOptions { no_ack: true };
        while let Some(got) = self.channel.basic_get(self.queue.clone(), take).await.expect("the queue is there") {
            let (properties, text) = (&got.delivery.properties, |text: &Option<lapin::types::ShortString>| {
                text.as_ref().map(ToString::to_string).unwrap_or_default()
            });
            all.push(Heard {
                key: got.delivery.routing_key.to_string(),
                id: text(properties.message_id()),
                kind: text(properties.kind()),
                notice: PredictionNotice::decode(&got.delivery.data).expect("a prediction"),
            });
        }
        all.sort_by_key(|heard| heard.notice.transaction_id);
        all
    }
}

//! What accidents and people do to queues: messages are taken out, spoiled, misplaced and purged.

use assay_testkit::DEADLINE;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::Broker;

/// A message that was taken out of its queue.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its properties and headers.
    pub properties: BasicProperties,
    /// What it says.
    pub body: Vec<u8>,
}

impl Broker {
    /// Takes the first message out of a queue, once there is one.
    pub async fn take(&self, queue: &str) -> Taken {
        let channel = self.channel().await;
        let taken = async {
            loop {
                let got =
                    channel.basic_get(self.name(queue), BasicGetOptions::default()).await.expect("the queue is there");
                let Some(got) = got else {
                    // Only a consumer is notified of a message.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                };
                got.delivery.acker.ack(BasicAckOptions::default()).await.expect("the message is taken");
                return Taken { properties: got.delivery.properties.clone(), body: got.delivery.data.clone() };
            }
        };
        tokio::time::timeout(DEADLINE, taken).await.unwrap_or_else(|_| panic!("no message in {queue}"))
    }

    /// Publishes a message to an exchange of ours.
    pub async fn put(&self, exchange: &str, key: &str, message: &Taken) {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let Taken { properties, body } = message;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel
            .basic_publish(self.name(exchange), key.into(), options, body, properties.clone())
            .await
            .expect("the message is sent");
        assert!(confirm.await.expect("the message is confirmed").is_ack(), "the message is taken over");
    }

    /// Drops everything that waits in a queue; tells how many messages that were.
    pub async fn purge(&self, queue: &str) -> u32 {
        let channel = self.channel().await;
        channel.queue_purge(self.name(queue), QueuePurgeOptions::default()).await.expect("the queue is there")
    }

    async fn channel(&self) -> Channel {
        let connection =
            Connection::connect(self.url(), ConnectionProperties::default()).await.expect("TEST_AMQP_URL is reached");
        connection.create_channel().await.expect("a channel")
    }

    fn name(&self, name: &str) -> lapin::types::ShortString {
        format!("{}{name}", self.prefix()).into()
    }
}

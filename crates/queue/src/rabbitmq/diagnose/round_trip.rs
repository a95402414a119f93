//! How many messages a second RabbitMQ takes, confirms, delivers and has acknowledged: through an exclusive queue of this
//! connection, which ends with it, whatever becomes of this process.
//!
//! Work queues are quorum queues, which an exclusive one cannot be: a cluster takes fewer messages a second than this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_transaction::Lane;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;

use super::super::connect::{ConnectionSettings, PersistentConnection};
use super::super::topology::DeclareMode;
use super::super::wire::{self, EncodedMessage};
use crate::{BrokerError, BrokerOptions, Message, RoundTrip};

/// Sends copies of a message through a queue for that long, `PUBLISH_WINDOW` at a time.
pub(crate) async fn round_trip(
    options: &BrokerOptions,
    message: Message,
    time: Duration,
    limit: Duration,
) -> Result<RoundTrip, BrokerError> {
    let settings = Arc::new(ConnectionSettings::new(options, "doctor", DeclareMode::Never)?);
    let message =
        wire::encode(message, Some(Lane::Batch), None).map_err(|error| BrokerError::Usage(error.to_string()))?;
    // As in a stage, publishing and consuming have their own connections.
    let publishing = PersistentConnection::open_once(&settings, limit).await?;
    let consuming = PersistentConnection::open_once(&settings, limit).await?;
    let measured = match (publishing.live().await, consuming.live().await) {
        (Some(publish), Some(consume)) => {
            let sending = async {
                let (publish, consume) = (publish.channel().await?, consume.channel().await?);
                send(&publish, &consume, message, options.publish_window, time).await
            };
            // The connection may be lost, or blocked.
            publish.attempt(time + limit, sending).await
        }
        _ => Err("the connection is closed".to_owned()),
    };
    tokio::join!(publishing.close(), consuming.close());
    measured.map_err(|cause| {
        BrokerError::Unreachable(format!(
            "cannot send through a queue of its own ({cause}): use a user who may declare queues and write to the default exchange"
        ))
    })
}

async fn send(
    publish: &Channel,
    consume: &Channel,
    message: EncodedMessage,
    window: u16,
    time: Duration,
) -> lapin::Result<RoundTrip> {
    let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = consume.queue_declare("".into(), exclusive, FieldTable::default()).await?.name().clone();
    let consuming = BasicConsumeOptions::default();
    let mut deliveries = consume.basic_consume(queue.clone(), "".into(), consuming, FieldTable::default()).await?;
    publish.confirm_select(ConfirmSelectOptions::default()).await?;
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut confirms = FuturesUnordered::new();
    let began = Instant::now();
    while began.elapsed() < time || received < sent {
        if began.elapsed() < time && sent - received < u64::from(window) {
            let (properties, options) = (message.properties.clone(), BasicPublishOptions::default());
            confirms.push(publish.basic_publish("".into(), queue.clone(), options, &message.body, properties).await?);
            sent += 1;
            continue;
        }
        tokio::select! {
            Some(confirm) = confirms.next() => drop(confirm?),
            delivery = deliveries.next() => {
                let Some(delivery) = delivery.transpose()? else { break };
                delivery.ack(BasicAckOptions::default()).await?;
                received += 1;
            }
        }
    }
    Ok(RoundTrip { messages: received, took: began.elapsed() })
}

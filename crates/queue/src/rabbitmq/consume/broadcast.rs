//! Broadcast listeners: one task and one channel for each, with a queue that RabbitMQ deletes when they end.
//!
//! Guarantee: after a loss the task subscribes again by itself; broadcasts sent meanwhile are missed. Nothing is acknowledged.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::Message;
use crate::broadcast::{BACKLOG, ChannelListener};
use crate::rabbitmq::connect::{LiveConnection, PersistentConnection};
use crate::rabbitmq::wire;

/// The longest broadcast taken. Ours have some hundred bytes; a backlog ([`BACKLOG`]) of large ones could take gigabytes.
const MAX_BYTES: usize = 64 * 1024;

/// Receives broadcasts from now on, until `closing`.
pub(crate) async fn listen(
    connection: Arc<PersistentConnection>,
    closing: CancellationToken,
    tasks: &TaskTracker,
) -> ChannelListener {
    let sender = broadcast::Sender::new(BACKLOG);
    let listener = ChannelListener { receiver: sender.subscribe(), closing: closing.clone() };
    // The first subscription is made here, so that every broadcast sent after this returns is received.
    let first = closing.run_until_cancelled(subscribe(&connection)).await.flatten();
    tasks.spawn(async move { closing.run_until_cancelled(forward(&connection, first, &sender)).await });
    listener
}

struct BroadcastSubscription {
    live: Arc<LiveConnection>,
    _channel: Channel,
    deliveries: lapin::Consumer,
}

async fn forward(
    connection: &PersistentConnection,
    first: Option<BroadcastSubscription>,
    sender: &broadcast::Sender<Message>,
) {
    let mut next = first;
    while let Some(BroadcastSubscription { live, mut deliveries, .. }) = next {
        while let Some(Some(Ok(delivery))) = live.lost.run_until_cancelled(deliveries.next()).await {
            if delivery.data.len() > MAX_BYTES {
                debug!(bytes = delivery.data.len(), "ignoring an oversized broadcast");
                continue;
            }
            // It fails once the listener is gone; then this task ends too.
            let _ = sender.send(wire::decode_uncompressed(&delivery.properties, delivery.data));
        }
        next = subscribe(connection).await;
    }
}

/// `None` once the connection is closed.
async fn subscribe(connection: &PersistentConnection) -> Option<BroadcastSubscription> {
    let topology = &connection.settings.topology;
    connection
        .retry_subscribe("assay.control", |live| async move {
            let channel = live.channel().await?;
            let queue = topology.declare_listener(&channel).await?;
            let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
            let deliveries = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
            Ok(BroadcastSubscription { live, _channel: channel, deliveries })
        })
        .await
}

//! Bucket events from RabbitMQ.

use std::time::Duration;

use assay_queue::{Broker, EventDelivery, EventQueue};
use assay_source::parse_events;
use async_trait::async_trait;
use tracing::{debug, warn};

use super::event_source::{Event, EventSource, WorkItem, WorkReceipt};
use super::options::WatchTarget;
use crate::LoadError;

/// Interval between two pulls from an empty queue.
const PULL_INTERVAL: Duration = Duration::from_millis(500);
/// The same while RabbitMQ is unreachable.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// The queue that all watchers of the same target share.
pub(crate) struct AmqpEvents {
    queue: Box<dyn EventQueue>,
    is_unreachable: bool,
}

impl AmqpEvents {
    /// Declares the queue, which receives every event from now on.
    pub(crate) async fn subscribe(
        broker: &dyn Broker,
        exchange: &str,
        watched: &WatchTarget,
    ) -> Result<Self, LoadError> {
        let queue = broker.subscribe_events(exchange, &watched.to_string()).await?;
        Ok(Self { queue, is_unreachable: false })
    }

    async fn pull(&mut self) -> EventDelivery {
        loop {
            match self.queue.pull().await {
                Ok(Some(event)) => {
                    self.is_unreachable = false;
                    return event;
                }
                Ok(None) => {
                    self.is_unreachable = false;
                    tokio::time::sleep(PULL_INTERVAL).await;
                }
                Err(error) => {
                    if !self.is_unreachable {
                        warn!("{error}; meanwhile, objects are found by listing");
                    }
                    self.is_unreachable = true;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
}

#[async_trait]
impl EventSource for AmqpEvents {
    async fn next(&mut self) -> Event {
        loop {
            let event = self.pull().await;
            let settled = match parse_events(&event.body) {
                Ok(objects) if objects.is_empty() => event.ack().await,
                Ok(objects) => {
                    let items = objects.into_iter().map(WorkItem::Object).collect();
                    return Event { items, receipt: Box::new(AmqpReceipt(event)) };
                }
                Err(error) => {
                    warn!("an event of {} bytes becomes a dead letter: {error}", event.body.len());
                    event.dead_letter().await
                }
            };
            if let Err(error) = settled {
                debug!("{error}");
            }
        }
    }

    fn put_back(&mut self) {
        self.queue.put_back();
    }
}

struct AmqpReceipt(EventDelivery);

#[async_trait]
impl WorkReceipt for AmqpReceipt {
    async fn ack(self: Box<Self>) {
        if let Err(error) = self.0.ack().await {
            // When the event comes again, there is nothing to do.
            debug!("{error}");
        }
    }
}

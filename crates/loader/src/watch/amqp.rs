//! Events that come through RabbitMQ.

use std::time::Duration;

use assay_queue::{Broker, EventDelivery, EventQueue};
use assay_source::parse_events;
use async_trait::async_trait;
use tracing::{debug, warn};

use super::event_source::{Intake, Piece, Receipt, Told};
use super::options::Watched;
use crate::LoadError;

/// Between two pulls from a queue that was empty.
const PULL_EVERY: Duration = Duration::from_millis(500);
/// The same while RabbitMQ is away.
const AWAY: Duration = Duration::from_secs(2);

/// The queue of those who watch the same place.
pub(crate) struct AmqpEvents {
    queue: Box<dyn EventQueue>,
    is_away: bool,
}

impl AmqpEvents {
    /// Declares the queue, so that what is published from now on is heard.
    pub(crate) async fn subscribe(broker: &dyn Broker, exchange: &str, watched: &Watched) -> Result<Self, LoadError> {
        let queue = broker.subscribe_events(exchange, &watched.to_string()).await?;
        Ok(Self { queue, is_away: false })
    }

    /// The next event, as it is.
    async fn pull(&mut self) -> EventDelivery {
        loop {
            match self.queue.pull().await {
                Ok(Some(event)) => {
                    self.is_away = false;
                    return event;
                }
                Ok(None) => {
                    self.is_away = false;
                    tokio::time::sleep(PULL_EVERY).await;
                }
                Err(error) => {
                    if !self.is_away {
                        warn!("{error}; objects are found by listing meanwhile");
                    }
                    self.is_away = true;
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }
}

#[async_trait]
impl Intake for AmqpEvents {
    async fn next(&mut self) -> Told {
        loop {
            let event = self.pull().await;
            let settled = match parse_events(&event.body) {
                Ok(objects) if objects.is_empty() => event.ack().await,
                Ok(objects) => {
                    let pieces = objects.into_iter().map(Piece::Object).collect();
                    return Told { pieces, receipt: Box::new(Event(event)) };
                }
                Err(error) => {
                    warn!("an event of {} bytes becomes a dead letter: {error}", event.body.len());
                    event.bury().await
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

struct Event(EventDelivery);

#[async_trait]
impl Receipt for Event {
    async fn ack(self: Box<Self>) {
        if let Err(error) = self.0.ack().await {
            // When it comes again, there is nothing to do.
            debug!("{error}");
        }
    }
}

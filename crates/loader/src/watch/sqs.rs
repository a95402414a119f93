//! Bucket events from SQS (feature `sqs`).

use std::time::Duration;

use assay_source::{SqsError, SqsMessage, SqsQueue, parse_events};
use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::event_source::{Event, EventSource, WorkItem, WorkReceipt};

/// Pause between two attempts while SQS is unreachable.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct SqsEvents {
    queue: SqsQueue,
    is_unreachable: bool,
    /// The pending request, in its own task, as the caller may be cancelled.
    receiving: Option<AbortOnDropHandle<Result<Option<SqsMessage>, SqsError>>>,
}

impl SqsEvents {
    pub(super) fn new(queue: SqsQueue) -> Self {
        Self { queue, is_unreachable: false, receiving: None }
    }
}

#[async_trait]
impl EventSource for SqsEvents {
    async fn next(&mut self) -> Event {
        loop {
            let queue = self.queue.clone();
            let receive = || AbortOnDropHandle::new(tokio::spawn(async move { queue.receive().await }));
            let received = self.receiving.get_or_insert_with(receive).await;
            self.receiving = None;
            let message = match received {
                Ok(Ok(message)) => message,
                Err(died) => {
                    warn!("receiving from SQS again: {died}");
                    continue;
                }
                Ok(Err(error)) => {
                    if !self.is_unreachable {
                        warn!("{error}; meanwhile, objects are found by listing");
                    }
                    self.is_unreachable = true;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            self.is_unreachable = false;
            let Some(message) = message else { continue };
            match parse_events(message.body.as_bytes()) {
                Ok(objects) if objects.is_empty() => Box::new(SqsReceipt(message)).ack().await,
                Ok(objects) => {
                    let items = objects.into_iter().map(WorkItem::Object).collect();
                    return Event { items, receipt: Box::new(SqsReceipt(message)) };
                }
                // It is delivered again, and ends in the queue's own dead-letter queue.
                Err(error) => warn!("an event of {} bytes is left to the queue: {error}", message.body.len()),
            }
        }
    }

    fn put_back(&mut self) {
        // Received messages come again after the visibility timeout.
        self.receiving = None;
    }
}

struct SqsReceipt(SqsMessage);

#[async_trait]
impl WorkReceipt for SqsReceipt {
    async fn ack(self: Box<Self>) {
        if let Err(error) = self.0.delete().await {
            // When the event comes again, there is nothing to do.
            debug!("{error}");
        }
    }
}

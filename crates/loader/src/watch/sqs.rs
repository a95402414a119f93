//! Events that come through SQS, in programs that are built with the feature `sqs`.

use std::time::Duration;

use assay_source::{SqsError, SqsMessage, SqsQueue, parse_events};
use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::event_source::{Event, EventSource, Receipt, WorkItem};

/// Between two attempts while SQS is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A queue of SQS.
pub(super) struct SqsEvents {
    queue: SqsQueue,
    is_unreachable: bool,
    /// A request, in a task of its own: whoever waited for it may have been cancelled.
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
                    warn!("events of SQS are asked for again: {died}");
                    continue;
                }
                Ok(Err(error)) => {
                    if !self.is_unreachable {
                        warn!("{error}; objects are found by listing meanwhile");
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
                // It is delivered again, and goes the way that the queue has for what nobody can read.
                Err(error) => warn!("an event of {} bytes is left to the queue: {error}", message.body.len()),
            }
        }
    }

    fn put_back(&mut self) {
        // What it has received comes again after the visibility timeout.
        self.receiving = None;
    }
}

struct SqsReceipt(SqsMessage);

#[async_trait]
impl Receipt for SqsReceipt {
    async fn ack(self: Box<Self>) {
        if let Err(error) = self.0.delete().await {
            // When it comes again, there is nothing to do.
            debug!("{error}");
        }
    }
}

//! Acceptance: valid transactions become a message, which the broker confirms and the ledger counts.
//!
//! An acceptance must not be cancelled: callers that may go away run it in its own task.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Message, PublishError, QueueKind, Route, publish_once};
use assay_transaction::{Day, Entry, IdScheme, Lane, LiveId, LiveMessage, Producer, RunId, WireError};
use tokio::time::timeout;

use crate::count::{CountError, LiveCounter};
use crate::metrics;

pub(crate) const ROUTE: Route = Route { kind: QueueKind::Transactions, lane: Lane::Realtime };
/// Longest wait for the confirmation of the broker.
const CONFIRM: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// The queue is at its bound.
    #[error("the queue is full, as the predictors are behind: send it again later")]
    Full,
    /// The broker accepts no message of this size.
    #[error("the message of {bytes} bytes is larger than the broker accepts: send fewer transactions at once")]
    TooLarge {
        /// The size of the body.
        bytes: usize,
    },
    /// The broker did not confirm it.
    #[error("the broker is unreachable: {0}")]
    Broker(String),
    /// It was not published, as it could not be counted.
    #[error(transparent)]
    NotBegun(CountError),
    /// It is published, and will be counted once the ledger is reachable.
    #[error("the ledger is unreachable: the transactions are published, but not yet counted")]
    Uncounted,
    /// It cannot be encoded as JSON.
    #[error(transparent)]
    Wire(#[from] WireError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptedMessage {
    pub(crate) message: String,
    /// The run that will contain it.
    pub(crate) run_id: RunId,
}

/// Accepts messages of a producer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MessageAcceptor {
    broker: Arc<dyn Broker>,
    counter: Arc<LiveCounter>,
    ids: IdScheme,
}

impl MessageAcceptor {
    /// `ids` is the scheme by which the transactions are identified.
    pub(crate) fn new(broker: Arc<dyn Broker>, counter: Arc<LiveCounter>, ids: IdScheme) -> Self {
        Self { broker, counter, ids }
    }

    /// Publishes transactions as a message, and waits until it is confirmed and counted.
    ///
    /// A name may be used again for the same transactions, unless the broker has confirmed them.
    pub(crate) async fn accept(&self, name: &str, transactions: Vec<Entry>) -> Result<AcceptedMessage, AcceptError> {
        let rows = transactions.len() as u64;
        let accepted = self.publish(name, transactions).await;
        let acceptance =
            if accepted.is_ok() { metrics::AcceptanceOutcome::Accepted } else { metrics::AcceptanceOutcome::Refused };
        metrics::transactions(acceptance, rows);
        accepted
    }

    async fn publish(&self, name: &str, transactions: Vec<Entry>) -> Result<AcceptedMessage, AcceptError> {
        let under_way = self.counter.begin().await.map_err(AcceptError::NotBegun)?;
        let id = identify(self.counter.producer(), under_way.day(), name, &transactions);
        let accepted = AcceptedMessage { message: id.message.clone(), run_id: id.run_id() };
        let message = LiveMessage { id, ids: self.ids, transactions, rejected: Vec::new() };
        let rows = message.rows();
        let body = message.encode()?;
        let message = Message::new(message.id.to_string(), LiveMessage::MESSAGE_TYPE, &accepted.run_id, body);
        match timeout(CONFIRM, publish_once(&*self.broker, ROUTE, message)).await {
            Ok(Ok(())) => under_way.accepted(rows).await.map(|()| accepted).map_err(|_| AcceptError::Uncounted),
            Ok(Err(PublishError::Full)) => Err(AcceptError::Full),
            Ok(Err(PublishError::TooLarge { bytes })) => Err(AcceptError::TooLarge { bytes }),
            // It was returned: it is in no queue.
            Ok(Err(error @ PublishError::Unroutable)) => Err(AcceptError::Broker(error.to_string())),
            Ok(Err(PublishError::Unavailable(problem))) => {
                under_way.doubtful(rows);
                Err(AcceptError::Broker(problem))
            }
            Err(_) => {
                under_way.doubtful(rows);
                Err(AcceptError::Broker(format!("it did not confirm within {CONFIRM:?}")))
            }
        }
    }

    /// Waits until a full queue may have room.
    pub(crate) async fn room(&self) {
        self.broker.wait_for_room(ROUTE).await;
    }

    /// Most unconfirmed messages.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.broker.max_in_flight()
    }
}

/// The id of a message, with a hash of its transactions.
fn identify(producer: &Producer, day: Day, name: &str, transactions: &[Entry]) -> LiveId {
    let mut content = Vec::new();
    for entry in transactions {
        content.extend_from_slice(entry.external_id.as_deref().unwrap_or_default().as_bytes());
        content.extend_from_slice(entry.transaction.as_json().as_bytes());
    }
    LiveId::new(producer.clone(), day, name.to_owned(), &content, true)
}

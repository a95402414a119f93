//! The messages in the queues, if a broker is set. An unreachable broker does not fail a command.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, BrokerError, BrokerOptions, QueueKind, Route};
use assay_transaction::Lane;
use serde::Serialize;

use crate::{Table, grouped};

/// Longest wait for a broker, as a command works without its answer too.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The messages of all runs in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// Its name.
    pub queue: String,
    /// Messages that wait.
    pub waiting: u64,
    /// Programs that consume it.
    pub consumers: u32,
}

/// The messages in the queues, or why they are not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum QueueSnapshot {
    /// Each queue.
    Known(Vec<QueueDepth>),
    /// The broker does not answer.
    Unknown {
        /// Why.
        error: String,
    },
}

/// A connection that only reads the length of queues.
pub struct QueueProbe(Option<Result<Arc<dyn Broker>, BrokerError>>);

impl QueueProbe {
    /// Connects, if a broker is set.
    pub async fn connect(options: &BrokerOptions, command: &str, startup: Duration) -> Self {
        if !options.is_set() {
            return Self(None);
        }
        Self(Some(assay_queue::connect(options, command, startup.min(TIMEOUT)).await))
    }

    /// The messages now; none if no broker is set.
    pub async fn snapshot(&self) -> Option<QueueSnapshot> {
        let unknown = |error: &BrokerError| QueueSnapshot::Unknown { error: error.to_string() };
        Some(match self.0.as_ref()? {
            Ok(broker) => depths(&**broker).await.map_or_else(|error| unknown(&error), QueueSnapshot::Known),
            Err(error) => unknown(error),
        })
    }

    /// Disconnects.
    pub async fn close(&self) {
        if let Some(Ok(broker)) = &self.0 {
            broker.close().await;
        }
    }
}

async fn depths(broker: &dyn Broker) -> Result<Vec<QueueDepth>, BrokerError> {
    let mut queues = Vec::new();
    for lane in Lane::ALL {
        for work in [QueueKind::Transactions, QueueKind::Scored] {
            let route = Route { kind: work, lane };
            let depth = broker.depth(route).await?;
            queues.push(QueueDepth { queue: route.to_string(), waiting: depth.messages, consumers: depth.consumers });
        }
    }
    Ok(queues)
}

impl std::fmt::Display for QueueSnapshot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(queues) => {
                let mut table = Table::new(["queue (all runs)", ">waiting", ">consumers"]);
                for QueueDepth { queue, waiting, consumers } in queues {
                    table.add([queue.clone(), grouped(*waiting), grouped(u64::from(*consumers))]);
                }
                table.fmt(out)
            }
            Self::Unknown { error } => writeln!(out, "queues: not known: {error}"),
        }
    }
}

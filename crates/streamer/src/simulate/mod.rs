//! A simulation: sends transactions at a pace to the broker, until there are no more or it is stopped.

mod pace;
mod records;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use assay_queue::Broker;
use assay_store::Store;
use assay_transaction::{Entry, RunId};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use self::pace::SendPace;
use self::records::Records;
use crate::accept::{AcceptError, MessageAcceptor};
use crate::count::{LiveCounter, StreamTotals};
use crate::{SimulateOptions, StreamError};

/// Pause before a retry while a service is unreachable.
const PAUSE: Duration = Duration::from_millis(500);

/// Result of a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimulationReport {
    /// Accepted transactions.
    #[serde(flatten)]
    pub totals: StreamTotals,
    /// Invalid rows of the file, which were not sent.
    pub invalid: u64,
    /// Transactions not accepted before the end.
    pub unsent: u64,
    /// Runs of the accepted transactions.
    pub runs: Vec<RunId>,
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { totals: StreamTotals { messages, rows, doubtful }, invalid, unsent, runs } = self;
        write!(out, "{rows} transactions accepted in {messages} messages")?;
        if !runs.is_empty() {
            let runs: Vec<_> = runs.iter().map(RunId::as_str).collect();
            write!(out, " ({})", runs.join(", "))?;
        }
        for (count, what) in [(invalid, "invalid"), (unsent, "not sent"), (doubtful, "in doubt")] {
            if *count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Sends transactions until there are no more, or until `shutdown`. Then finishes within `drain`.
pub async fn simulate(
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    options: &SimulateOptions,
    drain: Duration,
    shutdown: CancellationToken,
) -> Result<SimulationReport, StreamError> {
    let settings = options.read.settings(&options.producer_run_id, store.ids());
    let mut records = Records::open(options, &settings).await?;
    let (counter, counting) = LiveCounter::start(store as _, options.producer_run_id.clone());
    let sender = MessageSender {
        acceptor: MessageAcceptor::new(broker, Arc::clone(&counter), settings.ids),
        is_slow: options.rate.is_none(),
        sent: Arc::default(),
        shutdown,
    };
    let ended = send_all(&sender, &mut records, SendPace::new(options), drain).await;
    counter.finish(counting).await;
    // Errors are returned only after accepted transactions are counted.
    let unsent = ended?;
    let runs = sender.sent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    Ok(SimulationReport { totals: counter.totals(), invalid: records.invalid(), unsent, runs })
}

/// Sends all messages. Returns the number of unsent transactions.
async fn send_all(
    sender: &MessageSender,
    records: &mut Records,
    mut pace: SendPace,
    drain: Duration,
) -> Result<u64, StreamError> {
    let shutdown = &sender.shutdown;
    let permits = Arc::new(Semaphore::new(sender.acceptor.max_in_flight()));
    let (tasks, unsent) = (TaskTracker::new(), Arc::new(Mutex::new(0)));
    let ended = loop {
        let entries = match records.next(pace.size()).await {
            Ok(entries) if entries.is_empty() => break Ok(()),
            Ok(entries) => entries,
            Err(error) => break Err(error),
        };
        let turn = async {
            pace.wait_turn().await;
            Arc::clone(&permits).acquire_owned().await
        };
        // The semaphore is never closed.
        let Some(Ok(permit)) = shutdown.run_until_cancelled(turn).await else { break Ok(()) };
        let (sender, unsent) = (sender.clone(), Arc::clone(&unsent));
        tasks.spawn(async move {
            let rows = entries.len() as u64;
            if !sender.send(entries).await {
                *unsent.lock().unwrap_or_else(PoisonError::into_inner) += rows;
            }
            drop(permit);
        });
    };
    tasks.close();
    // The drain limits the wait only after a shutdown.
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = tasks.wait() => {}
        () = overdue => warn!("ending with unconfirmed messages after DRAIN_TIMEOUT ({drain:?})"),
    }
    let unsent = *unsent.lock().unwrap_or_else(PoisonError::into_inner);
    ended.map(|()| unsent)
}

/// Sends messages. Cheap to clone.
#[derive(Clone)]
struct MessageSender {
    acceptor: MessageAcceptor,
    /// Whether each message is logged.
    is_slow: bool,
    /// Runs of the sent messages.
    sent: Arc<Mutex<BTreeSet<RunId>>>,
    shutdown: CancellationToken,
}

impl MessageSender {
    /// Sends one message until it is accepted or the simulation is stopped. Returns whether the broker has it.
    async fn send(&self, entries: Vec<Entry>) -> bool {
        let name = Uuid::new_v4().to_string();
        loop {
            match self.acceptor.accept(&name, entries.clone()).await {
                Ok(accepted) => {
                    let (rows, run_id) = (entries.len(), &accepted.run_id);
                    if self.is_slow {
                        info!("Sent {rows} transactions of run {run_id}");
                    }
                    self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(accepted.run_id);
                    return true;
                }
                // The broker has it: resending would count it twice.
                Err(AcceptError::Uncounted) => return true,
                Err(refused @ (AcceptError::TooLarge { .. } | AcceptError::Wire(_))) => {
                    error!("{} transactions are not sent: {refused}", entries.len());
                    return false;
                }
                Err(AcceptError::Full) => {
                    if self.shutdown.run_until_cancelled(self.acceptor.room()).await.is_none() {
                        return false;
                    }
                }
                Err(refused @ (AcceptError::Broker(_) | AcceptError::NotBegun(_))) => {
                    debug!("cannot send yet: {refused}");
                    if timeout(PAUSE, self.shutdown.cancelled()).await.is_ok() {
                        return false;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_line_or_json() {
        let report = SimulationReport {
            totals: StreamTotals { messages: 10, rows: 1_000, doubtful: 1 },
            invalid: 3,
            unsent: 0,
            runs: vec!["live_20260111_desk".parse().unwrap()],
        };
        assert_eq!(
            report.to_string(),
            "1000 transactions accepted in 10 messages (live_20260111_desk), 3 invalid, 1 in doubt"
        );
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "messages": 10, "rows": 1_000, "doubtful": 1, "invalid": 3, "unsent": 0, "runs": ["live_20260111_desk"],
            })
        );
    }
}

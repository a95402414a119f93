//! Counts accepted messages in the ledger, before they are acknowledged to their senders.
//!
//! Guarantees: a message is acknowledged only after a saved count includes it; the ledger knows that this process counts on a day
//! before anything is published on that day, so that a crash leaves an open count; while the ledger is unreachable, no message
//! is begun. One count is saved at a time: the next one covers all waiting messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use assay_connect::{RetryPolicy, unique_process_name};
use assay_store::{LiveCount, LiveLedger};
use assay_transaction::{Day, Producer};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Longest wait for a count to be saved.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two checks for the end of a day.
const DAY_CHECK_INTERVAL: Duration = Duration::from_secs(30);
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

/// Why a message cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CountError {
    /// The ledger is unreachable.
    #[error("the ledger is unreachable: transactions cannot be counted")]
    Away,
    /// This process is shutting down.
    #[error("the streamer is shutting down")]
    Ending,
}

/// All counts of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StreamTotals {
    /// Confirmed messages.
    pub messages: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that the broker may have, although it did not confirm them.
    pub doubtful: u64,
}

/// The clock, which tests replace.
type Clock = fn() -> DateTime<Utc>;

/// Counts the messages of one producer in this process.
pub(crate) struct LiveCounter {
    ledger: Arc<dyn LiveLedger>,
    producer: Producer,
    process: String,
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
    saved: watch::Sender<SavedCounts>,
}

#[derive(Default)]
struct State {
    /// The latest day seen: if the clock goes back, nothing is counted on an ended day.
    today: Option<Day>,
    days: BTreeMap<Day, DayCount>,
    /// The number of the latest change.
    change: u64,
    totals: StreamTotals,
    ending: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct DayCount {
    totals: StreamTotals,
    under_way: usize,
    /// Its first change.
    opened: u64,
    /// Its latest change.
    changed: u64,
    /// Its last saved change.
    saved: u64,
}

/// The state of the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct SavedCounts {
    /// All changes up to this one are saved.
    up_to: u64,
    /// Whether the last attempt failed.
    failing: bool,
}

/// The task that saves the counts. Dropping it ends it.
pub(crate) type CountingTask = AbortOnDropHandle<()>;

impl LiveCounter {
    pub(crate) fn start(ledger: Arc<dyn LiveLedger>, producer: Producer) -> (Arc<Self>, CountingTask) {
        Self::with_clock(ledger, producer, Utc::now)
    }

    fn with_clock(ledger: Arc<dyn LiveLedger>, producer: Producer, clock: Clock) -> (Arc<Self>, CountingTask) {
        let (saved, _) = watch::channel(SavedCounts::default());
        let (state, changed) = (Mutex::default(), Notify::new());
        let counter = Arc::new(Self { ledger, producer, process: unique_process_name(), clock, state, changed, saved });
        let counting = tokio::spawn({
            let counter = Arc::clone(&counter);
            async move { counter.run().await }
        });
        (counter, AbortOnDropHandle::new(counting))
    }

    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Counts so far, saved or not.
    pub(crate) fn totals(&self) -> StreamTotals {
        self.state().totals
    }

    /// Begins a message of today. The day stays open until the message is dropped.
    pub(crate) async fn begin(self: &Arc<Self>) -> Result<PendingMessage, CountError> {
        if self.saved.borrow().failing {
            return Err(CountError::Away);
        }
        let (under_way, opened) = {
            let mut state = self.state();
            if state.ending {
                return Err(CountError::Ending);
            }
            let day = state.today((self.clock)());
            let change = state.change + 1;
            let count =
                state.days.entry(day).or_insert(DayCount { opened: change, changed: change, ..DayCount::default() });
            count.under_way += 1;
            let opened = count.opened;
            state.change = state.change.max(opened);
            (PendingMessage { counter: Arc::clone(self), day }, opened)
        };
        self.saved(opened, true).await?;
        Ok(under_way)
    }

    /// Stops counting, and saves the final counts if the ledger is reachable. Days with pending messages stay open.
    pub(crate) async fn finish(&self, counting: CountingTask) {
        self.state().ending = true;
        self.changed.notify_one();
        if timeout(COUNT_TIMEOUT, counting).await.is_err() {
            warn!("the ledger is unreachable: the final counts of this process are not saved");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic under the lock can leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a change is saved. With `is_final`, the first failure ends the wait.
    async fn saved(&self, change: u64, is_final: bool) -> Result<(), CountError> {
        let mut saved = self.saved.subscribe();
        if saved.borrow().up_to >= change {
            return Ok(());
        }
        self.changed.notify_one();
        let is_decided = |saved: &SavedCounts| saved.up_to >= change || is_final && saved.failing;
        match timeout(COUNT_TIMEOUT, saved.wait_for(is_decided)).await {
            Ok(Ok(saved)) if saved.up_to >= change => Ok(()),
            _ => Err(CountError::Away),
        }
    }

    fn change(&self, day: Day, change: impl Fn(&mut StreamTotals)) -> u64 {
        let mut state = self.state();
        state.change += 1;
        let number = state.change;
        change(&mut state.totals);
        if let Some(count) = state.days.get_mut(&day) {
            change(&mut count.totals);
            count.changed = number;
        }
        number
    }

    async fn run(&self) {
        let mut backoff = RETRY.backoff();
        loop {
            let (due, up_to, ending) = self.due();
            if due.is_empty() {
                if ending {
                    return;
                }
                let _ = timeout(DAY_CHECK_INTERVAL, self.changed.notified()).await;
                continue;
            }
            match self.save(&due, up_to).await {
                Ok(()) => {
                    backoff.reset();
                    if self.saved.send_replace(SavedCounts { up_to, failing: false }).failing {
                        info!("the ledger is reachable again");
                    }
                }
                Err(problem) => {
                    let was_failing = self.saved.borrow().failing;
                    self.saved.send_modify(|saved| saved.failing = true);
                    if !was_failing {
                        warn!("accepting nothing until the ledger can save counts: {problem}");
                    }
                    backoff.pause().await;
                }
            }
        }
    }

    /// The counts to save, their last change, and whether the counting ends.
    fn due(&self) -> (Vec<LiveCount>, u64, bool) {
        let mut state = self.state();
        let today = state.today((self.clock)());
        let ending = state.ending;
        let count = |(day, count): (&Day, &DayCount)| {
            let ended = count.under_way == 0 && (ending || *day < today);
            let StreamTotals { messages, rows, doubtful } = count.totals;
            (ended || count.changed > count.saved).then(|| LiveCount {
                producer: self.producer.clone(),
                day: *day,
                process: self.process.clone(),
                messages,
                rows,
                doubtful,
                ended,
            })
        };
        (state.days.iter().filter_map(count).collect(), state.change, ending)
    }

    async fn save(&self, due: &[LiveCount], up_to: u64) -> Result<(), String> {
        for count in due {
            match timeout(COUNT_TIMEOUT, self.ledger.keep_count(count)).await {
                Ok(saved) => saved.map_err(|error| error.to_string())?,
                Err(_) => return Err(format!("the ledger has not saved the count within {COUNT_TIMEOUT:?}")),
            }
            let mut state = self.state();
            if count.ended {
                state.days.remove(&count.day);
            } else if let Some(day) = state.days.get_mut(&count.day) {
                day.saved = up_to;
            }
        }
        Ok(())
    }
}

impl State {
    fn today(&mut self, now: DateTime<Utc>) -> Day {
        let today = self.today.map_or(Day::of(now), |latest| latest.max(Day::of(now)));
        self.today = Some(today);
        today
    }
}

/// A message that is being published.
pub(crate) struct PendingMessage {
    counter: Arc<LiveCounter>,
    day: Day,
}

impl PendingMessage {
    pub(crate) fn day(&self) -> Day {
        self.day
    }

    /// Counts a confirmed message, even if this call is cancelled. Returns once the count is saved.
    pub(crate) async fn accepted(self, rows: u64) -> Result<(), CountError> {
        let change = self.counter.change(self.day, |totals| {
            totals.messages += 1;
            totals.rows += rows;
        });
        self.counter.saved(change, false).await
    }

    /// Counts a message that the broker may have.
    pub(crate) fn doubtful(self, rows: u64) {
        self.counter.change(self.day, |totals| totals.doubtful += rows);
        self.counter.changed.notify_one();
    }
}

impl Drop for PendingMessage {
    fn drop(&mut self) {
        let mut state = self.counter.state();
        if let Some(count) = state.days.get_mut(&self.day) {
            count.under_way -= 1;
            if count.under_way == 0 && state.today.is_some_and(|today| self.day < today) {
                self.counter.changed.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests;

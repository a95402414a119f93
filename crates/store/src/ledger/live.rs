//! Live runs: what the stages and the streamer ask of the ledger.

use assay_transaction::{Day, LiveId, LiveRun, Numbered, Producer, RunId, RunState};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

/// A message that is about to be booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveArrival<'a> {
    /// Who it is.
    pub id: &'a LiveId,
    /// How many rows it has.
    pub rows: u64,
}

/// What the ledger says to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbering {
    /// It has this place, and keeps it.
    Place(Numbered),
    /// It cannot be booked.
    Refused {
        /// For a person.
        reason: String,
    },
}

/// What one process of a producer has counted of a run so far; it is always told as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCount {
    /// Who counts.
    pub producer: Producer,
    /// Which day.
    pub day: Day,
    /// The process, in words that no other one has.
    pub process: String,
    /// Messages that it has answered for.
    pub messages: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that the broker may have taken, although nobody was told so.
    pub doubtful: u64,
    /// Whether it will count no more of this run.
    pub ended: bool,
}

/// The ledger of live runs.
#[async_trait]
pub trait LiveLedger: Send + Sync {
    /// Gives each message its place in the run of its producer and day, which begins with its first one. A message that has a
    /// place keeps it. One that comes after its run was sealed is booked in the run of `now`, under a name that says which day it
    /// is of; one whose name was another message's is refused.
    async fn number(&self, messages: &[LiveArrival<'_>], now: DateTime<Utc>) -> Result<Vec<Numbering>, StoreError>;

    /// Keeps what a process has counted. Whoever answers that a message is accepted has counted it here before.
    async fn keep_count(&self, count: &LiveCount) -> Result<(), StoreError>;

    /// A live run; none where the run is one of a source, or is not known.
    async fn live_run(&self, run_id: &RunId) -> Result<Option<LiveRun>, StoreError>;

    /// Seals a live run whose day has ended, once all that its producer answered for has a place: as long as that is not so,
    /// something is on its way, or lost. Tells the run's state.
    async fn seal_live(&self, run_id: &RunId) -> Result<RunState, StoreError>;
}

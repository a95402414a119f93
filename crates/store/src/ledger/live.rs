//! Live runs: what the streamer and the writer ask of the ledger.

use assay_transaction::{Day, LiveId, LivePlacement, LiveRun, Producer, RunId, RunState};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

/// A message that needs a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnnumberedMessage<'a> {
    /// Its identity.
    pub id: &'a LiveId,
    /// How many rows it has.
    pub rows: u64,
}

/// The ledger's answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbering {
    /// Its place, for good.
    Place(LivePlacement),
    /// It gets none.
    Refused {
        /// For a person.
        reason: String,
    },
}

/// The counts of one process of a producer in a run so far; each replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCount {
    /// The producer.
    pub producer: Producer,
    /// The day.
    pub day: Day,
    /// The process, by a name that no other one has.
    pub process: String,
    /// Messages it has accepted.
    pub messages: u64,
    /// Their rows.
    pub rows: u64,
    /// Rows that the broker may have taken without confirming them.
    pub doubtful: u64,
    /// Whether its counting in this run has ended.
    pub ended: bool,
}

/// The ledger of live runs.
#[async_trait]
pub trait LiveLedger: Send + Sync {
    /// Gives each message its place in the run of its producer and day, which begins with its first message. A
    /// message with a place keeps it. One that comes after its run was sealed gets a place in the run of `now`, under
    /// a name with its own day; one whose name another message has is refused.
    async fn number(
        &self,
        messages: &[UnnumberedMessage<'_>],
        now: DateTime<Utc>,
    ) -> Result<Vec<Numbering>, StoreError>;

    /// Records the counts of a process. Count a message here before accepting it.
    async fn keep_count(&self, count: &LiveCount) -> Result<(), StoreError>;

    /// A live run; none if the run is one of a source, or does not exist.
    async fn live_run(&self, run_id: &RunId) -> Result<Option<LiveRun>, StoreError>;

    /// Seals a live run whose day is over, once every row its producer accepted has a place: until then, rows are on
    /// their way, or lost. Returns the run's state.
    async fn seal_live(&self, run_id: &RunId) -> Result<RunState, StoreError>;
}

//! What operators ask of a database, and order in it. `postgres` and `sqlite` implement it under the same contract suite
//! as the rest of the seam.

pub(crate) mod audit;
pub(crate) mod overview;
pub(crate) mod removal;
pub(crate) mod selection;

use assay_transaction::{Run, RunId, RunState, ScoredReplay, StopKind, Tally, Timestamp, Transaction};
use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::operations::audit::{Audit, Strays};
use crate::{Counting, IdConflict, Overview, RemovalBegun, RemovalPlan, RemovalStep, Removed, RunFilter, StoreError};

/// Who does something, and why: for the table of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The person's name, as the system knows it.
    pub operator: String,
    /// In that person's words, where there are any.
    pub reason: Option<String>,
}

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// Who.
    pub operator: String,
    /// What: `cancel`, `abort`, `replay`, `repair`, `force`, `remove`.
    pub action: String,
    /// To which run.
    pub run_id: Option<RunId>,
    /// Why.
    pub reason: Option<String>,
    /// What else is to be known, such as the rows that were asked for.
    pub details: Option<serde_json::Value>,
    /// When, by the database's clock.
    pub done_at: Timestamp,
}

/// What came of an order to stop a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopping {
    /// It is given now. A run that was sealed already ends once its chunks are recorded; one that is loading has to be sealed.
    Ordered(Run),
    /// One was given before, and stays.
    Before(Run),
    /// The run is finished: there is nothing to stop.
    Finished(Run),
}

/// A run that somebody has to look after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run: loading or sealed.
    pub run: Run,
    /// The loader that is at it, as far as its lease tells; none where it has ended, or is gone.
    pub held_by: Option<String>,
}

/// Which failed transactions of a run are meant. What is not set leaves all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Classes, by their codes.
    pub classes: Vec<String>,
    /// Ranges of row numbers, both ends included.
    pub rows: Vec<(u64, u64)>,
}

/// A failed transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedRecord {
    /// The run.
    pub run_id: RunId,
    /// The row in its source.
    pub row: u64,
    /// The transaction's id.
    pub transaction_id: Uuid,
    /// The class's code.
    pub class: String,
    /// Why, for a person.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u64,
    /// The entry as it travels, as JSON: what a replay sends again.
    #[serde(skip)]
    pub payload: Vec<u8>,
}

/// How a row had failed before a replay gave it another outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EarlierFailure {
    /// The replay that sent it again.
    pub replay: u64,
    /// The class's code.
    pub class: String,
    /// Why, for a person. Of a conflict, no more than with which row.
    pub reason: String,
    /// How often it had been tried by then.
    pub attempts: u64,
    /// When what came of the replay was stored.
    pub replayed_at: Timestamp,
}

/// A rejected row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InvalidRecord {
    /// The run.
    pub run_id: RunId,
    /// The row in its source.
    pub row: u64,
    /// The physical line it starts at.
    pub line: u64,
    /// The rule's code.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// Its own bytes, perhaps only the start of them.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

/// A transaction with its prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRecord {
    /// What it says.
    pub transaction: Transaction,
    /// The source's id, where that is no UUID.
    pub external_id: Option<String>,
    /// The run whose row stored it.
    pub run_id: RunId,
    /// That row.
    pub row: u64,
    /// `batch` or `streaming`.
    pub processing_type: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// What the model said; none only where somebody has deleted it.
    pub prediction: Option<PredictionRecord>,
    /// How often its content was replaced.
    pub replaced: u64,
}

/// What the model said of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionRecord {
    /// The label.
    pub prediction: String,
    /// How likely it is fraud, where the model says so.
    pub fraud_score: Option<f64>,
    /// Which model, where it says so.
    pub model_version: Option<String>,
    /// The run that asked.
    pub run_id: RunId,
    /// When the answer came.
    pub predicted_at: Timestamp,
}

/// What became of a row, as far as the tables tell.
#[derive(Debug, Clone, PartialEq)]
pub enum RowFate {
    /// Scored and stored.
    Predicted(Box<TransactionRecord>),
    /// Rejected by a rule.
    Invalid(InvalidRecord),
    /// Valid, but not scored or not stored.
    Failed(FailedRecord),
    /// The transaction was stored before, by another row.
    Duplicate {
        /// That transaction; none where somebody has deleted it.
        of: Option<Box<TransactionRecord>>,
        /// Its id.
        transaction_id: Uuid,
    },
    /// Nothing is recorded of it.
    Unrecorded,
}

/// What was made of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterOutcome {
    /// Its rows are booked as failed, class `dead_lettered`.
    Booked,
    /// Its identity was recorded before; nothing was to be done.
    Known,
    /// It cannot be read.
    Unreadable,
    /// It contradicts itself, so that it cannot be recorded.
    Refused,
}

impl DeadLetterOutcome {
    /// As it is stored and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Known => "known",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn from_stored(word: &str) -> Option<Self> {
        [Self::Booked, Self::Known, Self::Unreadable, Self::Refused]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

/// A message that the broker gave up, or that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue it was in.
    pub queue: String,
    /// Its identity, where it had one.
    pub message_id: Option<String>,
    /// Its type, where it had one.
    pub message_type: Option<String>,
    /// The run it belongs to, where that is known. Any text: it comes from a header.
    pub run_id: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// How often it had been put off.
    pub attempt: u32,
    /// What it said.
    pub body: Vec<u8>,
    /// What was made of it.
    pub outcome: DeadLetterOutcome,
}

/// A dead letter as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// Its number.
    pub id: u64,
    /// What came.
    pub letter: DeadLetter,
    /// When.
    pub received_at: Timestamp,
    /// When a person had its rows repaired.
    pub resolved_at: Option<Timestamp>,
}

/// A dead letter that keeps its run from being complete, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLetter {
    /// Its number.
    pub id: u64,
    /// How often it has come.
    pub times: u64,
}

/// What a part of a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exchanged {
    /// Whether it came for the first time; else nothing changed.
    pub is_new: bool,
    /// Rows that failed before and are stored now, or turned out to be duplicates.
    pub stored: u64,
    /// Rows that failed again.
    pub failed: u64,
    /// Rows that were no longer failed when it came.
    pub gone: u64,
}

/// How fast a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Rows recorded within the window.
    pub rows: u64,
    /// The window: from the first chunk in it to now, in milliseconds.
    pub millis: u64,
}

/// What operators ask of a database, and order in it. Every method is one transaction, or a read.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Runs, the latest first; those of one location only, where one is given.
    async fn runs(&self, location: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// The runs that are not finished: loading or sealed.
    async fn open_runs(&self) -> Result<Vec<OpenRun>, StoreError>;

    /// Orders to end a run early, and records who did so. The run of a sealed source ends as the order says once its chunks
    /// are recorded, and its source is free for another run at once; one that is loading has to be sealed. A live run is sealed
    /// at once, whatever is missing of it, but no earlier than an hour after its day.
    async fn order_stop(&self, run_id: &RunId, kind: StopKind, reason: &str, act: &Act)
    -> Result<Stopping, StoreError>;

    /// Seals a run that is loading and has a stop order, where no loader holds it: at its checkpoint, or behind its last
    /// recorded chunk, whichever is further. Does nothing to any other run. Tells the state afterwards.
    async fn seal_stopped(&self, run_id: &RunId) -> Result<RunState, StoreError>;

    /// Runs that are meant, the latest first, behind the first `skip` of them.
    async fn list_runs(&self, filter: &RunFilter, skip: u32, limit: u32) -> Result<Vec<Run>, StoreError>;

    /// How far a run is, and how fast the latest `window_seconds` of it went: all of it at one point in time.
    async fn overview(
        &self,
        run_id: &RunId,
        window_seconds: u32,
        counting: Counting,
    ) -> Result<Option<Overview>, StoreError>;

    /// What became of the rows of a run, as its chunks are booked: for lists. [`Store::tally`](crate::Store::tally) counts rows.
    async fn booked(&self, run_id: &RunId) -> Result<Tally, StoreError>;

    /// Recounts a run from its data rows and chunks, in one snapshot.
    async fn audit(&self, run_id: &RunId) -> Result<Option<Audit>, StoreError>;

    /// What is stored of runs that are not in the ledger, and what belongs to no transaction.
    async fn strays(&self) -> Result<Strays, StoreError>;

    /// What became of a row.
    async fn row(&self, run_id: &RunId, row: u64) -> Result<RowFate, StoreError>;

    /// How a row had failed before each replay of it, the first replay first.
    async fn earlier_failures(&self, run_id: &RunId, row: u64) -> Result<Vec<EarlierFailure>, StoreError>;

    /// A transaction by its stored id.
    async fn transaction(&self, id: Uuid) -> Result<Option<TransactionRecord>, StoreError>;

    /// The rows that failed with a transaction id, the latest last, as their chunks were recorded: at most the last 100.
    async fn failed_with_id(&self, id: Uuid) -> Result<Vec<FailedRecord>, StoreError>;

    /// The namespaces of all runs' ids: what an external id may be looked up in.
    async fn namespaces(&self) -> Result<Vec<Uuid>, StoreError>;

    /// Rejected rows of a run from a row on, in order, at most `limit` of them.
    async fn invalid_rows(&self, run_id: &RunId, from_row: u64, limit: u32) -> Result<Vec<InvalidRecord>, StoreError>;

    /// Failed transactions of a run from a row on, in order, at most `limit` of them.
    async fn failed_rows(
        &self,
        run_id: &RunId,
        selection: &Selection,
        from_row: u64,
        limit: u32,
    ) -> Result<Vec<FailedRecord>, StoreError>;

    /// How many selected transactions of a run failed, by class, the most frequent first.
    async fn count_failed(&self, run_id: &RunId, selection: &Selection) -> Result<Vec<(String, u64)>, StoreError>;

    /// Begins a replay of a run, records who did so, and gives its number.
    async fn begin_replay(&self, run_id: &RunId, details: &serde_json::Value, act: &Act) -> Result<u64, StoreError>;

    /// Exchanges failed rows for their new outcomes, in one transaction: those that were scored are stored as
    /// [`Store::write`](crate::Store::write) does, those that failed again are booked so, with their attempts added up. A row
    /// that is no longer failed changes nothing, and neither does a part that came before.
    async fn exchange(&self, part: &ScoredReplay, on_conflict: IdConflict) -> Result<Exchanged, StoreError>;

    /// What the parts of a replay did, added up, and how many of them are recorded.
    async fn replayed(&self, run_id: &RunId, replay: u64) -> Result<(u64, Exchanged), StoreError>;

    /// Begins to take a finished run back, and records who did so. From then on nothing more of it is stored, and its source can be
    /// loaded again. One that was begun before goes on.
    async fn begin_removal(&self, run_id: &RunId, act: &Act) -> Result<RemovalBegun, StoreError>;

    /// Takes a step of a removal that was begun; tells what it did, and which step comes next, none where that was the last. Each is one
    /// transaction, after which the law holds. A step may be taken again, and a removal may start anew: what is done stays done.
    async fn remove_some(
        &self,
        run_id: &RunId,
        step: &RemovalStep,
    ) -> Result<(Removed, Option<RemovalStep>), StoreError>;

    /// What a removal would do, beside making each row of the run a tombstone.
    async fn plan_removal(&self, run_id: &RunId) -> Result<RemovalPlan, StoreError>;

    /// Records a dead letter; tells whether it was new. One that was there is not resolved any more: it came again, whatever was
    /// done about it.
    async fn record_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError>;

    /// Dead letters, the latest first, of one run where one is given.
    async fn dead_letters(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<DeadLetterRecord>, StoreError>;

    /// How many dead letters of a run keep it from being complete: unreadable or refused, and not resolved.
    async fn blocking_dead_letters(&self, run_id: &RunId) -> Result<u64, StoreError>;

    /// The dead letters of a run that keep it from being complete.
    async fn open_dead_letters(&self, run_id: &RunId) -> Result<Vec<OpenLetter>, StoreError>;

    /// Says that these dead letters are taken care of, and tells how many are: those that have come again since they were
    /// listed are not.
    async fn resolve_dead_letters(&self, letters: &[OpenLetter]) -> Result<u64, StoreError>;

    /// How many parts of a replay are among the dead letters and not recorded.
    async fn parts_given_up(&self, run_id: &RunId, replay: u64) -> Result<u64, StoreError>;

    /// Records what an operator did.
    async fn record_operation(
        &self,
        action: &str,
        run_id: Option<&RunId>,
        details: Option<&serde_json::Value>,
        act: &Act,
    ) -> Result<(), StoreError>;

    /// What operators did, the latest first, to one run where one is given.
    async fn operations(&self, run_id: Option<&RunId>, limit: u32) -> Result<Vec<Operation>, StoreError>;

    /// How many rows of a run failed, and how many are recorded: what a budget is measured by.
    async fn failed_share(&self, run_id: &RunId) -> Result<(u64, u64), StoreError>;
}

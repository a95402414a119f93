//! What operators read and order: runs, rows, replays and dead letters, as the tables tell.

use assay_transaction::{Run, RunId, Timestamp, Transaction};
use serde::Serialize;
use uuid::Uuid;

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

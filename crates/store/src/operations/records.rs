//! What operators read and order: runs, rows, replays and dead letters, as the tables tell.

use assay_transaction::{ModelEndpoint, ReasonCode, Run, RunId, Timestamp, Transaction};
use serde::Serialize;
use uuid::Uuid;

/// Who gives an order, and why: for the table of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditContext {
    /// The operator's name, as the system knows it.
    pub operator: String,
    /// The operator's reason, if given.
    pub reason: Option<String>,
}

/// An entry of the table of operations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationRecord {
    /// Its number, which tombstones name.
    pub id: u64,
    /// The operator.
    pub operator: String,
    /// `cancel`, `abort`, `replay`, `repair`, `force`, `remove`, `purge`, `erase` or `unmask`.
    pub action: String,
    /// The run.
    pub run_id: Option<RunId>,
    /// The reason.
    pub reason: Option<String>,
    /// Further facts, such as the selected rows.
    pub details: Option<serde_json::Value>,
    /// The time, by the database's clock.
    pub done_at: Timestamp,
}

/// The result of an order to stop a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopOutcome {
    /// Ordered now. A sealed run ends once its chunks are recorded; a loading one has to be sealed.
    Ordered(Run),
    /// Ordered before; that order stays.
    AlreadyOrdered(Run),
    /// The run is finished: there is nothing to stop.
    Finished(Run),
}

/// A run that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// The run: loading or sealed.
    pub run: Run,
    /// The owner of its live lease; none if the loader has ended or is gone.
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
    /// The entry as a message carries it, as JSON: a replay sends it again.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// The operation that purged or erased it.
    pub operation: Option<u64>,
}

/// How a row failed before a replay gave it another outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EarlierFailure {
    /// The replay.
    pub replay: u64,
    /// The class's code.
    pub class: String,
    /// Why, for a person. A conflict names only the other row.
    pub reason: String,
    /// How often it had been tried by then.
    pub attempts: u64,
    /// When the new outcome was stored.
    pub replayed_at: Timestamp,
}

/// An invalid row.
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
    /// Its raw bytes, perhaps truncated.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

/// A transaction with its prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRecord {
    /// Its content.
    pub transaction: Transaction,
    /// The source's id, if that is not a UUID.
    pub external_id: Option<String>,
    /// The run whose row stored it.
    pub run_id: RunId,
    /// That row.
    pub row: u64,
    /// `batch` or `streaming`.
    pub processing_type: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Its prediction; none only if it was deleted by hand.
    pub prediction: Option<PredictionRecord>,
    /// How often its content was replaced.
    pub replaced: u64,
}

/// The prediction of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionRecord {
    /// The label.
    pub prediction: String,
    /// The probability of fraud, if the model returns one.
    pub fraud_score: Option<f64>,
    /// The model, if it says so.
    pub model_version: Option<String>,
    /// Why it has this score, if the model said so and it was kept.
    pub reasons: Vec<ReasonCode>,
    /// Where it comes from, if it is known.
    pub endpoint: Option<ModelEndpoint>,
    /// The run that asked.
    pub run_id: RunId,
    /// When the ML API answered.
    pub predicted_at: Timestamp,
}

/// The outcome of a row, as the tables tell.
#[derive(Debug, Clone, PartialEq)]
pub enum RowOutcome {
    /// Scored and stored.
    Predicted(Box<TransactionRecord>),
    /// Rejected by a rule.
    Invalid(InvalidRecord),
    /// Valid, but not scored or not stored.
    Failed(FailedRecord),
    /// The transaction was stored before, by another row.
    Duplicate {
        /// That transaction; none if it was deleted by hand.
        of: Option<Box<TransactionRecord>>,
        /// Its id.
        transaction_id: Uuid,
    },
    /// Nothing is recorded of it.
    Unrecorded,
}

/// How a dead letter was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeadLetterOutcome {
    /// Its rows are recorded as failed, class `dead_lettered`.
    Booked,
    /// Its chunk was recorded before; there was nothing to do.
    Known,
    /// It cannot be read.
    Unreadable,
    /// It contradicts itself, or its ids follow another scheme than those of the database, so that it cannot be recorded.
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
    /// Its message id, if it had one.
    pub message_id: Option<String>,
    /// Its message type, if it had one.
    pub message_type: Option<String>,
    /// Its run, if known. Any text: it comes from a header.
    pub run_id: Option<String>,
    /// Why the broker gave it up.
    pub reason: String,
    /// How often it had been deferred.
    pub attempt: u32,
    /// Its body.
    pub body: Vec<u8>,
    /// How it was handled.
    pub outcome: DeadLetterOutcome,
}

/// A dead letter as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// Its number.
    pub id: u64,
    /// The letter.
    pub letter: DeadLetter,
    /// When it came.
    pub received_at: Timestamp,
    /// When an operator had its rows repaired.
    pub resolved_at: Option<Timestamp>,
}

/// A dead letter that keeps its run from being complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenDeadLetter {
    /// Its number.
    pub id: u64,
    /// How often it has come.
    pub times: u64,
}

/// The counts of a part of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayCounts {
    /// Whether the part came for the first time; otherwise nothing changed.
    pub is_new: bool,
    /// Rows that are stored now, or turned out to be duplicates.
    pub stored: u64,
    /// Rows that failed again.
    pub failed: u64,
    /// Rows that were no longer failed.
    pub gone: u64,
}

//! What became of a row. `location` finds one that has no outcome yet.

mod location;

use std::fmt;

use assay_store::{EarlierFailure, FailedRecord, InvalidRecord, OperationRecord, RowOutcome, Store, StoreError};
use assay_transaction::{FailureClass, Run, RunId, RunRemoval, mask_card_numbers};
use serde::Serialize;
use uuid::Uuid;

use self::location::{RowLocation, TransitStage};
use crate::{
    FailedTransactionView, FieldList, QueueSnapshot, StoredTransactionView, counted, describe_operation,
    describe_removal, grouped, moment, one_line,
};

/// Longest text of an invalid row that is shown.
const RAW: usize = 2_000;

/// What became of a row.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RowFate {
    /// It was scored and stored.
    Predicted {
        /// As it is stored.
        transaction: Box<StoredTransactionView>,
    },
    /// It broke a rule.
    Invalid {
        /// The rule's code.
        reason: String,
        /// For a person, masked.
        message: String,
        /// The physical line it starts at.
        line: u64,
        /// Its text, masked.
        raw: String,
    },
    /// It could not be scored or stored.
    Failed(Box<FailedTransactionView>),
    /// Its content was deleted, with that of the run or alone.
    Removed {
        /// By whom, and why.
        removal: Option<RunRemoval>,
    },
    /// Its content was deleted, as it was old.
    Purged {
        /// Says what it was.
        was: String,
        /// By whom, and why.
        operation: Option<Box<OperationRecord>>,
    },
    /// Its content was deleted, as its id was erased.
    Erased {
        /// By whom, and why.
        operation: Option<Box<OperationRecord>>,
    },
    /// The transaction was stored before, by another row.
    Duplicate {
        /// Its id.
        transaction_id: Uuid,
        /// As it is stored; none if it was deleted.
        of: Option<Box<StoredTransactionView>>,
    },
    /// It has no outcome yet.
    OnItsWay {
        /// Where it is.
        #[serde(flatten)]
        stage: TransitStage,
        /// The queues meanwhile.
        #[serde(skip_serializing_if = "Option::is_none")]
        queues: Option<QueueSnapshot>,
    },
    /// There is no such row.
    NeverRead {
        /// Why.
        why: String,
    },
    /// Its run is finished without an outcome for it.
    Lost,
}

impl RowFate {
    /// What became of a row with this outcome. The queues are asked for only if the row is on its way.
    pub async fn of(
        store: &dyn Store,
        run: &Run,
        row: u64,
        recorded: RowOutcome,
        queues: impl AsyncFnOnce() -> Option<QueueSnapshot>,
    ) -> Result<Self, StoreError> {
        Ok(match recorded {
            RowOutcome::Predicted(record) => Self::Predicted { transaction: Box::new((*record).into()) },
            RowOutcome::Invalid(record) => Self::invalid(&record, run),
            RowOutcome::Failed(record) if class_of(&record) == FailureClass::Removed => {
                Self::Removed { removal: run.removal.clone() }
            }
            RowOutcome::Failed(record) if is_tombstone(&record) => {
                let operation = match record.operation {
                    Some(operation) => store.operation(operation).await?.map(Box::new),
                    None => None,
                };
                if class_of(&record) == FailureClass::Purged {
                    Self::Purged { was: record.reason, operation }
                } else {
                    Self::Erased { operation }
                }
            }
            RowOutcome::Failed(record) => Self::Failed(Box::new(record.into())),
            RowOutcome::Duplicate { of, transaction_id } => {
                Self::Duplicate { transaction_id, of: of.map(|record| Box::new((*record).into())) }
            }
            RowOutcome::Unrecorded => match location::locate(store, run, row).await? {
                RowLocation::Lost => Self::Lost,
                RowLocation::NeverRead { why } => Self::NeverRead { why },
                RowLocation::OnItsWay(stage) => Self::OnItsWay { stage, queues: queues().await },
            },
        })
    }

    /// That of an invalid row.
    pub fn invalid(record: &InvalidRecord, run: &Run) -> Self {
        Self::Invalid {
            reason: record.reason.clone(),
            message: mask_card_numbers(&record.message).into_owned(),
            line: record.line,
            raw: mask_card_numbers(&raw_text(record, run)).into_owned(),
        }
    }

    /// The outcome in a line or two, such as `predicted: fraud, score 0.9700, by model demo-1`.
    pub fn headline(&self, run_id: &RunId) -> String {
        const GONE: &str = "its content was deleted, and it cannot be replayed";
        let by =
            |operation: &Option<Box<OperationRecord>>| operation.as_deref().map(describe_operation).unwrap_or_default();
        match self {
            Self::Predicted { transaction } => format!("predicted: {}", transaction.prediction_line()),
            Self::Invalid { reason, .. } => format!("invalid: {reason}"),
            Self::Failed(unstored) => format!("failed: {}", unstored.class),
            Self::Removed { removal } => {
                let why = removal.as_ref().map_or_else(|| "removed".to_owned(), describe_removal);
                format!("{why}\n{GONE}")
            }
            Self::Purged { operation, .. } => format!("purged{}\n{GONE}", by(operation)),
            Self::Erased { operation } => format!("erased{}\n{GONE}", by(operation)),
            Self::Duplicate { of: Some(of), .. } => {
                format!("duplicate: row {} of run {} stored this transaction", grouped(of.row), of.run_id)
            }
            Self::Duplicate { of: None, transaction_id } => {
                format!("duplicate: of transaction {transaction_id}, which was deleted")
            }
            Self::OnItsWay { stage, .. } => format!("on its way: {stage}"),
            Self::NeverRead { why } => format!("never read: {why}"),
            Self::Lost => format!("lost: its run is finished, but it has no outcome; run `assay audit {run_id}`"),
        }
    }

    /// What else is known of it.
    pub fn fields(&self) -> FieldList {
        let mut fields = FieldList::default();
        match self {
            Self::Predicted { transaction } => transaction.show(&mut fields),
            Self::Invalid { message, line, raw, .. } => {
                fields.add("rule", one_line(message, RAW));
                fields.add("line", grouped(*line));
                fields.add("raw text", one_line(raw, RAW));
            }
            Self::Failed(unstored) => unstored.show(&mut fields),
            Self::Purged { was, .. } => fields.add("was", one_line(was, RAW)),
            Self::Duplicate { of: Some(of), .. } => {
                fields.add("prediction", of.prediction_line());
                of.show(&mut fields);
            }
            Self::Removed { .. }
            | Self::Erased { .. }
            | Self::Duplicate { of: None, .. }
            | Self::OnItsWay { .. }
            | Self::NeverRead { .. }
            | Self::Lost => {}
        }
        fields
    }
}

/// A failure before a replay.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct EarlierAttempt(EarlierFailure);

impl From<EarlierFailure> for EarlierAttempt {
    fn from(failure: EarlierFailure) -> Self {
        let reason = mask_card_numbers(&failure.reason).into_owned();
        Self(EarlierFailure { reason, ..failure })
    }
}

impl fmt::Display for EarlierAttempt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EarlierFailure { replay, class, reason, attempts, replayed_at } = &self.0;
        let attempts = counted(*attempts, "attempt", "attempts");
        let (class, reason, at) = (one_line(class, 40), one_line(reason, RAW), moment(*replayed_at));
        write!(out, "{class}, after {attempts}: {reason}; replay {replay}, {at} UTC")
    }
}

/// Whether the content of a failed row is gone.
pub fn is_tombstone(record: &FailedRecord) -> bool {
    class_of(record).is_tombstone()
}

fn class_of(record: &FailedRecord) -> FailureClass {
    FailureClass::from(record.class.as_str())
}

/// The text of an invalid row, decoded from the encoding of its source.
pub fn raw_text(record: &InvalidRecord, run: &Run) -> String {
    let decoded = run.settings.encoding_of_rows().decode(&record.raw);
    decoded.unwrap_or_else(|| String::from_utf8_lossy(&record.raw)).into_owned()
}

//! The rows of one call, on their way through requests.

use assay_transaction::{Entry, FailedRow, FailureClass, Predicted, Prediction};
use uuid::Uuid;

/// A transaction whose outcome is still open. It is in one position at a time, so that it gets exactly one outcome.
#[derive(Debug)]
pub(crate) struct PendingRow {
    /// Its position in the call.
    pub(crate) position: usize,
    /// Its id, as the API will name it.
    pub(crate) id: Uuid,
    /// The transaction.
    pub(crate) entry: Entry,
    /// How often the API was asked for it and failed on the request; outages do not count.
    pub(crate) attempts: u32,
}

/// A row with its outcome.
#[derive(Debug)]
pub(crate) struct RowOutcome {
    pub(crate) position: usize,
    pub(crate) result: Result<Predicted, FailedRow>,
}

impl PendingRow {
    pub(crate) fn predicted(self, prediction: Prediction) -> RowOutcome {
        RowOutcome { position: self.position, result: Ok(Predicted { entry: self.entry, prediction }) }
    }

    pub(crate) fn failed(self, class: FailureClass, reason: String) -> RowOutcome {
        let Self { position, id, entry, attempts } = self;
        RowOutcome { position, result: Err(FailedRow { entry, transaction_id: id, class, reason, attempts }) }
    }
}

/// Counts one more attempt for each row.
pub(crate) fn count_attempt(rows: &mut [PendingRow]) {
    for row in rows {
        row.attempts = row.attempts.saturating_add(1);
    }
}

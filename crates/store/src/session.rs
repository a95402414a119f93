//! What `write` asks of a database: one open transaction, and the statements that fill it. `postgres` and `sqlite` have one
//! each. Dropping it takes everything back.

use std::borrow::Cow;

use assay_transaction::{Entry, Prediction, RejectedRow, RowRange, RunId, ScoredChunk, Sealed, Transaction};
use async_trait::async_trait;
use uuid::Uuid;

use crate::StoreError;

/// A scored row, decoded.
pub(crate) struct StagedRow<'a> {
    /// Where it comes from.
    pub(crate) chunk: &'a ScoredChunk,
    /// Which of the screened chunks that is.
    pub(crate) candidate: usize,
    pub(crate) entry: &'a Entry,
    pub(crate) prediction: &'a Prediction,
    pub(crate) transaction: Transaction,
    /// The further columns as JSON, where there are any.
    pub(crate) attributes: Option<String>,
}

impl StagedRow<'_> {
    pub(crate) fn external_id(&self) -> Option<&str> {
        self.entry.external_id.as_deref()
    }

    /// Run and row.
    pub(crate) fn place(&self) -> (&str, u64) {
        (self.chunk.id.run_id.as_str(), self.entry.row)
    }
}

/// A transaction that is stored.
pub(crate) struct StoredTransaction {
    pub(crate) transaction: Transaction,
    pub(crate) external_id: Option<String>,
    pub(crate) run_id: String,
    pub(crate) row: u64,
}

impl StoredTransaction {
    /// Run and row.
    pub(crate) fn place(&self) -> (&str, u64) {
        (&self.run_id, self.row)
    }
}

/// What is recorded of a chunk, and right around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbourhood {
    pub(crate) range: RowRange,
    /// The row after the nearest recorded chunk below.
    pub(crate) end_below: Option<u64>,
    /// The first row of the nearest recorded chunk above.
    pub(crate) start_above: Option<u64>,
    /// Whether some of its rows are booked as invalid or failed: left over from a record of it that was lost.
    pub(crate) has_leftovers: bool,
}

/// A row for `invalid_transactions`.
pub(crate) struct InvalidRow<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) rejected: &'a RejectedRow,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) message: Cow<'a, str>,
}

/// A row for `failed_transactions`.
pub(crate) struct Failure<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) row: u64,
    pub(crate) transaction_id: Uuid,
    pub(crate) class: Cow<'a, str>,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) attempts: u32,
    pub(crate) payload: Vec<u8>,
}

/// What is to be said in `chunks` of a chunk that did not go through as it was claimed.
pub(crate) struct Amendment<'a> {
    pub(crate) chunk: &'a ScoredChunk,
    pub(crate) predicted: u64,
    /// JSON: `[[row_number, transaction_id], …]`.
    pub(crate) duplicate_rows: Option<String>,
}

/// One open transaction. Lists of chunks are in (run, chunk) order, lists of rows in the order of their ids, so that
/// transactions that overlap wait for each other instead of locking each other out.
#[async_trait]
pub(crate) trait Session: Send {
    /// The ends of those runs that are sealed, some perhaps more than once. None of the others is sealed before this
    /// transaction ends.
    async fn ends(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Sealed)>, StoreError>;

    /// Records chunks with the number of their scored rows; tells for each whether it was new.
    async fn claim(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<bool>, StoreError>;

    /// Takes back a claim of this transaction.
    async fn disclaim(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError>;

    /// What is recorded of chunks, claims of this transaction included.
    async fn neighbourhoods(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<Neighbourhood>>, StoreError>;

    /// Deletes what is booked as invalid or failed of the rows of a claimed chunk.
    async fn clear(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError>;

    /// Stores transactions whose ids are not stored yet, with their predictions; tells the ids that were not. A prediction
    /// without its transaction gives way.
    async fn insert(&mut self, rows: &[&StagedRow<'_>]) -> Result<Vec<Uuid>, StoreError>;

    /// Stores those predictions of stored transactions that are missing.
    async fn predict(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError>;

    /// What is stored under ids; locked, where it is going to be replaced.
    async fn stored(&mut self, ids: &[Uuid], lock: bool) -> Result<Vec<StoredTransaction>, StoreError>;

    /// Replaces stored transactions and predictions, and keeps what they were.
    async fn replace(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError>;

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError>;

    async fn insert_failed(&mut self, rows: &[Failure<'_>]) -> Result<(), StoreError>;

    async fn amend(&mut self, amendments: &[Amendment<'_>]) -> Result<(), StoreError>;

    /// Starts a part that can be taken back by itself.
    async fn savepoint(&mut self) -> Result<(), StoreError>;

    /// Keeps the part.
    async fn release(&mut self) -> Result<(), StoreError>;

    /// Takes the part back.
    async fn rollback_part(&mut self) -> Result<(), StoreError>;

    /// Ends the transaction. After an error, nobody knows whether it is committed.
    async fn commit(self) -> Result<(), StoreError>;
}

/// A count for the database's signed integers. What is screened fits; nothing else comes near the limit.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that the database gives back; it holds none below zero.
pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

//! What `write` asks of a database: one open transaction, and the statements that fill it. `postgres` and `sqlite` have one
//! each. Dropping it takes everything back.

use std::borrow::Cow;

use assay_transaction::{
    Entry, Lane, Prediction, RejectedRow, ReplayId, RowRange, RunId, ScoredChunk, Timestamp, Transaction,
    has_attributes,
};
use async_trait::async_trait;
use uuid::Uuid;

use crate::ledger::runs::End;
use crate::{Exchanged, StoreError};

/// A scored row, decoded.
pub(crate) struct StagedRow<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) lane: Lane,
    pub(crate) predicted_at: Timestamp,
    /// Which of the screened chunks it comes from.
    pub(crate) candidate: usize,
    pub(crate) entry: &'a Entry,
    pub(crate) prediction: &'a Prediction,
    /// Without its attributes, of which a row may have thousands.
    pub(crate) transaction: Transaction,
    /// The further columns as JSON, where there are any.
    pub(crate) attributes: Option<&'a str>,
}

impl StagedRow<'_> {
    pub(crate) fn external_id(&self) -> Option<&str> {
        self.entry.external_id.as_deref()
    }

    /// Run and row.
    pub(crate) fn place(&self) -> (&str, u64) {
        (self.run_id.as_str(), self.entry.row)
    }

    /// The transaction with its attributes.
    pub(crate) fn whole(&self) -> Transaction {
        with_attributes(&self.transaction, self.attributes)
    }

    /// As it is stored with the transaction.
    pub(crate) fn processing_type(&self) -> &'static str {
        match self.lane {
            Lane::Batch => "batch",
            Lane::Realtime => "streaming",
        }
    }
}

/// A transaction that is stored.
pub(crate) struct StoredTransaction {
    /// Without its attributes.
    pub(crate) transaction: Transaction,
    /// The further columns as JSON, where there are any.
    pub(crate) attributes: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) run_id: String,
    pub(crate) row: u64,
}

impl StoredTransaction {
    /// Run and row.
    pub(crate) fn place(&self) -> (&str, u64) {
        (&self.run_id, self.row)
    }

    /// The transaction with its attributes.
    pub(crate) fn whole(&self) -> Transaction {
        with_attributes(&self.transaction, self.attributes.as_deref())
    }
}

/// For the time of a comparison: many rows in this form would take many times their memory.
fn with_attributes(transaction: &Transaction, json: Option<&str>) -> Transaction {
    // What is staged or stored was checked.
    let attributes = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    Transaction { attributes, ..transaction.clone() }
}

/// What is stored as the attributes of a transaction, unless it is none that this version can read.
pub(crate) fn stored_attributes(
    json: Option<String>,
    id: &impl std::fmt::Display,
) -> Result<Option<String>, StoreError> {
    let unreadable = |_| StoreError::configuration(format!("transaction {id} has attributes that cannot be read"));
    let has_any = json.as_deref().map_or(Ok(false), has_attributes).map_err(unreadable)?;
    Ok(json.filter(|_| has_any))
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

/// A recorded chunk, as far as replayed rows change it.
#[derive(Debug, Clone)]
pub(crate) struct BookedChunk {
    pub(crate) chunk: u64,
    pub(crate) range: RowRange,
    pub(crate) predicted: u64,
    pub(crate) duplicates: Vec<(u64, Uuid)>,
}

/// What is to be said in `chunks` of a chunk that did not go through as it was claimed.
pub(crate) struct Amendment<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) chunk: u64,
    pub(crate) predicted: u64,
    /// JSON: `[[row_number, transaction_id], …]`.
    pub(crate) duplicate_rows: Option<String>,
}

/// One open transaction. Lists of chunks are in (run, chunk) order, lists of rows in the order of their ids, so that
/// transactions that overlap wait for each other instead of locking each other out.
#[async_trait]
pub(crate) trait Session: Send {
    /// Those runs that have begun, some perhaps more than once, and the ends of those that are sealed. None of the others is
    /// sealed before this transaction ends.
    async fn ends(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<End>)>, StoreError>;

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

    /// What is stored under ids; locked, where it is going to be replaced. None of it is removed before this transaction ends.
    async fn stored(&mut self, ids: &[Uuid], lock: bool) -> Result<Vec<StoredTransaction>, StoreError>;

    /// Replaces stored transactions and predictions, and keeps what they were.
    async fn replace(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError>;

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError>;

    async fn insert_failed(&mut self, rows: &[Failure<'_>]) -> Result<(), StoreError>;

    async fn amend(&mut self, amendments: &[Amendment<'_>]) -> Result<(), StoreError>;

    /// Records a part of a replay; tells whether it was new.
    async fn claim_part(&mut self, id: &ReplayId) -> Result<bool, StoreError>;

    /// Whether a run is removed or about to be. It is not before this transaction ends, and until then no removal of any run
    /// takes a step.
    async fn is_removed(&mut self, run_id: &RunId) -> Result<bool, StoreError>;

    /// Deletes failed rows of a replay's run where they failed with these transactions, and keeps how they had failed; gives the
    /// rows that did, and their attempts.
    async fn take_failed(&mut self, id: &ReplayId, rows: &[(u64, Uuid)]) -> Result<Vec<(u64, u32)>, StoreError>;

    /// The recorded chunks in which rows of a run may be, locked, in row order.
    async fn covering(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<BookedChunk>, StoreError>;

    /// Says what came of a part of a replay that this transaction has claimed.
    async fn count_part(&mut self, id: &ReplayId, done: &Exchanged) -> Result<(), StoreError>;

    /// Starts a part that can be taken back by itself.
    async fn savepoint(&mut self) -> Result<(), StoreError>;

    /// Keeps the part.
    async fn release(&mut self) -> Result<(), StoreError>;

    /// Takes the part back.
    async fn rollback_part(&mut self) -> Result<(), StoreError>;

    /// Ends the transaction. After an error, nobody knows whether it is committed.
    async fn commit(self) -> Result<(), StoreError>;
}

/// The last recorded chunk of a run that begins at or before a row: if any covers it, it does, as chunks do not overlap.
macro_rules! covering {
    ($run_id:literal, $row:literal) => {
        concat!(
            "(SELECT below.chunk FROM chunks below WHERE below.run_id = ",
            $run_id,
            " AND below.first_row <= ",
            $row,
            " AND below.rows > 0 ORDER BY below.first_row DESC LIMIT 1)"
        )
    };
}
pub(crate) use covering;

/// Chunk, first row, rows, predicted, and duplicate rows as JSON.
pub(crate) fn read_booked(
    (chunk, first_row, rows, predicted, duplicates): (i64, i64, i64, i64, Option<String>),
) -> Result<BookedChunk, StoreError> {
    Ok(BookedChunk {
        chunk: unsigned(chunk),
        range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) },
        predicted: unsigned(predicted),
        duplicates: read_duplicates(duplicates.as_deref())?,
    })
}

/// What `chunks.duplicate_rows` holds.
pub(crate) fn read_duplicates(json: Option<&str>) -> Result<Vec<(u64, Uuid)>, StoreError> {
    let unreadable = |_| StoreError::configuration("a chunk has duplicate rows that this version cannot read");
    json.map_or_else(|| Ok(Vec::new()), |json| serde_json::from_str(json).map_err(unreadable))
}

/// The same, for writing.
pub(crate) fn write_duplicates(duplicates: &[(u64, Uuid)]) -> Result<Option<String>, StoreError> {
    let json = || serde_json::to_string(duplicates).map_err(|error| StoreError::data(error.to_string()));
    if duplicates.is_empty() { Ok(None) } else { json().map(Some) }
}

/// A count for the database's signed integers. What is screened fits; nothing else comes near the limit.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that the database gives back; it holds none below zero.
pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

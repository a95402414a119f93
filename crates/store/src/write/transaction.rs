//! What writing chunks asks of a database: one open transaction, and the statements that fill it. `sql::write` implements
//! those that both databases share, `postgres::write` and `sqlite::write` the others. Dropping it rolls everything back.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use assay_transaction::{
    Entry, Lane, ModelEndpoint, Prediction, RejectedRow, ReplayId, RowRange, RunId, ScoredChunk, Timestamp,
    Transaction, TransactionView, has_attributes,
};
use async_trait::async_trait;
use uuid::Uuid;

use crate::ledger::sealing::RunEnd;
use crate::values::{to_json, unsigned};
use crate::write::run_models::RunModels;
use crate::write::statistics::CommitStatistics;
use crate::{ReplayCounts, StoreError};

/// A scored row, which borrows from the message that brought it.
pub(crate) struct StagedRow<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) lane: Lane,
    pub(crate) predicted_at: Timestamp,
    /// The index of its chunk among the candidates.
    pub(crate) candidate: usize,
    pub(crate) entry: &'a Entry,
    pub(crate) prediction: &'a Prediction,
    pub(crate) transaction: TransactionView<'a>,
}

impl StagedRow<'_> {
    pub(crate) fn external_id(&self) -> Option<&str> {
        self.entry.external_id.as_deref()
    }

    /// Run and row.
    pub(crate) fn origin(&self) -> (&str, u64) {
        (self.run_id.as_str(), self.entry.row)
    }

    /// The key of the prediction's endpoint.
    pub(crate) fn endpoint(&self) -> Option<i64> {
        self.prediction.endpoint.as_deref().map(ModelEndpoint::key)
    }

    /// The reasons as JSON, if there are any.
    pub(crate) fn reasons(&self) -> Option<String> {
        let reasons = &self.prediction.reasons;
        // Texts and numbers: that cannot fail.
        (!reasons.is_empty()).then(|| serde_json::to_string(reasons).unwrap_or_default())
    }

    /// The transaction with its attributes. For the time of a comparison only: many rows in this form would take many times their
    /// memory.
    pub(crate) fn whole(&self) -> Transaction {
        self.transaction.to_transaction()
    }

    /// As it is stored with the transaction.
    pub(crate) fn processing_type(&self) -> &'static str {
        match self.lane {
            Lane::Batch => "batch",
            Lane::Realtime => "streaming",
        }
    }
}

/// Those of the rows whose ids are among `inserted`.
pub(crate) fn inserted_rows<'r, 'a>(rows: &[&'r StagedRow<'a>], inserted: &[Uuid]) -> Vec<&'r StagedRow<'a>> {
    if inserted.len() == rows.len() {
        return rows.to_vec();
    }
    let ids: HashSet<&Uuid> = inserted.iter().collect();
    rows.iter().filter(|row| ids.contains(&row.transaction.id)).copied().collect()
}

/// A stored transaction.
pub(crate) struct StoredTransaction {
    /// Without its attributes.
    pub(crate) transaction: Transaction,
    /// The further columns as JSON, if there are any.
    pub(crate) attributes: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) run_id: String,
    pub(crate) row: u64,
}

impl StoredTransaction {
    /// Run and row.
    pub(crate) fn origin(&self) -> (&str, u64) {
        (&self.run_id, self.row)
    }

    /// The transaction with its attributes, for the time of a comparison only.
    pub(crate) fn whole(&self) -> Transaction {
        // They were checked.
        let attributes = self.attributes.as_deref().and_then(|json| serde_json::from_str(json).ok());
        Transaction { attributes: attributes.unwrap_or_default(), ..self.transaction.clone() }
    }
}

/// The stored attributes of a transaction, if there are any; an error if this version cannot read them.
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
pub(crate) struct ChunkNeighbours {
    pub(crate) range: RowRange,
    /// The row after the nearest recorded chunk below.
    end_below: Option<u64>,
    /// The first row of the nearest recorded chunk above.
    start_above: Option<u64>,
    /// Whether some of its rows are recorded as invalid or failed, although its own record was lost.
    pub(crate) has_leftovers: bool,
}

/// Range, end below, start above, a failed and an invalid row.
pub(crate) type NeighboursRow = (i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

impl ChunkNeighbours {
    /// Reads the columns of `chunk_neighbours!`.
    pub(crate) fn read((first_row, rows, below, above, failed, invalid): NeighboursRow) -> Self {
        Self {
            range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) },
            end_below: below.map(unsigned),
            start_above: above.map(unsigned),
            has_leftovers: failed.or(invalid).is_some(),
        }
    }

    /// Whether a range has rows of another chunk.
    pub(crate) fn overlaps(&self, range: RowRange) -> bool {
        self.end_below.is_some_and(|end| end > range.first_row)
            || self.start_above.is_some_and(|start| start < range.first_row + range.rows)
    }
}

/// A row for `invalid_transactions`.
pub(crate) struct InvalidRow<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) rejected: &'a RejectedRow,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) message: Cow<'a, str>,
}

/// A row for `failed_transactions`.
pub(crate) struct FailureRow<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) row: u64,
    pub(crate) transaction_id: Uuid,
    pub(crate) class: Cow<'a, str>,
    pub(crate) reason: Cow<'a, str>,
    pub(crate) attempts: u32,
    pub(crate) payload: Vec<u8>,
    /// The operation that took the content of a tombstone.
    pub(crate) operation: Option<i64>,
}

/// The counts of a recorded chunk that replayed rows change.
#[derive(Debug, Clone)]
pub(crate) struct ChunkCounts {
    pub(crate) chunk: u64,
    pub(crate) range: RowRange,
    pub(crate) predicted: u64,
    pub(crate) duplicates: Vec<(u64, Uuid)>,
}

impl ChunkCounts {
    /// Reads chunk, first row, rows, predicted, and duplicate rows as JSON.
    pub(crate) fn read(
        (chunk, first_row, rows, predicted, duplicates): (i64, i64, i64, i64, Option<String>),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            chunk: unsigned(chunk),
            range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) },
            predicted: unsigned(predicted),
            duplicates: read_duplicates(duplicates.as_deref())?,
        })
    }
}

/// The counts of a chunk that differ from those it was claimed with.
pub(crate) struct ChunkAmendment<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) chunk: u64,
    pub(crate) predicted: u64,
    /// JSON: `[[row_number, transaction_id], …]`.
    pub(crate) duplicate_rows: Option<String>,
}

/// The statements that both databases share.
#[async_trait]
pub(crate) trait SharedStatements: Send {
    /// Which of these ids were erased, each with its operation. The transaction has locked its runs: from then on no erasure begins
    /// before it ends.
    async fn erased(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError>;

    /// Deletes a chunk that this transaction claimed.
    async fn unclaim(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError>;

    /// Deletes the invalid and failed rows of a claimed chunk that an earlier record of it left.
    async fn clear_leftovers(&mut self, chunk: &ScoredChunk) -> Result<(), StoreError>;

    /// Notes which models a run's predictions come from; what is known changes nothing.
    async fn note_models(&mut self, models: &RunModels<'_>) -> Result<(), StoreError>;

    /// Notes what this transaction records of its runs.
    async fn note_statistics(&mut self, statistics: CommitStatistics<'_>) -> Result<(), StoreError>;

    /// Records a part of a replay; returns whether it was new.
    async fn claim_part(&mut self, id: &ReplayId) -> Result<bool, StoreError>;

    /// Records the counts of a part of a replay that this transaction claimed.
    async fn record_part(&mut self, id: &ReplayId, counts: &ReplayCounts) -> Result<(), StoreError>;

    async fn savepoint(&mut self) -> Result<(), StoreError>;

    async fn release_savepoint(&mut self) -> Result<(), StoreError>;

    async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError>;

    /// Ends the transaction. After an error, it may be committed or not.
    async fn commit(self) -> Result<(), StoreError>;
}

/// One open transaction. Lists of chunks are in (run, chunk) order, lists of rows in the order of their ids, so that
/// overlapping transactions wait for each other and cannot deadlock.
#[async_trait]
pub(crate) trait WriteTransaction: SharedStatements {
    /// Locks the runs of chunks against being sealed, and ids against being erased; returns those that have begun, each with its end if it is sealed.
    /// A run may be listed more than once.
    async fn lock_runs(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<(String, Option<RunEnd>)>, StoreError>;

    /// Records chunks with the number of their scored rows, and the ids of all ([`row_ids`](super::validate::row_ids)); returns for
    /// each whether it was new.
    async fn claim(&mut self, chunks: &[&ScoredChunk], ids: Vec<Vec<u8>>) -> Result<Vec<bool>, StoreError>;

    /// What is recorded of chunks and right around them, claims of this transaction included.
    async fn neighbours(&mut self, chunks: &[&ScoredChunk]) -> Result<Vec<Option<ChunkNeighbours>>, StoreError>;

    /// Stores transactions whose ids are not stored yet, with their predictions; returns those ids. A prediction without its
    /// transaction gives way.
    async fn insert_new(&mut self, rows: &[&StagedRow<'_>]) -> Result<Vec<Uuid>, StoreError>;

    /// Stores the missing predictions of stored transactions.
    async fn insert_missing_predictions(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError>;

    /// The transactions stored under ids; locked if they are going to be replaced. None of them is removed before this
    /// transaction ends.
    async fn stored(&mut self, ids: &[Uuid], lock: bool) -> Result<Vec<StoredTransaction>, StoreError>;

    /// Replaces stored transactions and predictions, and keeps the former ones in the history.
    async fn replace(&mut self, rows: &[&StagedRow<'_>]) -> Result<(), StoreError>;

    async fn insert_invalid(&mut self, rows: &[InvalidRow<'_>]) -> Result<(), StoreError>;

    async fn insert_failed(&mut self, rows: &[FailureRow<'_>]) -> Result<(), StoreError>;

    async fn amend_chunks(&mut self, amendments: &[ChunkAmendment<'_>]) -> Result<(), StoreError>;

    /// Whether a run is removed or being removed. Until this transaction ends, it stays as it is, and no removal of any run
    /// takes a step and no erasure begins.
    async fn is_removed(&mut self, run_id: &RunId) -> Result<bool, StoreError>;

    /// Deletes rows of a replay's run that failed with these transactions, and keeps their failures in the history; returns
    /// the deleted rows with their attempts.
    async fn take_failed(&mut self, id: &ReplayId, rows: &[(u64, Uuid)]) -> Result<Vec<(u64, u32)>, StoreError>;

    /// The recorded chunks that may cover rows of a run, locked, in row order.
    async fn covering_chunks(&mut self, run_id: &RunId, rows: &[u64]) -> Result<Vec<ChunkCounts>, StoreError>;
}

/// Reads `chunks.duplicate_rows`.
pub(crate) fn read_duplicates(json: Option<&str>) -> Result<Vec<(u64, Uuid)>, StoreError> {
    let unreadable = |_| StoreError::configuration("a chunk has duplicate rows that this version cannot read");
    json.map_or_else(|| Ok(Vec::new()), |json| serde_json::from_str(json).map_err(unreadable))
}

/// The same, to bind.
pub(crate) fn write_duplicates(duplicates: &[(u64, Uuid)]) -> Result<Option<String>, StoreError> {
    if duplicates.is_empty() { Ok(None) } else { to_json(duplicates).map(Some) }
}

//! Rows that were not scored because they were stored with the same content when they were read.
//!
//! Such a row carries the stored prediction, but is not stored anew: if its transaction is gone meanwhile, or would have to be
//! replaced, the row fails with its payload, and a replay scores it.

use std::collections::{HashMap, HashSet};

use assay_transaction::ScoredChunk;
use uuid::Uuid;

use crate::write::Attempt;
use crate::write::chunks::store_rows;
use crate::write::resolve_ids::{Resolution, is_same_content};
use crate::write::transaction::{StagedRow, StoredTransaction, WriteTransaction};
use crate::{IdConflict, StoreError};

/// Why such a row fails.
pub(crate) const UNSCORED: &str =
    "it was not scored, as it was stored with this content when it was read, but it no longer is: replay it";

/// The unscored rows of a call.
pub(crate) struct KnownRows {
    /// Candidate and row.
    rows: HashSet<(usize, u64)>,
}

impl KnownRows {
    pub(crate) fn of(chunks: &[&ScoredChunk]) -> Self {
        let rows = |(candidate, chunk): (usize, &&ScoredChunk)| {
            chunk.known.iter().map(|row| (candidate, *row)).collect::<Vec<_>>()
        };
        Self { rows: chunks.iter().enumerate().flat_map(rows).collect() }
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, row: &StagedRow<'_>) -> bool {
        !self.rows.is_empty() && self.rows.contains(&(row.candidate, row.entry.row))
    }

    /// Stores rows like [`store_rows`], except for unscored ones that would need a score now.
    pub(crate) async fn store<T: WriteTransaction>(
        &self,
        tx: &mut T,
        rows: &[&StagedRow<'_>],
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<Vec<Resolution>, StoreError> {
        let unscored = self.unscored(tx, rows, on_conflict).await?;
        if unscored.is_empty() {
            return store_rows(tx, rows, on_conflict, attempt).await;
        }
        let is_unscored = |at: &usize| unscored.contains(at);
        let others: Vec<&StagedRow<'_>> = (0..rows.len()).filter(|at| !is_unscored(at)).map(|at| rows[at]).collect();
        let mut resolutions = store_rows(tx, &others, on_conflict, attempt).await?.into_iter();
        let resolution = |at| {
            if is_unscored(&at) { Resolution::Unscored } else { resolutions.next().unwrap_or(Resolution::Pending) }
        };
        Ok((0..rows.len()).map(resolution).collect())
    }

    /// Indices of the rows that would have to be scored after all.
    async fn unscored<T: WriteTransaction>(
        &self,
        tx: &mut T,
        rows: &[&StagedRow<'_>],
        on_conflict: IdConflict,
    ) -> Result<HashSet<usize>, StoreError> {
        if self.rows.is_empty() {
            return Ok(HashSet::new());
        }
        let is_known = |at: &usize| self.contains(rows[*at]);
        let known: Vec<usize> = (0..rows.len()).filter(is_known).collect();
        let mut ids: Vec<Uuid> = known.iter().map(|at| rows[*at].transaction.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let stored = tx.stored(&ids, false).await?;
        let stored: HashMap<Uuid, &StoredTransaction> =
            stored.iter().map(|stored| (stored.transaction.id, stored)).collect();
        let must_be_scored = |at: &usize| {
            let row = rows[*at];
            let Some(stored) = stored.get(&row.transaction.id) else { return true };
            on_conflict == IdConflict::Update
                && row.origin() != stored.origin()
                && !is_same_content((&row.whole(), row.external_id()), (&stored.whole(), stored.external_id.as_deref()))
        };
        Ok(known.into_iter().filter(must_be_scored).collect())
    }
}

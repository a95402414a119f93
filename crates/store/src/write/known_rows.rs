//! Rows that were not scored, as they were stored already with the same content when they were read: what becomes of them when
//! they are booked. `write` stores all others.
//!
//! Such a row comes with the stored prediction, but nothing of it is stored anew: where the transaction is gone meanwhile, or is to be
//! replaced, the row fails with its payload, and a replay has it scored.

use std::collections::{HashMap, HashSet};

use assay_transaction::ScoredChunk;
use uuid::Uuid;

use crate::write::chunks::{Attempt, store};
use crate::write::resolve_ids::{Fate, says_the_same};
use crate::write::transaction::{Session, StagedRow, StoredTransaction};
use crate::{IdConflict, StoreError};

/// Why such a row fails.
pub(crate) const UNSCORED: &str = "it was stored with this content when it was read, so that it was not scored, and is not any more; a replay has it scored";

/// The rows of a call that were not scored.
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

    /// Stores rows as [`store`] does, those that were not scored only where they need not be.
    pub(crate) async fn store<S: Session>(
        &self,
        session: &mut S,
        rows: &[&StagedRow<'_>],
        on_conflict: IdConflict,
        attempt: Attempt,
    ) -> Result<Vec<Fate>, StoreError> {
        let unscored = self.unscored(session, rows, on_conflict).await?;
        if unscored.is_empty() {
            return store(session, rows, on_conflict, attempt).await;
        }
        let is_unscored = |at: &usize| unscored.contains(at);
        let others: Vec<&StagedRow<'_>> = (0..rows.len()).filter(|at| !is_unscored(at)).map(|at| rows[at]).collect();
        let mut fates = store(session, &others, on_conflict, attempt).await?.into_iter();
        let fate = |at| if is_unscored(&at) { Fate::Unscored } else { fates.next().unwrap_or(Fate::Open) };
        Ok((0..rows.len()).map(fate).collect())
    }

    /// Places of those that would have to be scored after all.
    async fn unscored<S: Session>(
        &self,
        session: &mut S,
        rows: &[&StagedRow<'_>],
        on_conflict: IdConflict,
    ) -> Result<HashSet<usize>, StoreError> {
        if self.rows.is_empty() {
            return Ok(HashSet::new());
        }
        let is_known = |at: &usize| self.rows.contains(&(rows[*at].candidate, rows[*at].entry.row));
        let known: Vec<usize> = (0..rows.len()).filter(is_known).collect();
        let mut ids: Vec<Uuid> = known.iter().map(|at| rows[*at].transaction.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let stored = session.stored(&ids, false).await?;
        let stored: HashMap<Uuid, &StoredTransaction> =
            stored.iter().map(|stored| (stored.transaction.id, stored)).collect();
        let must_be_scored = |at: &usize| {
            let row = rows[*at];
            let Some(stored) = stored.get(&row.transaction.id) else { return true };
            on_conflict == IdConflict::Update
                && row.place() != stored.place()
                && !says_the_same((&row.whole(), row.external_id()), (&stored.whole(), stored.external_id.as_deref()))
        };
        Ok(known.into_iter().filter(must_be_scored).collect())
    }
}

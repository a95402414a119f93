//! How replayed rows trade their failure for a new outcome, in one transaction.
//!
//! The part is claimed first, so that a repeated one changes nothing. Then its rows are deleted from the failed ones; a row
//! that is no longer failed is gone, and its outcome stays. Only deleted rows get a new outcome: scored ones are stored like
//! those of a chunk, and the chunk that covers a row is credited with it. So a row has one outcome before and after, whether its
//! run is finished or not.

use std::collections::{BTreeMap, HashMap};

use assay_transaction::{FailedRow, ReplayId, ScoredReplay};
use uuid::Uuid;

use crate::write::Attempt;
use crate::write::chunks::{failure_row, storage_failure, store_rows};
use crate::write::erased::ErasedIds;
use crate::write::resolve_ids::Resolution;
use crate::write::run_models::RunModels;
use crate::write::statistics::CommitStatistics;
use crate::write::transaction::{ChunkAmendment, ChunkCounts, StagedRow, WriteTransaction, write_duplicates};
use crate::write::validate::stage_row;
use crate::{IdConflict, ReplayCounts, StoreError};

/// A part of a replay, decoded. Of a repeated row, the first counts, a scored one before a failed one.
pub(crate) struct StagedReplay<'a> {
    id: &'a ReplayId,
    /// In row order.
    scored: Vec<StagedRow<'a>>,
    /// In row order.
    failed: Vec<&'a FailedRow>,
    /// How many rows came, repeated ones included.
    given: usize,
}

impl<'a> StagedReplay<'a> {
    pub(crate) fn new(part: &'a ScoredReplay) -> Result<Self, StoreError> {
        let ScoredReplay { id, ids: _, lane, predicted_at, predicted, failed } = part;
        if i64::try_from(id.replay).is_err() || i64::try_from(id.part).is_err() {
            return Err(StoreError::data(format!("part {id} has numbers that no database takes")));
        }
        let mut scored = BTreeMap::new();
        for predicted in predicted {
            let staged = stage_row(&id.run_id, *lane, *predicted_at, 0, predicted)
                .map_err(|error| StoreError::data(format!("row {} of part {id}: {error}", predicted.entry.row)))?;
            scored.entry(predicted.entry.row).or_insert(staged);
        }
        let mut again = BTreeMap::new();
        for failed in failed.iter().filter(|failed| !scored.contains_key(&failed.entry.row)) {
            again.entry(failed.entry.row).or_insert(failed);
        }
        let given = predicted.len() + failed.len();
        Ok(Self { id, scored: scored.into_values().collect(), failed: again.into_values().collect(), given })
    }

    /// Rows with their transactions, in row order.
    fn rows(&self) -> Vec<(u64, Uuid)> {
        let scored = self.scored.iter().map(|row| (row.entry.row, row.transaction.id));
        let mut rows: Vec<_> =
            scored.chain(self.failed.iter().map(|failed| (failed.entry.row, failed.transaction_id))).collect();
        rows.sort_unstable();
        rows
    }
}

/// Writes the new outcomes of a part through an open transaction, and commits it.
pub(crate) async fn write_replay<T: WriteTransaction>(
    mut tx: T,
    part: &StagedReplay<'_>,
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<ReplayCounts, StoreError> {
    let run_id = &part.id.run_id;
    // First of all: a removal waits for transactions that have asked this, and all later ones wait for the removal.
    let is_removed = tx.is_removed(run_id).await?;
    if !tx.claim_part(part.id).await? {
        return Ok(ReplayCounts::default());
    }
    let taken = if is_removed { Vec::new() } else { tx.take_failed(part.id, &part.rows()).await? };
    let attempts: HashMap<u64, u32> = taken.iter().copied().collect();
    let mut credits = chunk_credits(&mut tx, part, &taken).await?;

    let erased = ErasedIds::among(&mut tx, part.rows().into_iter().map(|(_, id)| id).collect()).await?;
    let (rows, withheld): (Vec<&StagedRow<'_>>, Vec<&StagedRow<'_>>) = part
        .scored
        .iter()
        .filter(|row| attempts.contains_key(&row.entry.row))
        .partition(|row| !erased.contains(&row.transaction.id));
    let resolutions = store_rows(&mut tx, &rows, on_conflict, attempt).await?;
    let mut failures = Vec::new();
    for failed in &part.failed {
        if let Some(before) = attempts.get(&failed.entry.row) {
            let tombstone = erased.tombstone(run_id, failed.entry.row, &failed.transaction_id);
            failures.push(tombstone.map_or_else(|| failure_row(run_id, failed, *before), Ok)?);
        }
    }
    let tombstone = |row: &&StagedRow<'_>| erased.tombstone(run_id, row.entry.row, &row.transaction.id);
    failures.extend(withheld.iter().filter_map(tombstone));
    for (row, resolution) in rows.iter().zip(&resolutions) {
        if let Some(mut failure) = storage_failure(row, resolution)? {
            failure.attempts = failure.attempts.saturating_add(attempts[&row.entry.row]);
            failures.push(failure);
        }
        credits.add(row, resolution);
    }
    if !failures.is_empty() {
        tx.insert_failed(&failures).await?;
    }
    let amendments = credits.amendments(part)?;
    if !amendments.is_empty() {
        tx.amend_chunks(&amendments).await?;
    }
    let (taken, failed) = (taken.len() as u64, failures.len() as u64);
    let done = ReplayCounts { is_new: true, stored: taken - failed, failed, gone: part.given as u64 - taken };
    tx.record_part(part.id, &done).await?;
    let models = RunModels::of(rows.iter().copied());
    if !models.is_empty() {
        tx.note_models(&models).await?;
    }
    tx.note_statistics(CommitStatistics::of(&rows, &resolutions)).await?;
    tx.commit().await?;
    Ok(done)
}

/// The chunks that cover the rows, with their new counts.
struct ChunkCredits {
    /// In row order, each with whether it changed.
    chunks: Vec<(ChunkCounts, bool)>,
}

/// Finds the chunks that cover the deleted rows.
async fn chunk_credits<T: WriteTransaction>(
    tx: &mut T,
    part: &StagedReplay<'_>,
    taken: &[(u64, u32)],
) -> Result<ChunkCredits, StoreError> {
    let mut rows: Vec<u64> = taken.iter().map(|(row, _)| *row).collect();
    rows.sort_unstable();
    let chunks = if rows.is_empty() { Vec::new() } else { tx.covering_chunks(&part.id.run_id, &rows).await? };
    let credits = ChunkCredits { chunks: chunks.into_iter().map(|chunk| (chunk, false)).collect() };
    match rows.iter().find(|row| credits.covering(**row).is_none()) {
        None => Ok(credits),
        Some(row) => Err(StoreError::data(format!(
            "row {row} of run {} failed, but no recorded chunk covers it: see `assay audit`",
            part.id.run_id
        ))),
    }
}

impl ChunkCredits {
    /// The index of the chunk that covers a row.
    fn covering(&self, row: u64) -> Option<usize> {
        let after = self.chunks.partition_point(|(chunk, _)| chunk.range.first_row <= row);
        let at = after.checked_sub(1)?;
        let range = self.chunks[at].0.range;
        (row < range.first_row + range.rows).then_some(at)
    }

    fn add(&mut self, row: &StagedRow<'_>, resolution: &Resolution) {
        let Some(at) = self.covering(row.entry.row) else { return };
        let (chunk, is_changed) = &mut self.chunks[at];
        match resolution {
            Resolution::Stored | Resolution::Kept => chunk.predicted += 1,
            Resolution::Duplicate | Resolution::Replaced => chunk.duplicates.push((row.entry.row, row.transaction.id)),
            Resolution::Pending | Resolution::Conflict(_) | Resolution::Refused(_) | Resolution::Unscored => return,
        }
        *is_changed = true;
    }

    fn amendments<'a>(self, part: &StagedReplay<'a>) -> Result<Vec<ChunkAmendment<'a>>, StoreError> {
        let changed = self.chunks.into_iter().filter(|(_, is_changed)| *is_changed);
        changed
            .map(|(chunk, _)| {
                Ok(ChunkAmendment {
                    run_id: &part.id.run_id,
                    chunk: chunk.chunk,
                    predicted: chunk.predicted,
                    duplicate_rows: write_duplicates(&chunk.duplicates)?,
                })
            })
            .collect()
    }
}

//! How failed rows that were sent again give way to their new outcomes: one transaction, the same for every database.
//!
//! The part is claimed first, so that one that comes again changes nothing. Then its rows are taken from the failed ones; what
//! is not there any more is gone, and whatever became of it stays. Only what was taken gets a new outcome: scored rows go the
//! way of those of a chunk, and the chunk that covers a row is credited with it. So a row has one outcome before and after,
//! whether its run is finished or goes on.

use std::collections::{BTreeMap, HashMap};

use assay_transaction::{FailedRow, ReplayId, ScoredReplay};
use uuid::Uuid;

use crate::write::chunks::{Attempt, failed_again, failure, store};
use crate::write::resolve_ids::Fate;
use crate::write::transaction::{Amendment, BookedChunk, Session, StagedRow, write_duplicates};
use crate::write::validate::stage;
use crate::{Exchanged, IdConflict, StoreError};

/// A part of a replay, decoded. A row that it holds twice counts as it came first, scored before failed.
pub(crate) struct StagedPart<'a> {
    id: &'a ReplayId,
    /// In row order.
    scored: Vec<StagedRow<'a>>,
    /// In row order.
    failed: Vec<&'a FailedRow>,
    /// How many rows came, those that came twice included.
    given: usize,
}

impl<'a> StagedPart<'a> {
    pub(crate) fn new(part: &'a ScoredReplay) -> Result<Self, StoreError> {
        let ScoredReplay { id, lane, predicted_at, predicted, failed } = part;
        if i64::try_from(id.replay).is_err() || i64::try_from(id.part).is_err() {
            return Err(StoreError::data(format!("part {id} has numbers that no database takes")));
        }
        let mut scored = BTreeMap::new();
        for predicted in predicted {
            let staged = stage(&id.run_id, *lane, *predicted_at, 0, predicted)
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

/// Exchanges the rows of a part through an open transaction, and commits it.
pub(crate) async fn exchange<S: Session>(
    mut session: S,
    part: &StagedPart<'_>,
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<Exchanged, StoreError> {
    let run_id = &part.id.run_id;
    // First of all, as a removal waits for whoever has asked, and everybody else for it.
    let is_removed = session.is_removed(run_id).await?;
    if !session.claim_part(part.id).await? {
        return Ok(Exchanged::default());
    }
    let taken = if is_removed { Vec::new() } else { session.take_failed(part.id, &part.rows()).await? };
    let attempts: HashMap<u64, u32> = taken.iter().copied().collect();
    let mut credits = credits(&mut session, part, &taken).await?;

    let rows: Vec<&StagedRow<'_>> = part.scored.iter().filter(|row| attempts.contains_key(&row.entry.row)).collect();
    let fates = store(&mut session, &rows, on_conflict, attempt).await?;
    let mut failures = Vec::new();
    for failed in &part.failed {
        if let Some(before) = attempts.get(&failed.entry.row) {
            failures.push(failed_again(run_id, failed, *before)?);
        }
    }
    for (row, fate) in rows.iter().zip(&fates) {
        if let Some(mut failure) = failure(row, fate)? {
            failure.attempts = failure.attempts.saturating_add(attempts[&row.entry.row]);
            failures.push(failure);
        }
        credits.book(row, fate);
    }
    if !failures.is_empty() {
        session.insert_failed(&failures).await?;
    }
    let amendments = credits.amendments(part)?;
    if !amendments.is_empty() {
        session.amend(&amendments).await?;
    }
    let (taken, failed) = (taken.len() as u64, failures.len() as u64);
    let done = Exchanged { is_new: true, stored: taken - failed, failed, gone: part.given as u64 - taken };
    session.count_part(part.id, &done).await?;
    session.commit().await?;
    Ok(done)
}

/// The chunks that cover the rows, and what is to be said of them.
struct Credits {
    /// In row order, with whether something changed.
    chunks: Vec<(BookedChunk, bool)>,
}

/// Finds the chunks that cover the rows taken.
async fn credits<S: Session>(
    session: &mut S,
    part: &StagedPart<'_>,
    taken: &[(u64, u32)],
) -> Result<Credits, StoreError> {
    let mut rows: Vec<u64> = taken.iter().map(|(row, _)| *row).collect();
    rows.sort_unstable();
    let chunks = if rows.is_empty() { Vec::new() } else { session.covering(&part.id.run_id, &rows).await? };
    let credits = Credits { chunks: chunks.into_iter().map(|chunk| (chunk, false)).collect() };
    match rows.iter().find(|row| credits.of(**row).is_none()) {
        None => Ok(credits),
        Some(row) => Err(StoreError::data(format!(
            "row {row} of run {} failed, but no recorded chunk covers it: `assay audit` tells more",
            part.id.run_id
        ))),
    }
}

impl Credits {
    /// Where the chunk is that covers a row.
    fn of(&self, row: u64) -> Option<usize> {
        let after = self.chunks.partition_point(|(chunk, _)| chunk.range.first_row <= row);
        let at = after.checked_sub(1)?;
        let range = self.chunks[at].0.range;
        (row < range.first_row + range.rows).then_some(at)
    }

    fn book(&mut self, row: &StagedRow<'_>, fate: &Fate) {
        let Some(at) = self.of(row.entry.row) else { return };
        let (chunk, is_changed) = &mut self.chunks[at];
        match fate {
            Fate::Stored | Fate::Kept => chunk.predicted += 1,
            Fate::Duplicate | Fate::Replacing => chunk.duplicates.push((row.entry.row, row.transaction.id)),
            Fate::Open | Fate::Conflict(_) | Fate::Refused(_) | Fate::Unscored => return,
        }
        *is_changed = true;
    }

    fn amendments<'a>(self, part: &StagedPart<'a>) -> Result<Vec<Amendment<'a>>, StoreError> {
        let changed = self.chunks.into_iter().filter(|(_, is_changed)| *is_changed);
        changed
            .map(|(chunk, _)| {
                Ok(Amendment {
                    run_id: &part.id.run_id,
                    chunk: chunk.chunk,
                    predicted: chunk.predicted,
                    duplicate_rows: write_duplicates(&chunk.duplicates)?,
                })
            })
            .collect()
    }
}

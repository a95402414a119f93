//! How scored chunks become rows, in one transaction.
//!
//! The chunks are claimed first; a chunk that cannot be claimed is recorded already, and nothing of it is written again. Then
//! come the rows of the claimed chunks: scored, invalid, failed. So a call that is repeated after any error finds either
//! everything done or nothing.
//!
//! If the record of a chunk was deleted by hand, its rows may still be there. Each counts once afterwards: a transaction that a
//! row stored stays its own, and invalid and failed rows are recorded anew.
//!
//! If the database refuses data, the transaction is rolled back and repeated with savepoints around halves, quarters, … of the
//! rows, until the rows at fault stand alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use assay_transaction::{FailedRow, FailureClass, RunId, ScoredChunk, Tally};
use uuid::Uuid;

use crate::ledger::sealing::{RunEnd, beyond_end};
use crate::values::storable;
use crate::write::Attempt;
use crate::write::erased::ErasedIds;
use crate::write::known_rows::{KnownRows, UNSCORED};
use crate::write::resolve_ids::{IdResolver, Resolution};
use crate::write::run_models::RunModels;
use crate::write::statistics::CommitStatistics;
use crate::write::transaction::{
    ChunkAmendment, FailureRow, StagedRow, StoredTransaction, WriteTransaction, write_duplicates,
};
use crate::write::validate::{ValidatedChunks, failure_texts, invalid_rows, range_mismatch, row_ids};
use crate::{ChunkOutcome, ErrorClass, IdConflict, StoreError, WriteReport};

/// Writes validated chunks through an open transaction, and commits it. The result counts candidates.
pub(crate) async fn write_chunks<T: WriteTransaction>(
    mut tx: T,
    validated: &ValidatedChunks<'_>,
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<WriteReport, StoreError> {
    let (outcomes, erased) = claim(&mut tx, validated).await?;
    let is_claimed = |candidate: usize| outcomes[candidate] == ChunkOutcome::Recorded;
    let claimed: Vec<usize> = (0..outcomes.len()).filter(|candidate| is_claimed(*candidate)).collect();
    if claimed.is_empty() {
        // Rolled back, so that a redelivery writes nothing at all.
        return Ok(WriteReport { outcomes, ..WriteReport::default() });
    }
    let (rows, withheld): (Vec<&StagedRow<'_>>, Vec<&StagedRow<'_>>) = validated
        .rows
        .iter()
        .filter(|row| is_claimed(row.candidate))
        .partition(|row| !erased.contains(&row.transaction.id));
    let known = KnownRows::of(&validated.chunks);
    let resolutions = known.store(&mut tx, &rows, on_conflict, attempt).await?;

    let chunks = || claimed.iter().map(|candidate| validated.chunks[*candidate]);
    let invalid: Vec<_> = chunks().flat_map(invalid_rows).collect();
    if !invalid.is_empty() {
        tx.insert_invalid(&invalid).await?;
    }
    let mut failed = chunks().flat_map(|chunk| failures(chunk, &erased)).collect::<Result<Vec<_>, StoreError>>()?;
    let kept = stored_failures(&mut tx, &failed).await?;
    failed.retain(|failure| !kept.contains(&(failure.run_id, failure.row)));
    for (row, resolution) in rows.iter().zip(&resolutions) {
        failed.extend(storage_failure(row, resolution)?);
    }
    failed.extend(tombstones(chunks(), &withheld, &erased));
    if !failed.is_empty() {
        tx.insert_failed(&failed).await?;
    }
    let amendments = chunk_amendments(validated, &claimed, &rows, &resolutions, &kept)?;
    if !amendments.is_empty() {
        tx.amend_chunks(&amendments).await?;
    }
    let scored = rows.iter().copied().filter(|row| !known.contains(row));
    let models = RunModels::of(scored);
    if !models.is_empty() {
        tx.note_models(&models).await?;
    }
    let mut statistics = CommitStatistics::of(&rows, &resolutions);
    statistics.add_invalid(&invalid);
    statistics.add_failed(&failed);
    statistics.add_kept(kept.iter().map(|(run_id, _)| *run_id));
    tx.note_statistics(statistics).await?;
    tx.commit().await?;
    let count =
        |is_one: fn(&Resolution) -> bool| resolutions.iter().filter(|resolution| is_one(resolution)).count() as u64;
    let transactions = count(|resolution| *resolution == Resolution::Stored);
    let tally = Tally {
        predicted: count(|resolution| matches!(resolution, Resolution::Stored | Resolution::Kept)) + kept.len() as u64,
        invalid: invalid.len() as u64,
        failed: failed.len() as u64,
        duplicate: count(|resolution| matches!(resolution, Resolution::Duplicate | Resolution::Replaced)),
    };
    let mut classes = BTreeMap::new();
    for failure in &failed {
        *classes.entry(failure.class.to_string()).or_default() += 1;
    }
    let without = rows
        .iter()
        .zip(&resolutions)
        .filter(|(_, resolution)| !matches!(resolution, Resolution::Stored | Resolution::Replaced));
    let without = without.map(|(row, _)| *row).chain(withheld.iter().copied());
    let unstored = without.map(|row| (row.candidate, row.entry.row)).collect();
    Ok(WriteReport { outcomes, transactions, unstored, tally, failed: classes, is_bisected: false })
}

/// Claims the chunks; only the recorded ones are this transaction's to write. The erased ids are known from here on.
async fn claim<T: WriteTransaction>(
    tx: &mut T,
    validated: &ValidatedChunks<'_>,
) -> Result<(Vec<ChunkOutcome>, ErasedIds), StoreError> {
    let chunks = &validated.chunks;
    let runs = tx.lock_runs(chunks).await?;
    let runs: HashMap<&str, Option<RunEnd>> = runs.iter().map(|(run_id, end)| (run_id.as_str(), *end)).collect();
    let scored = validated.rows.iter().map(|row| row.transaction.id);
    let erased = ErasedIds::among_chunks(tx, scored, chunks).await?;
    let claimed = tx.claim(chunks, row_ids(validated, &erased)).await?;
    let recorded = tx.neighbours(chunks).await?;
    let mut outcomes = Vec::with_capacity(chunks.len());
    for ((chunk, is_new), recorded) in chunks.iter().zip(claimed).zip(recorded) {
        let Some(recorded) = recorded else {
            return Err(StoreError::transient(format!("chunk {} was recorded and is gone", chunk.id)));
        };
        let range = chunk.range;
        let run = runs.get(chunk.id.run_id.as_str());
        let end = run.copied().flatten();
        let beyond = end.and_then(|end| beyond_end(&chunk.id.run_id, chunk.id.chunk, range, end.sealed));
        let is_stopped = end.is_some_and(|end| end.is_stopped);
        let is_removed = end.is_some_and(|end| end.is_removed);
        outcomes.push(if recorded.range != range {
            ChunkOutcome::Refused { reason: range_mismatch(chunk, recorded.range) }
        } else if !is_new {
            ChunkOutcome::AlreadyRecorded
        } else if run.is_none() {
            // Runs begin before anything of them is published. No audit would count these rows.
            tx.unclaim(chunk).await?;
            let reason =
                format!("chunk {} belongs to no run: no loader and no producer began {}", chunk.id, chunk.id.run_id);
            ChunkOutcome::Refused { reason }
        } else if is_removed {
            // Its record is missing, as in a restored database. Its rows were removed with the others.
            tx.unclaim(chunk).await?;
            ChunkOutcome::Dropped
        } else if let Some(reason) = beyond {
            tx.unclaim(chunk).await?;
            if is_stopped { ChunkOutcome::Dropped } else { ChunkOutcome::Refused { reason } }
        } else if recorded.overlaps(range) {
            tx.unclaim(chunk).await?;
            ChunkOutcome::Refused { reason: format!("chunk {} has rows of another chunk of its run", chunk.id) }
        } else {
            if recorded.has_leftovers {
                tx.clear_leftovers(chunk).await?;
            }
            ChunkOutcome::Recorded
        });
    }
    Ok((outcomes, erased))
}

/// Stores scored rows, given in (run, chunk, row) order; returns the resolution of each.
pub(crate) async fn store_rows<T: WriteTransaction>(
    tx: &mut T,
    rows: &[&StagedRow<'_>],
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<Vec<Resolution>, StoreError> {
    let mut resolver = IdResolver::new(rows);
    while !resolver.is_done() {
        let inserting = resolver.to_insert();
        if !inserting.is_empty() {
            let done = execute(tx, Statement::InsertNew, rows, &inserting, attempt).await?;
            let lost = resolver.inserted(&done.ids, done.refused);
            if !lost.is_empty() {
                let stored = tx.stored(&lost, on_conflict == IdConflict::Update).await?;
                if stored.len() != lost.len() {
                    return Err(StoreError::transient("a transaction was deleted while its id came again"));
                }
                resolver.found(stored);
            }
        }
        let replacing = resolver.compare(on_conflict);
        if !replacing.is_empty() {
            let done = execute(tx, Statement::Replace, rows, &replacing, attempt).await?;
            resolver.replaced(&replacing, done.refused);
        }
    }
    let kept = resolver.kept();
    if !kept.is_empty() {
        // A refused prediction stays missing: its row is stored, so it cannot fail as well.
        execute(tx, Statement::InsertMissingPredictions, rows, &kept, attempt).await?;
    }
    Ok(resolver.into_resolutions())
}

#[derive(Debug, Clone, Copy)]
enum Statement {
    InsertNew,
    Replace,
    InsertMissingPredictions,
}

/// The result of a statement, perhaps in several parts.
#[derive(Default)]
struct Done {
    /// Ids that were new.
    ids: Vec<Uuid>,
    /// Rows that the database refused, with the reason.
    refused: HashMap<usize, String>,
}

/// Executes a statement for chosen rows; with [`Attempt::Bisect`] for ever smaller parts of them.
async fn execute<T: WriteTransaction>(
    tx: &mut T,
    statement: Statement,
    rows: &[&StagedRow<'_>],
    chosen: &[usize],
    attempt: Attempt,
) -> Result<Done, StoreError> {
    let mut done = Done::default();
    let mut parts = vec![chosen];
    while let Some(part) = parts.pop() {
        let staged: Vec<&StagedRow<'_>> = part.iter().map(|row| rows[*row]).collect();
        if attempt == Attempt::Bisect {
            tx.savepoint().await?;
        }
        let result = match statement {
            Statement::InsertNew => tx.insert_new(&staged).await,
            Statement::Replace => tx.replace(&staged).await.map(|()| Vec::new()),
            Statement::InsertMissingPredictions => tx.insert_missing_predictions(&staged).await.map(|()| Vec::new()),
        };
        match (result, attempt) {
            (Ok(ids), Attempt::Copy | Attempt::Upsert) => done.ids.extend(ids),
            (Ok(ids), Attempt::Bisect) => {
                tx.release_savepoint().await?;
                done.ids.extend(ids);
            }
            (Err(error), Attempt::Bisect) if error.class() == ErrorClass::Data => {
                tx.rollback_to_savepoint().await?;
                if let [row] = part {
                    done.refused.insert(*row, error.to_string());
                } else {
                    let (first, second) = part.split_at(part.len() / 2);
                    // The first half comes first: ids are locked in their order.
                    parts.extend([second, first]);
                }
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(done)
}

/// The rows of a chunk that were not scored, without those whose ids were erased.
fn failures<'a>(
    chunk: &'a ScoredChunk,
    erased: &ErasedIds,
) -> impl Iterator<Item = Result<FailureRow<'a>, StoreError>> {
    let kept = chunk.failed.iter().filter(|failed| !erased.contains(&failed.transaction_id));
    kept.map(|failed| failure_row(&chunk.id.run_id, failed, 0))
}

/// What is recorded of the rows whose ids were erased, scored or not.
fn tombstones<'a>(
    chunks: impl Iterator<Item = &'a ScoredChunk>,
    withheld: &[&'a StagedRow<'_>],
    erased: &ErasedIds,
) -> Vec<FailureRow<'a>> {
    if erased.is_empty() {
        return Vec::new();
    }
    let scored = withheld.iter().map(|row| (row.run_id, row.entry.row, row.transaction.id));
    let failed = chunks.flat_map(|chunk| {
        chunk.failed.iter().map(|failed| (&chunk.id.run_id, failed.entry.row, failed.transaction_id))
    });
    scored.chain(failed).filter_map(|(run_id, row, id)| erased.tombstone(run_id, row, &id)).collect()
}

/// The record of a row that was not scored, after `before` earlier attempts.
pub(crate) fn failure_row<'a>(
    run_id: &'a RunId,
    failed: &'a FailedRow,
    before: u32,
) -> Result<FailureRow<'a>, StoreError> {
    let (class, reason) = failure_texts(failed);
    Ok(FailureRow {
        run_id,
        row: failed.entry.row,
        transaction_id: failed.transaction_id,
        class,
        reason,
        attempts: failed.attempts.saturating_add(before),
        payload: payload(&failed.entry)?,
        operation: None,
    })
}

/// Run and row of failures whose transaction the same row stored before. The first outcome counts.
async fn stored_failures<'a, T: WriteTransaction>(
    tx: &mut T,
    failed: &[FailureRow<'a>],
) -> Result<HashSet<(&'a RunId, u64)>, StoreError> {
    if failed.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = failed.iter().map(|failure| failure.transaction_id).collect();
    let stored = tx.stored(&ids, false).await?;
    let origins: HashSet<(&str, u64)> = stored.iter().map(StoredTransaction::origin).collect();
    let own = failed.iter().filter(|failure| origins.contains(&(failure.run_id.as_str(), failure.row)));
    Ok(own.map(|failure| (failure.run_id, failure.row)).collect())
}

/// The record of a scored row that could not be stored; none if it could.
pub(crate) fn storage_failure<'a>(
    row: &'a StagedRow<'_>,
    resolution: &'a Resolution,
) -> Result<Option<FailureRow<'a>>, StoreError> {
    let (class, reason) = match resolution {
        Resolution::Pending | Resolution::Stored | Resolution::Kept | Resolution::Duplicate | Resolution::Replaced => {
            return Ok(None);
        }
        Resolution::Conflict(reason) => (FailureClass::IdConflict, reason.as_str()),
        Resolution::Refused(reason) => (FailureClass::Database, reason.as_str()),
        Resolution::Unscored => (FailureClass::Unscored, UNSCORED),
    };
    Ok(Some(FailureRow {
        run_id: row.run_id,
        row: row.entry.row,
        transaction_id: row.transaction.id,
        class: class.code().to_owned().into(),
        reason: storable(reason.into()),
        attempts: u32::from(*resolution != Resolution::Unscored),
        payload: payload(row.entry)?,
        operation: None,
    }))
}

fn payload(entry: &assay_transaction::Entry) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(entry).map_err(|error| StoreError::data(format!("a transaction cannot be encoded ({error})")))
}

/// The counts of claimed chunks whose stored rows are not exactly the scored ones.
fn chunk_amendments<'a>(
    validated: &ValidatedChunks<'a>,
    claimed: &[usize],
    rows: &[&StagedRow<'_>],
    resolutions: &[Resolution],
    kept: &HashSet<(&RunId, u64)>,
) -> Result<Vec<ChunkAmendment<'a>>, StoreError> {
    let mut amendments: Vec<ChunkAmendment<'a>> = Vec::new();
    let mut at = 0;
    for candidate in claimed {
        let chunk = validated.chunks[*candidate];
        let count = rows[at..].iter().take_while(|row| row.candidate == *candidate).count();
        let (rows, resolutions) = (&rows[at..at + count], &resolutions[at..at + count]);
        at += count;
        let is_kept = |failed: &&FailedRow| kept.contains(&(&chunk.id.run_id, failed.entry.row));
        let predicted =
            resolutions.iter().filter(|resolution| matches!(resolution, Resolution::Stored | Resolution::Kept)).count()
                + chunk.failed.iter().filter(is_kept).count();
        let duplicates: Vec<(u64, Uuid)> = rows
            .iter()
            .zip(resolutions)
            .filter(|(_, resolution)| matches!(resolution, Resolution::Duplicate | Resolution::Replaced))
            .map(|(row, _)| (row.entry.row, row.transaction.id))
            .collect();
        if predicted == chunk.predicted.len() && duplicates.is_empty() {
            continue;
        }
        amendments.push(ChunkAmendment {
            run_id: &chunk.id.run_id,
            chunk: chunk.id.chunk,
            predicted: predicted as u64,
            duplicate_rows: write_duplicates(&duplicates)?,
        });
    }
    Ok(amendments)
}

//! How scored chunks become rows: one transaction, the same for every database.
//!
//! The chunks are claimed first. What is not claimed is known, and nothing of it is written again. Then come the rows of the
//! claimed chunks: scored, invalid, failed. So whoever repeats a call, after whatever error, finds either everything done or
//! nothing.
//!
//! Where a chunk was recorded before and a person deleted that record, its rows may be there still. Each counts once
//! afterwards: a transaction that a row has stored stays its own, and what was invalid or failed is booked anew.
//!
//! Where the database refuses data, the transaction is taken back and run again with savepoints around halves, quarters, …
//! of the rows, until the rows at fault stand alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use assay_transaction::{FailedRow, FailureClass, RunId, ScoredChunk, Tally};
use uuid::Uuid;

use crate::ledger::runs::{End, beyond_end};
use crate::write::known_rows::{KnownRows, UNSCORED};
use crate::write::resolve_ids::{Booking, Fate};
use crate::write::transaction::{Amendment, Failure, Session, StagedRow, StoredTransaction, write_duplicates};
use crate::write::validate::{Screened, invalid_rows, other_range, storable, texts};
use crate::{ChunkOutcome, ErrorClass, IdConflict, StoreError};

/// How a transaction goes about rows that may be in the way. One that fails is taken back as a whole, and the next is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The fast way, which nearly always ends well: it may fail over an id that is stored already.
    Quick,
    /// Copes with ids that are stored; fails over data that the database refuses.
    Careful,
    /// Copes with both: finds the rows at fault.
    Bisecting,
}

/// What a call has booked, as far as the database decided it.
#[derive(Debug, Default)]
pub(crate) struct Booked {
    /// Of each candidate.
    pub(crate) outcomes: Vec<ChunkOutcome>,
    /// How many transactions are new.
    pub(crate) transactions: u64,
    /// Scored rows that left no prediction: candidate and row.
    pub(crate) passed_over: Vec<(usize, u64)>,
    /// What became of all rows that were booked.
    pub(crate) tally: Tally,
    /// How many of them failed, by class.
    pub(crate) failed: BTreeMap<String, u64>,
}

/// Writes screened chunks through an open transaction, and commits it. What it gives
/// holds from then on.
pub(crate) async fn write<S: Session>(
    mut session: S,
    screened: &Screened<'_>,
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<Booked, StoreError> {
    let outcomes = claim(&mut session, &screened.chunks).await?;
    let is_claimed = |candidate: usize| outcomes[candidate] == ChunkOutcome::Recorded;
    let claimed: Vec<usize> = (0..outcomes.len()).filter(|candidate| is_claimed(*candidate)).collect();
    if claimed.is_empty() {
        // Taken back, so that a redelivery writes nothing at all.
        return Ok(Booked { outcomes, ..Booked::default() });
    }
    let rows: Vec<&StagedRow<'_>> = screened.rows.iter().filter(|row| is_claimed(row.candidate)).collect();
    let known = KnownRows::of(&screened.chunks);
    let fates = known.store(&mut session, &rows, on_conflict, attempt).await?;

    let chunks = || claimed.iter().map(|candidate| screened.chunks[*candidate]);
    let invalid: Vec<_> = chunks().flat_map(invalid_rows).collect();
    if !invalid.is_empty() {
        session.insert_invalid(&invalid).await?;
    }
    let mut failed = chunks().flat_map(failures).collect::<Result<Vec<_>, _>>()?;
    let kept = kept(&mut session, &failed).await?;
    failed.retain(|failure| !kept.contains(&(failure.run_id, failure.row)));
    for (row, fate) in rows.iter().zip(&fates) {
        failed.extend(failure(row, fate)?);
    }
    if !failed.is_empty() {
        session.insert_failed(&failed).await?;
    }
    let amendments = amendments(screened, &claimed, &rows, &fates, &kept)?;
    if !amendments.is_empty() {
        session.amend(&amendments).await?;
    }
    session.commit().await?;
    let count = |is_one: fn(&Fate) -> bool| fates.iter().filter(|fate| is_one(fate)).count() as u64;
    let transactions = count(|fate| *fate == Fate::Stored);
    let tally = Tally {
        predicted: count(|fate| matches!(fate, Fate::Stored | Fate::Kept)) + kept.len() as u64,
        invalid: invalid.len() as u64,
        failed: failed.len() as u64,
        duplicate: count(|fate| matches!(fate, Fate::Duplicate | Fate::Replacing)),
    };
    let mut classes = BTreeMap::new();
    for failure in &failed {
        *classes.entry(failure.class.to_string()).or_default() += 1;
    }
    let without = rows.iter().zip(&fates).filter(|(_, fate)| !matches!(fate, Fate::Stored | Fate::Replacing));
    let passed_over = without.map(|(row, _)| (row.candidate, row.entry.row)).collect();
    Ok(Booked { outcomes, transactions, passed_over, tally, failed: classes })
}

/// Records the chunks, and tells which of them are this transaction's to write.
async fn claim<S: Session>(session: &mut S, chunks: &[&ScoredChunk]) -> Result<Vec<ChunkOutcome>, StoreError> {
    let ends = session.ends(chunks).await?;
    let ends: HashMap<&str, Option<End>> = ends.iter().map(|(run_id, end)| (run_id.as_str(), *end)).collect();
    let claimed = session.claim(chunks).await?;
    let recorded = session.neighbourhoods(chunks).await?;
    let mut outcomes = Vec::with_capacity(chunks.len());
    for ((chunk, is_new), recorded) in chunks.iter().zip(claimed).zip(recorded) {
        let Some(recorded) = recorded else {
            return Err(StoreError::transient(format!("chunk {} was recorded and is gone", chunk.id)));
        };
        let range = chunk.range;
        let overlaps = recorded.end_below.is_some_and(|end| end > range.first_row)
            || recorded.start_above.is_some_and(|start| start < range.first_row + range.rows);
        let run = ends.get(chunk.id.run_id.as_str());
        let end = run.copied().flatten();
        let beyond = end.and_then(|end| beyond_end(&chunk.id.run_id, chunk.id.chunk, range, end.sealed));
        let is_stopped = end.is_some_and(|end| end.is_stopped);
        let is_removed = end.is_some_and(|end| end.is_removed);
        outcomes.push(if recorded.range != range {
            ChunkOutcome::Refused { reason: other_range(chunk, recorded.range) }
        } else if !is_new {
            ChunkOutcome::Known
        } else if run.is_none() {
            // Runs begin before anything of them is published: nobody vouches for these rows, and no audit would count them.
            session.disclaim(chunk).await?;
            let reason =
                format!("chunk {} belongs to no run: no loader and no producer began {}", chunk.id, chunk.id.run_id);
            ChunkOutcome::Refused { reason }
        } else if is_removed {
            // The record of it is gone, as in a database that was restored. Its rows were taken back with the others.
            session.disclaim(chunk).await?;
            ChunkOutcome::Dropped
        } else if let Some(reason) = beyond {
            session.disclaim(chunk).await?;
            if is_stopped { ChunkOutcome::Dropped } else { ChunkOutcome::Refused { reason } }
        } else if overlaps {
            session.disclaim(chunk).await?;
            ChunkOutcome::Refused { reason: format!("chunk {} has rows of another chunk of its run", chunk.id) }
        } else {
            if recorded.has_leftovers {
                session.clear(chunk).await?;
            }
            ChunkOutcome::Recorded
        });
    }
    Ok(outcomes)
}

/// Stores scored rows, which come in (run, chunk, row) order, and tells what became of each.
pub(crate) async fn store<S: Session>(
    session: &mut S,
    rows: &[&StagedRow<'_>],
    on_conflict: IdConflict,
    attempt: Attempt,
) -> Result<Vec<Fate>, StoreError> {
    let mut booking = Booking::new(rows);
    while !booking.is_done() {
        let inserting = booking.to_insert();
        if !inserting.is_empty() {
            let done = carry_out(session, Statement::Insert, rows, &inserting, attempt).await?;
            let lost = booking.inserted(&done.ids, done.refused);
            if !lost.is_empty() {
                let stored = session.stored(&lost, on_conflict == IdConflict::Update).await?;
                if stored.len() != lost.len() {
                    return Err(StoreError::transient("a transaction was deleted while its id came again"));
                }
                booking.found(stored);
            }
        }
        let replacing = booking.compare(on_conflict);
        if !replacing.is_empty() {
            let done = carry_out(session, Statement::Replace, rows, &replacing, attempt).await?;
            booking.replaced(&replacing, done.refused);
        }
    }
    let kept = booking.kept();
    if !kept.is_empty() {
        // A prediction that the database refuses stays missing: its row is stored, so it cannot fail as well.
        carry_out(session, Statement::Predict, rows, &kept, attempt).await?;
    }
    Ok(booking.into_fates())
}

#[derive(Debug, Clone, Copy)]
enum Statement {
    Insert,
    Replace,
    Predict,
}

/// What a statement did, perhaps in several parts.
#[derive(Default)]
struct Done {
    /// Ids that were new.
    ids: Vec<Uuid>,
    /// Rows that the database refused, and why.
    refused: HashMap<usize, String>,
}

/// Carries out a statement for chosen rows; under [`Attempt::Bisecting`] for ever smaller parts of them.
async fn carry_out<S: Session>(
    session: &mut S,
    statement: Statement,
    rows: &[&StagedRow<'_>],
    chosen: &[usize],
    attempt: Attempt,
) -> Result<Done, StoreError> {
    let mut done = Done::default();
    let mut parts = vec![chosen];
    while let Some(part) = parts.pop() {
        let staged: Vec<&StagedRow<'_>> = part.iter().map(|row| rows[*row]).collect();
        if attempt == Attempt::Bisecting {
            session.savepoint().await?;
        }
        let result = match statement {
            Statement::Insert => session.insert(&staged).await,
            Statement::Replace => session.replace(&staged).await.map(|()| Vec::new()),
            Statement::Predict => session.predict(&staged).await.map(|()| Vec::new()),
        };
        match (result, attempt) {
            (Ok(ids), Attempt::Quick | Attempt::Careful) => done.ids.extend(ids),
            (Ok(ids), Attempt::Bisecting) => {
                session.release().await?;
                done.ids.extend(ids);
            }
            (Err(error), Attempt::Bisecting) if error.class() == ErrorClass::Data => {
                session.rollback_part().await?;
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

/// The rows of a chunk that could not be scored.
fn failures(chunk: &ScoredChunk) -> impl Iterator<Item = Result<Failure<'_>, StoreError>> {
    chunk.failed.iter().map(|failed| failed_again(&chunk.id.run_id, failed, 0))
}

/// The record of a row that could not be scored, after so many attempts before.
pub(crate) fn failed_again<'a>(
    run_id: &'a RunId,
    failed: &'a FailedRow,
    before: u32,
) -> Result<Failure<'a>, StoreError> {
    let (class, reason) = texts(failed);
    Ok(Failure {
        run_id,
        row: failed.entry.row,
        transaction_id: failed.transaction_id,
        class,
        reason,
        attempts: failed.attempts.saturating_add(before),
        payload: payload(&failed.entry)?,
    })
}

/// Runs and rows of failures whose transaction the same row has stored before. The first answer counts.
async fn kept<'a, S: Session>(
    session: &mut S,
    failed: &[Failure<'a>],
) -> Result<HashSet<(&'a RunId, u64)>, StoreError> {
    if failed.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = failed.iter().map(|failure| failure.transaction_id).collect();
    let stored = session.stored(&ids, false).await?;
    let places: HashSet<(&str, u64)> = stored.iter().map(StoredTransaction::place).collect();
    let own = failed.iter().filter(|failure| places.contains(&(failure.run_id.as_str(), failure.row)));
    Ok(own.map(|failure| (failure.run_id, failure.row)).collect())
}

/// The record of a scored row that could not be stored; none where it could.
pub(crate) fn failure<'a>(row: &'a StagedRow<'_>, fate: &'a Fate) -> Result<Option<Failure<'a>>, StoreError> {
    let (class, reason) = match fate {
        Fate::Open | Fate::Stored | Fate::Kept | Fate::Duplicate | Fate::Replacing => return Ok(None),
        Fate::Conflict(reason) => (FailureClass::IdConflict, reason.as_str()),
        Fate::Refused(reason) => (FailureClass::Database, reason.as_str()),
        Fate::Unscored => (FailureClass::Unscored, UNSCORED),
    };
    Ok(Some(Failure {
        run_id: row.run_id,
        row: row.entry.row,
        transaction_id: row.transaction.id,
        class: class.code().to_owned().into(),
        reason: storable(reason.into()),
        attempts: u32::from(*fate != Fate::Unscored),
        payload: payload(row.entry)?,
    }))
}

fn payload(entry: &assay_transaction::Entry) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(entry).map_err(|error| StoreError::data(format!("a transaction cannot be encoded ({error})")))
}

/// What is to be said of the claimed chunks whose scored rows were not all stored, or more than those.
fn amendments<'a>(
    screened: &Screened<'a>,
    claimed: &[usize],
    rows: &[&StagedRow<'_>],
    fates: &[Fate],
    kept: &HashSet<(&RunId, u64)>,
) -> Result<Vec<Amendment<'a>>, StoreError> {
    let mut amendments: Vec<Amendment<'a>> = Vec::new();
    let mut at = 0;
    for candidate in claimed {
        let chunk = screened.chunks[*candidate];
        let count = rows[at..].iter().take_while(|row| row.candidate == *candidate).count();
        let (rows, fates) = (&rows[at..at + count], &fates[at..at + count]);
        at += count;
        let is_kept = |failed: &&FailedRow| kept.contains(&(&chunk.id.run_id, failed.entry.row));
        let predicted = fates.iter().filter(|fate| matches!(fate, Fate::Stored | Fate::Kept)).count()
            + chunk.failed.iter().filter(is_kept).count();
        let duplicates: Vec<(u64, Uuid)> = rows
            .iter()
            .zip(fates)
            .filter(|(_, fate)| matches!(fate, Fate::Duplicate | Fate::Replacing))
            .map(|(row, _)| (row.entry.row, row.transaction.id))
            .collect();
        if predicted == count && duplicates.is_empty() {
            continue;
        }
        amendments.push(Amendment {
            run_id: &chunk.id.run_id,
            chunk: chunk.id.chunk,
            predicted: predicted as u64,
            duplicate_rows: write_duplicates(&duplicates)?,
        });
    }
    Ok(amendments)
}

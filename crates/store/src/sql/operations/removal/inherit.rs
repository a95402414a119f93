//! Who inherits the transactions of a removed run: rows of other runs that count them as duplicates, the earliest
//! first.
//!
//! Runs with duplicates are searched in the order in which they began, their chunks in order, so that the first row
//! found is the earliest. This heir becomes the row that stored the transaction; the transaction's history from
//! before the heir is forgotten. If the removed run only replaced what another run had stored, a later row with the
//! same content becomes the one that replaced it.

use std::collections::HashSet;

use assay_transaction::{RunId, SourceIdentity};
use uuid::Uuid;

use super::dialect::{Connection, as_id, as_json, as_time, for_update, hour_before, json_elements, json_length, key};
use super::fragments::covering_chunk;
use super::runs;
use crate::operations::removal::{CONFLICT_GONE, MAX_CHUNKS, MAX_DUPLICATES, TOMBSTONE};
use crate::values::{NO_BYTES, signed, to_json, unsigned};
use crate::write::transaction::{ChunkCounts, write_duplicates};
use crate::{RemovalCounts, RemovalStep, StoreError};

/// Whether a run, `r`, has duplicates.
macro_rules! has_duplicates {
    () => {
        "EXISTS (SELECT 1 FROM chunks c WHERE c.run_id = r.run_id AND c.duplicate_rows IS NOT NULL)"
    };
}
/// The first run that may inherit from $1, and its source.
const FIRST: &str = concat!(
    "SELECT r.run_id, r.source_location FROM runs r WHERE r.run_id <> $1 AND ",
    has_duplicates!(),
    " ORDER BY r.started_at, r.run_id LIMIT 1"
);
/// The next such run that began after $2.
const AFTER: &str = concat!(
    "SELECT r.run_id, r.source_location FROM runs r WHERE r.run_id <> $1 AND ",
    "(r.started_at, r.run_id) > (SELECT one.started_at, one.run_id FROM runs one WHERE one.run_id = $2) AND ",
    has_duplicates!(),
    " ORDER BY r.started_at, r.run_id LIMIT 1"
);
const SOURCE: &str = "SELECT source_location FROM runs WHERE run_id = $1";
/// Runs whose duplicates may be newer than the removal, with their sources. A transaction that the removal waited for
/// is recorded with the time of its own beginning, at most an hour before.
const LATEST: &str = concat!(
    "SELECT r.run_id, r.source_location FROM runs r JOIN runs removed ON removed.run_id = $1 AND r.run_id <> $1 ",
    "WHERE (r.finished_at IS NULL OR r.finished_at >= ",
    hour_before!("removed.removal_at"),
    " OR EXISTS (SELECT 1 FROM replay_parts p WHERE p.run_id = r.run_id AND p.recorded_at >= ",
    hour_before!("removed.removal_at"),
    ")) AND ",
    has_duplicates!(),
    " ORDER BY r.started_at, r.run_id"
);
/// Chunks of a run from $2 on that have duplicates, with the number of them.
macro_rules! window {
    ($and:expr) => {
        concat!(
            "SELECT c.chunk, CAST(",
            json_length!("c.duplicate_rows"),
            " AS bigint) FROM chunks c WHERE c.run_id = $1 AND c.chunk >= $2 AND c.duplicate_rows IS NOT NULL",
            $and,
            " ORDER BY c.chunk LIMIT $3"
        )
    };
}
const WINDOW: &str = window!("");
/// The same, of what is newer than the removal of $4: new chunks, and older ones with replayed rows.
const LATEST_WINDOW: &str = window!(concat!(
    " AND EXISTS (SELECT 1 FROM runs removed WHERE removed.run_id = $4 AND (c.recorded_at >= ",
    hour_before!("removed.removal_at"),
    " OR EXISTS (SELECT 1 FROM row_history h WHERE h.run_id = c.run_id AND h.row_number >= c.first_row ",
    "AND h.row_number < c.first_row + c.rows AND h.replayed_at >= ",
    hour_before!("removed.removal_at"),
    ")))"
));
/// The chunks of a run that a JSON list names, $2.
macro_rules! of_chunks {
    () => {
        concat!(
            " c.run_id = $1 AND c.chunk IN (SELECT CAST(named.value->>0 AS bigint) FROM ",
            json_elements!(as_json!("$2"), "named"),
            ")"
        )
    };
}
/// Duplicates of what the run $3 stored or replaced: chunk, row, transaction, when the row was recorded, and the row
/// of the run $3 that stored the transaction, if one did.
const DUPLICATES: &str = concat!(
    "SELECT c.chunk, CAST(element.value->>0 AS bigint), CAST(t.id AS text), CAST(coalesce((SELECT max(h.replayed_at) ",
    "FROM row_history h WHERE h.run_id = c.run_id AND h.row_number = CAST(element.value->>0 AS bigint)), c.recorded_at) AS text), ",
    "CASE WHEN t.run_id = $3 THEN t.row_number END FROM chunks c CROSS JOIN ",
    json_elements!("c.duplicate_rows"),
    " JOIN transactions t ON t.id = ",
    as_id!("element.value->>1"),
    " WHERE",
    of_chunks!(),
    " AND c.duplicate_rows IS NOT NULL AND (t.run_id = $3 OR EXISTS (SELECT 1 FROM transaction_history h ",
    "WHERE h.transaction_id = t.id AND h.replaced_by_run = $3)) ORDER BY 1, 2"
);
const CHUNKS: &str = concat!(
    "SELECT c.chunk, c.first_row, c.rows, c.predicted, CAST(c.duplicate_rows AS text) FROM chunks c WHERE",
    of_chunks!(),
    " ORDER BY c.chunk",
    for_update!()
);
const AMEND: &str =
    concat!("UPDATE chunks SET predicted = $3, duplicate_rows = ", as_json!("$4"), " WHERE run_id = $1 AND chunk = $2");
/// The heirs, $2: transaction, row, when that row was recorded, and the row that stored the transaction. They are
/// rows of the run $1.
macro_rules! heirs {
    () => {
        json_elements!(as_json!("$2"))
    };
}
/// Whether a history entry, `h`, is from before the heir was recorded.
macro_rules! is_before_heir {
    () => {
        concat!(
            "(h.replaced_at < ",
            as_time!("element.value->>2"),
            " OR h.replaced_at = ",
            as_time!("element.value->>2"),
            " AND (h.replaced_by_run, h.replaced_by_row) <= ($1, CAST(element.value->>1 AS bigint))",
            " OR h.replaced_by_run = $1 AND h.replaced_by_row = CAST(element.value->>1 AS bigint))"
        )
    };
}
/// The history entries from before the heirs.
macro_rules! before_heirs {
    () => {
        concat!(
            heirs!(),
            " JOIN transaction_history h ON h.transaction_id = ",
            as_id!("element.value->>0"),
            " WHERE ",
            is_before_heir!()
        )
    };
}
/// Conflicts with forgotten content, whose reasons may quote it.
const FORGET_CONFLICTS: &str = concat!(
    "UPDATE failed_transactions SET reason = $3 WHERE class = 'id_conflict' AND transaction_id IN (SELECT h.transaction_id FROM ",
    before_heirs!(),
    ")"
);
const FORGET: &str = concat!("DELETE FROM transaction_history WHERE id IN (SELECT h.id FROM ", before_heirs!(), ")");
const HEIR_TOMBSTONES: &str = concat!(
    "INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload) ",
    "SELECT $1, CAST(element.value->>3 AS bigint), $3, 'removed', $4, 0, $5 FROM ",
    heirs!(),
    " WHERE true ON CONFLICT (run_id, row_number) DO NOTHING"
);
/// The chunks of the removed run, $1, no longer count these rows as predicted.
const DEBIT: &str = concat!(
    "UPDATE chunks SET predicted = predicted - debits.rows FROM (SELECT ",
    covering_chunk!("$1", "CAST(element.value->>3 AS bigint)"),
    " AS chunk, count(*) AS rows FROM ",
    heirs!(),
    " GROUP BY 1) AS debits WHERE chunks.run_id = $1 AND chunks.chunk = debits.chunk"
);
const PASS_ON: &str = concat!(
    "UPDATE transactions SET run_id = $1, row_number = CAST(element.value->>1 AS bigint), processing_type = $3 FROM ",
    heirs!(),
    " WHERE transactions.id = ",
    as_id!("element.value->>0")
);
const PASS_ON_PREDICTIONS: &str = concat!(
    "UPDATE predictions SET run_id = $1 WHERE run_id = $3 AND transaction_id IN (SELECT ",
    as_id!("element.value->>0"),
    " FROM ",
    heirs!(),
    ")"
);
/// The last history entry before a row, $2, becomes that row's, if the run $3 brought that content.
const TAKE_OVER: &str = concat!(
    "UPDATE transaction_history SET replaced_by_run = $1, replaced_by_row = (SELECT CAST(element.value->>1 AS bigint) FROM ",
    heirs!(),
    ") WHERE replaced_by_run = $3 AND id = (SELECT max(h.id) FROM ",
    before_heirs!(),
    ")"
);
/// How many transactions each run would inherit.
const COUNT: &str = concat!(
    "SELECT run_id, count(*) FROM (SELECT c.run_id AS run_id, row_number() OVER (PARTITION BY t.id ORDER BY r.started_at, r.run_id, ",
    "c.chunk, CAST(element.value->>0 AS bigint)) AS place FROM runs r JOIN chunks c ON c.run_id = r.run_id CROSS JOIN ",
    json_elements!("c.duplicate_rows"),
    " JOIN transactions t ON t.id = ",
    as_id!("element.value->>1"),
    " WHERE r.run_id <> $1 AND c.duplicate_rows IS NOT NULL AND t.run_id = $1) AS ranked WHERE place = 1 ",
    "GROUP BY run_id ORDER BY count(*) DESC, run_id"
);

/// A duplicate of what the removed run stored or replaced.
#[derive(Debug, Clone)]
struct Duplicate {
    chunk: i64,
    row: i64,
    transaction: String,
    /// When the row was recorded, as the database writes it.
    at: String,
    /// The row of the removed run that stored the transaction; none if another run stored it.
    stored_by: Option<i64>,
}

/// A run that may inherit, and the processing type of its transactions.
struct Heir {
    run_id: RunId,
    processing_type: &'static str,
}

impl Heir {
    fn new((run_id, location): (String, String)) -> Result<Self, StoreError> {
        let source = SourceIdentity { location, version: String::new() };
        let processing_type = if source.is_live() { "streaming" } else { "batch" };
        Ok(Self { run_id: runs::read_name(&run_id)?, processing_type })
    }
}

/// Passes on what the next chunks with duplicates inherit, from a run and chunk on. Returns the next step.
pub(crate) async fn pass_on(
    connection: &mut Connection,
    removed: &RunId,
    at: Option<(&RunId, u64)>,
) -> Result<(RemovalCounts, Option<RemovalStep>), StoreError> {
    let (heir, chunk) = match at {
        None => (sqlx::query_as(FIRST).bind(removed.as_str()).fetch_optional(&mut *connection).await?, 0),
        Some((heir, chunk)) => {
            let location: Option<String> =
                sqlx::query_scalar(SOURCE).bind(heir.as_str()).fetch_optional(&mut *connection).await?;
            (location.map(|location| (heir.to_string(), location)), chunk)
        }
    };
    let Some(heir) = heir.map(Heir::new).transpose()? else {
        return Ok((RemovalCounts::default(), Some(RemovalStep::Duplicates { chunk: 0 })));
    };
    let (window, next) = with_duplicates(connection, &heir.run_id, chunk).await?;
    let passed_on = inherit(connection, removed, &heir, &window).await?;
    let next = if let Some(chunk) = next {
        RemovalStep::PassOn { heir: heir.run_id, chunk }
    } else {
        let after: Option<(String, String)> =
            sqlx::query_as(AFTER).bind(removed.as_str()).bind(heir.run_id.as_str()).fetch_optional(connection).await?;
        match after.map(Heir::new).transpose()? {
            Some(heir) => RemovalStep::PassOn { heir: heir.run_id, chunk: 0 },
            None => RemovalStep::Duplicates { chunk: 0 },
        }
    };
    Ok((RemovalCounts { rows: passed_on, passed_on, restored: 0 }, Some(next)))
}

/// The same for everything recorded since the removal began.
pub(crate) async fn pass_on_to_latest(connection: &mut Connection, removed: &RunId) -> Result<u64, StoreError> {
    let latest: Vec<(String, String)> =
        sqlx::query_as(LATEST).bind(removed.as_str()).fetch_all(&mut *connection).await?;
    let mut passed_on = 0;
    for heir in latest {
        let heir = Heir::new(heir)?;
        let mut chunk = Some(0);
        while let Some(from) = chunk {
            let chunks = sqlx::query_as(LATEST_WINDOW)
                .bind(heir.run_id.as_str())
                .bind(signed(from))
                .bind(i64::from(MAX_CHUNKS))
                .bind(removed.as_str())
                .fetch_all(&mut *connection)
                .await?;
            let (window, next) = window(&chunks);
            passed_on += inherit(connection, removed, &heir, &window).await?;
            chunk = next;
        }
    }
    Ok(passed_on)
}

/// The chunks with duplicates of one step, and the chunk to continue with.
pub(crate) async fn with_duplicates(
    connection: &mut Connection,
    run_id: &RunId,
    chunk: u64,
) -> Result<(Vec<[i64; 1]>, Option<u64>), StoreError> {
    let chunks = sqlx::query_as(WINDOW)
        .bind(run_id.as_str())
        .bind(signed(chunk))
        .bind(i64::from(MAX_CHUNKS))
        .fetch_all(connection)
        .await?;
    Ok(window(&chunks))
}

/// The chunks of one step, out of the next ones with their numbers of duplicates, and the chunk to continue with.
fn window(chunks: &[(i64, i64)]) -> (Vec<[i64; 1]>, Option<u64>) {
    let (mut window, mut duplicates) = (Vec::new(), 0);
    for (chunk, count) in chunks {
        duplicates += unsigned(*count);
        if !window.is_empty() && duplicates > MAX_DUPLICATES {
            break;
        }
        window.push([*chunk]);
    }
    let is_all = window.len() == chunks.len() && chunks.len() < usize::try_from(MAX_CHUNKS).unwrap_or(usize::MAX);
    let next = window.last().filter(|_| !is_all).map(|[last]| unsigned(*last) + 1);
    (window, next)
}

/// Lets the rows of some chunks inherit. Returns how many transactions they got.
async fn inherit(
    connection: &mut Connection,
    removed: &RunId,
    heir: &Heir,
    window: &[[i64; 1]],
) -> Result<u64, StoreError> {
    if window.is_empty() {
        return Ok(0);
    }
    let run_id = heir.run_id.as_str();
    let found: Vec<(i64, i64, String, String, Option<i64>)> = sqlx::query_as(DUPLICATES)
        .bind(run_id)
        .bind(to_json(&window)?)
        .bind(removed.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let duplicate = |(chunk, row, transaction, at, stored_by)| Duplicate { chunk, row, transaction, at, stored_by };
    let found: Vec<Duplicate> = found.into_iter().map(duplicate).collect();
    let mut met = HashSet::new();
    let is_heir = |found: &&Duplicate| found.stored_by.is_some() && met.insert(found.transaction.clone());
    let (heirs, others): (Vec<&Duplicate>, Vec<&Duplicate>) = found.iter().partition(is_heir);
    if !heirs.is_empty() {
        hand_over(connection, removed, heir, &heirs).await?;
        credit(connection, heir, &heirs).await?;
    }
    for Duplicate { row, transaction, at, .. } in others {
        let one = to_json(&[(transaction, row, at)])?;
        for statement in [TAKE_OVER, PASS_ON_PREDICTIONS] {
            sqlx::query(statement).bind(run_id).bind(&one).bind(removed.as_str()).execute(&mut *connection).await?;
        }
    }
    Ok(heirs.len() as u64)
}

/// Makes the heirs the rows that stored their transactions, and turns the former ones into tombstones.
async fn hand_over(
    connection: &mut Connection,
    removed: &RunId,
    heir: &Heir,
    heirs: &[&Duplicate],
) -> Result<(), StoreError> {
    let list: Vec<_> = heirs.iter().map(|one| (&one.transaction, one.row, &one.at, one.stored_by)).collect();
    let list = to_json(&list)?;
    let run_id = heir.run_id.as_str();
    sqlx::query(HEIR_TOMBSTONES)
        .bind(removed.as_str())
        .bind(&list)
        .bind(key(Uuid::nil()))
        .bind(TOMBSTONE)
        .bind(NO_BYTES)
        .execute(&mut *connection)
        .await?;
    sqlx::query(DEBIT).bind(removed.as_str()).bind(&list).execute(&mut *connection).await?;
    sqlx::query(FORGET_CONFLICTS).bind(run_id).bind(&list).bind(CONFLICT_GONE).execute(&mut *connection).await?;
    sqlx::query(FORGET).bind(run_id).bind(&list).execute(&mut *connection).await?;
    sqlx::query(PASS_ON).bind(run_id).bind(&list).bind(heir.processing_type).execute(&mut *connection).await?;
    sqlx::query(PASS_ON_PREDICTIONS).bind(run_id).bind(&list).bind(removed.as_str()).execute(connection).await?;
    Ok(())
}

/// Counts the heirs as predicted instead of as duplicates.
async fn credit(connection: &mut Connection, heir: &Heir, heirs: &[&Duplicate]) -> Result<(), StoreError> {
    let mut chunks: Vec<[i64; 1]> = heirs.iter().map(|one| [one.chunk]).collect();
    chunks.dedup();
    let rows: HashSet<i64> = heirs.iter().map(|one| one.row).collect();
    let booked: Vec<(i64, i64, i64, i64, Option<String>)> =
        sqlx::query_as(CHUNKS).bind(heir.run_id.as_str()).bind(to_json(&chunks)?).fetch_all(&mut *connection).await?;
    for booked in booked {
        let mut chunk = ChunkCounts::read(booked)?;
        let before = chunk.duplicates.len();
        chunk.duplicates.retain(|(row, _)| !rows.contains(&signed(*row)));
        let inherited = before - chunk.duplicates.len();
        sqlx::query(AMEND)
            .bind(heir.run_id.as_str())
            .bind(signed(chunk.chunk))
            .bind(signed(chunk.predicted + inherited as u64))
            .bind(write_duplicates(&chunk.duplicates)?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// How many transactions of a run each other run would inherit.
pub(crate) async fn count(connection: &mut Connection, run_id: &RunId) -> Result<Vec<(RunId, u64)>, StoreError> {
    let counts: Vec<(String, i64)> = sqlx::query_as(COUNT).bind(run_id.as_str()).fetch_all(connection).await?;
    counts.into_iter().map(|(run_id, count)| Ok((runs::read_name(&run_id)?, unsigned(count)))).collect()
}

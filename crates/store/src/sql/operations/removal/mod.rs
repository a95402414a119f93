//! Removing a finished run, step by step; `crate::operations::removal` says why so. `inherit` passes its transactions
//! on.

mod inherit;

use assay_transaction::RunId;
use uuid::Uuid;

use super::dialect::{
    self, COUNTING, Connection, Pool, REMOVING, WRITING, as_amount, as_id, as_json, as_time, forget_ids, json_elements,
    key, now, of_either_type, queue_up,
};
use super::fragments::{self, failed_columns, has_content, or_replace_prediction, prediction_columns};
use super::run_row::{self, run_columns};
use super::runs;
use super::{journal, live, statistics, stop_orders};
use crate::operations::removal::{CONFLICT_GONE, MAX_REPLACED, MAX_ROWS, REMOVALS, TOMBSTONE};
use crate::values::{NO_BYTES, signed, storable, to_json, unsigned};
use crate::{AuditContext, RemovalCounts, RemovalPlan, RemovalStart, RemovalStep, StoreError};

const OTHER: &str = "SELECT run_id FROM runs WHERE removal_at IS NOT NULL AND removed_at IS NULL AND run_id <> $1 ORDER BY run_id LIMIT 1";
/// Frees the source and its content for another run.
const BEGIN: &str = concat!(
    "UPDATE runs SET removal_at = ",
    now!(),
    ", removal_by = $2, removal_reason = $3, source_key = NULL, fingerprint = NULL WHERE run_id = $1 RETURNING ",
    run_columns!()
);
const STATE: &str = "SELECT removal_at IS NOT NULL AND removed_at IS NULL FROM runs WHERE run_id = $1";
/// The transactions of the rows from $2 up to $3, exclusive.
macro_rules! stored_rows {
    () => {
        concat!(
            "(SELECT id FROM transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
            of_either_type!(),
            ")"
        )
    };
}
/// Inserts tombstones; $4 to $6 are their values behind the row number. Rows that failed stay.
macro_rules! insert_tombstones {
    ($($rows:tt)+) => {
        concat!(
            "INSERT INTO failed_transactions (",
            failed_columns!(),
            ") SELECT ",
            $($rows)+,
            " ON CONFLICT (run_id, row_number) DO NOTHING"
        )
    };
}
/// Rows from $2 up to $3, exclusive.
const ROW_TOMBSTONES: [&str; 2] = [
    insert_tombstones!(
        "run_id, row_number, $4, 'removed', $5, 0, $6, NULL FROM transactions \
         WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
        of_either_type!()
    ),
    insert_tombstones!(
        "run_id, row_number, $4, 'removed', $5, 0, $6, NULL FROM invalid_transactions \
         WHERE run_id = $1 AND row_number >= $2 AND row_number < $3"
    ),
];
/// Duplicates in the chunks from $2 to $3.
const DUPLICATE_TOMBSTONES: &str = insert_tombstones!(
    "c.run_id, CAST(element.value->>0 AS bigint), $4, 'removed', $5, 0, $6, NULL FROM chunks c CROSS JOIN ",
    json_elements!("c.duplicate_rows"),
    " WHERE c.run_id = $1 AND c.chunk >= $2 AND c.chunk <= $3 AND c.duplicate_rows IS NOT NULL"
);
const ERASE_DUPLICATES: &str = "UPDATE chunks SET duplicate_rows = NULL
    WHERE run_id = $1 AND chunk >= $2 AND chunk <= $3 AND duplicate_rows IS NOT NULL";
const FAILED_TO_TOMBSTONES: &str = concat!(
    "UPDATE failed_transactions SET transaction_id = $4, class = 'removed', reason = $5, attempts = 0, payload = $6
    WHERE run_id = $1 AND row_number >= $2 AND row_number < $3 AND ",
    has_content!()
);
/// Conflicts with deleted transactions, whose reasons quote them.
const FORGET_CONFLICTS: &str = concat!(
    "UPDATE failed_transactions SET reason = $4 WHERE class = 'id_conflict' AND run_id <> $1 AND transaction_id IN ",
    stored_rows!()
);
/// The rest of the rows; transactions last, as the other statements select by them.
const ERASE: [&str; 6] = [
    concat!("DELETE FROM predictions WHERE transaction_id IN ", stored_rows!()),
    concat!("DELETE FROM transaction_history WHERE transaction_id IN ", stored_rows!()),
    concat!("DELETE FROM transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3", of_either_type!()),
    "DELETE FROM invalid_transactions WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
    "DELETE FROM row_history WHERE run_id = $1 AND row_number >= $2 AND row_number < $3",
    concat!(
        "UPDATE chunks SET predicted = 0",
        forget_ids!(),
        " WHERE run_id = $1 AND first_row >= $2 AND first_row < $3"
    ),
];
const REPLACED: &str = "
    SELECT DISTINCT CAST(transaction_id AS text) FROM transaction_history WHERE replaced_by_run = $1 ORDER BY 1 LIMIT $2";
/// For transactions, $2: the history entry from before the run replaced it (the first of several replacements in a
/// row), and the entry of the next replacement by another run, if there is one.
const REPLACEMENTS: &str = concat!(
    "SELECT first.id, (SELECT min(after.id) FROM transaction_history after
        WHERE after.transaction_id = first.transaction_id AND after.id > first.id AND after.replaced_by_run <> $1)
     FROM transaction_history first WHERE first.replaced_by_run = $1 AND first.transaction_id IN (SELECT ",
    as_id!("element.value->>0"),
    " FROM ",
    json_elements!(as_json!("$2")),
    ") AND NOT EXISTS (SELECT 1 FROM transaction_history before WHERE before.transaction_id = first.transaction_id
        AND before.replaced_by_run = $1 AND before.id = (SELECT max(any_before.id) FROM transaction_history any_before
            WHERE any_before.transaction_id = first.transaction_id AND any_before.id < first.id))"
);
/// Pairs of history entries, $1: the second takes over the content of the first.
const HAND_OVER: &str = concat!(
    "UPDATE transaction_history SET \"transaction\" = h.\"transaction\", prediction = h.prediction FROM ",
    json_elements!(as_json!("$1")),
    ", transaction_history h WHERE h.id = CAST(element.value->>0 AS bigint) ",
    "AND transaction_history.id = CAST(element.value->>1 AS bigint)"
);
/// The history entries that a JSON list names, $1.
macro_rules! listed_entries {
    () => {
        concat!("(SELECT CAST(element.value->>0 AS bigint) FROM ", json_elements!(as_json!("$1")), ")")
    };
}
/// Gives stored transactions the content that entries of their history hold.
const RESTORE: &str = concat!(
    "UPDATE transactions SET external_id = h.\"transaction\"->>'external_id',
        description = h.\"transaction\"->>'description', amount = ",
    as_amount!("h.\"transaction\"->>'amount'"),
    ", \"timestamp\" = ",
    as_time!("h.\"transaction\"->>'timestamp'"),
    ", merchant = h.\"transaction\"->>'merchant', operation_type = h.\"transaction\"->>'operation_type',
        side = h.\"transaction\"->>'side', attributes = nullif(h.\"transaction\"->'attributes', ",
    as_json!("'null'"),
    ") FROM transaction_history h WHERE h.transaction_id = transactions.id AND h.id IN ",
    listed_entries!()
);
/// The same for their predictions. One that a removed run asked for becomes one of the run that owns the transaction now.
const RESTORE_PREDICTIONS: &str = concat!(
    "INSERT INTO predictions (",
    prediction_columns!(),
    ") SELECT h.transaction_id, h.prediction->>'prediction', CAST(h.prediction->>'fraud_score' AS double precision),
        h.prediction->>'model_version',
        CASE WHEN EXISTS (SELECT 1 FROM runs r WHERE r.run_id = h.prediction->>'run_id' AND r.removal_at IS NOT NULL)
            THEN t.run_id ELSE h.prediction->>'run_id' END, ",
    as_time!("h.prediction->>'predicted_at'"),
    ", nullif(h.prediction->'reasons', ",
    as_json!("'null'"),
    "), CAST(h.prediction->>'endpoint' AS bigint) FROM transaction_history h JOIN transactions t ON t.id = h.transaction_id
    WHERE h.prediction IS NOT NULL AND h.id IN ",
    listed_entries!(),
    or_replace_prediction!()
);
const FORGET_PREDICTIONS: &str = concat!(
    "DELETE FROM predictions WHERE transaction_id IN (SELECT transaction_id FROM transaction_history WHERE prediction IS NULL ",
    "AND id IN ",
    listed_entries!(),
    ")"
);
const FORGET_CONFLICTS_WITH: &str = concat!(
    "UPDATE failed_transactions SET reason = $3 WHERE class = 'id_conflict' AND run_id <> $1 AND transaction_id IN (SELECT ",
    as_id!("element.value->>0"),
    " FROM ",
    json_elements!(as_json!("$2")),
    ")"
);
const FORGET_REPLACEMENTS: &str = concat!(
    "DELETE FROM transaction_history WHERE replaced_by_run = $1 AND transaction_id IN (SELECT ",
    as_id!("element.value->>0"),
    " FROM ",
    json_elements!(as_json!("$2")),
    ")"
);
/// Contents that the run replaced and that were purged since.
const PURGED: &str = "
    SELECT count(*) FROM transaction_history WHERE replaced_by_run = $1 AND CAST(\"transaction\" AS text) = '{}'";
const RECORDED: &str = "SELECT count(*) FROM chunks WHERE run_id = $1";
const FORGET_DEAD_LETTERS: &str = "UPDATE dead_letters SET body = $2 WHERE run_id = $1";
const END: &str = concat!("UPDATE runs SET removed_at = ", now!(), " WHERE run_id = $1 AND removed_at IS NULL");
const COUNT_RESTORED: &str = "
    SELECT count(DISTINCT h.transaction_id) FROM transaction_history h JOIN transactions t ON t.id = h.transaction_id
    WHERE h.replaced_by_run = $1 AND t.run_id <> $1";

pub(crate) async fn begin(pool: &Pool, run_id: &RunId, audit: &AuditContext) -> Result<RemovalStart, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    // The order in which writers lock: numbering, the run, then removals.
    live::lock_places(&mut transaction, run_id).await?;
    let run = runs::locked_run(&mut transaction, run_id).await?.ok_or_else(|| stop_orders::unknown(run_id))?;
    queue_up(&mut transaction, REMOVALS).await?;
    match &run.removal {
        Some(removal) if removal.ended_at.is_some() => return Ok(RemovalStart::Done(run)),
        Some(_) => return Ok(RemovalStart::Resumed(run)),
        None if !run.state.is_finished() => return Ok(RemovalStart::Unfinished(run)),
        None => {}
    }
    let recorded: i64 = sqlx::query_scalar(RECORDED).bind(run_id.as_str()).fetch_one(&mut *transaction).await?;
    if run.sealed.is_some_and(|sealed| sealed.chunks_total != unsigned(recorded)) {
        return Ok(RemovalStart::Incomplete(run));
    }
    let purged: i64 = sqlx::query_scalar(PURGED).bind(run_id.as_str()).fetch_one(&mut *transaction).await?;
    if purged > 0 {
        return Ok(RemovalStart::Purged(run));
    }
    let other: Option<String> =
        sqlx::query_scalar(OTHER).bind(run_id.as_str()).fetch_optional(&mut *transaction).await?;
    if let Some(other) = other {
        return Ok(RemovalStart::Other(runs::read_name(&other)?));
    }
    let begun = sqlx::query(BEGIN)
        .bind(run_id.as_str())
        .bind(storable(audit.operator.as_str().into()))
        .bind(storable(audit.reason.as_deref().unwrap_or_default().into()))
        .fetch_one(&mut *transaction)
        .await?;
    let begun = run_row::read(&begun)?;
    let details = serde_json::json!({
        "state": begun.state.as_str(),
        "rows_read": begun.sealed.map(|sealed| sealed.rows_read),
    });
    journal::record(&mut transaction, "remove", Some(run_id), Some(&details), audit).await?;
    transaction.commit().await?;
    Ok(RemovalStart::Started(begun))
}

pub(crate) async fn step(
    pool: &Pool,
    run_id: &RunId,
    at: &RemovalStep,
) -> Result<(RemovalCounts, Option<RemovalStep>), StoreError> {
    let mut transaction = pool.begin_with(REMOVING).await?;
    queue_up(&mut transaction, REMOVALS).await?;
    let is_begun: Option<bool> =
        sqlx::query_scalar(STATE).bind(run_id.as_str()).fetch_optional(&mut *transaction).await?;
    if is_begun != Some(true) {
        // Another operator has done it meanwhile.
        return Ok((RemovalCounts::default(), None));
    }
    let done = match at {
        RemovalStep::Start => inherit::pass_on(&mut transaction, run_id, None).await?,
        RemovalStep::PassOn { heir, chunk } => inherit::pass_on(&mut transaction, run_id, Some((heir, *chunk))).await?,
        RemovalStep::Duplicates { chunk } => duplicates_to_tombstones(&mut transaction, run_id, *chunk).await?,
        RemovalStep::Tombstones { chunk } => {
            let passed_on = inherit::pass_on_to_latest(&mut transaction, run_id).await?;
            let (rows, next) = chunks_to_tombstones(&mut transaction, run_id, *chunk).await?;
            (RemovalCounts { rows: rows + passed_on, passed_on, restored: 0 }, Some(next))
        }
        RemovalStep::Restore => {
            let restored = restore(&mut transaction, run_id).await?;
            let next = if restored == 0 { end(&mut transaction, run_id).await? } else { Some(RemovalStep::Restore) };
            (RemovalCounts { restored, ..RemovalCounts::default() }, next)
        }
    };
    transaction.commit().await?;
    Ok(done)
}

/// Turns the duplicates of some chunks into tombstones.
async fn duplicates_to_tombstones(
    connection: &mut Connection,
    run_id: &RunId,
    chunk: u64,
) -> Result<(RemovalCounts, Option<RemovalStep>), StoreError> {
    let (window, next) = inherit::with_duplicates(connection, run_id, chunk).await?;
    let mut tombstones = 0;
    if let (Some([first]), Some([last])) = (window.first(), window.last()) {
        let done = sqlx::query(DUPLICATE_TOMBSTONES)
            .bind(run_id.as_str())
            .bind(first)
            .bind(last)
            .bind(key(Uuid::nil()))
            .bind(TOMBSTONE)
            .bind(NO_BYTES)
            .execute(&mut *connection)
            .await?;
        tombstones = done.rows_affected();
        sqlx::query(ERASE_DUPLICATES).bind(run_id.as_str()).bind(first).bind(last).execute(connection).await?;
    }
    let step = next.map_or(RemovalStep::Tombstones { chunk: 0 }, |chunk| RemovalStep::Duplicates { chunk });
    Ok((RemovalCounts { rows: tombstones, ..RemovalCounts::default() }, Some(step)))
}

/// Turns the rows of some chunks into tombstones, and rows between them that no chunk covers.
async fn chunks_to_tombstones(
    connection: &mut Connection,
    run_id: &RunId,
    chunk: u64,
) -> Result<(u64, RemovalStep), StoreError> {
    let limit = u32::try_from(MAX_ROWS).unwrap_or(u32::MAX);
    let chunks = runs::recorded_from(&mut *connection, run_id, chunk, limit).await?;
    let (mut taken, mut rows) = (0, 0);
    for chunk in &chunks {
        if taken > 0 && rows + chunk.range.rows > MAX_ROWS {
            break;
        }
        rows += chunk.range.rows;
        taken += 1;
    }
    let from = if chunk == 0 { 0 } else { chunks.first().map_or(0, |first| signed(first.range.first_row)) };
    let next = chunks.get(taken);
    let until = next.map_or(i64::MAX, |next| signed(next.range.first_row));
    let tombstones = rows_to_tombstones(connection, run_id, (from, until)).await?;
    let step = next.map_or(RemovalStep::Restore, |next| RemovalStep::Tombstones { chunk: next.chunk });
    Ok((tombstones, step))
}

/// The same for a range of rows, exclusive of its end. Returns how many became tombstones.
async fn rows_to_tombstones(
    connection: &mut Connection,
    run_id: &RunId,
    (from, until): (i64, i64),
) -> Result<u64, StoreError> {
    let mut tombstones = 0;
    for statement in [FAILED_TO_TOMBSTONES, ROW_TOMBSTONES[0], ROW_TOMBSTONES[1]] {
        let done = sqlx::query(statement)
            .bind(run_id.as_str())
            .bind(from)
            .bind(until)
            .bind(key(Uuid::nil()))
            .bind(TOMBSTONE)
            .bind(NO_BYTES)
            .execute(&mut *connection)
            .await?;
        tombstones += done.rows_affected();
    }
    sqlx::query(FORGET_CONFLICTS)
        .bind(run_id.as_str())
        .bind(from)
        .bind(until)
        .bind(CONFLICT_GONE)
        .execute(&mut *connection)
        .await?;
    for statement in ERASE {
        sqlx::query(statement).bind(run_id.as_str()).bind(from).bind(until).execute(&mut *connection).await?;
    }
    Ok(tombstones)
}

/// Restores transactions that the run replaced. Returns how many; 0 if none is left.
async fn restore(connection: &mut Connection, run_id: &RunId) -> Result<u64, StoreError> {
    let replaced: Vec<String> = sqlx::query_scalar(REPLACED)
        .bind(run_id.as_str())
        .bind(i64::from(MAX_REPLACED))
        .fetch_all(&mut *connection)
        .await?;
    let ids: Vec<[&str; 1]> = replaced.iter().map(|id| [id.as_str()]).collect();
    let ids = to_json(&ids)?;
    let found: Vec<(i64, Option<i64>)> =
        sqlx::query_as(REPLACEMENTS).bind(run_id.as_str()).bind(&ids).fetch_all(&mut *connection).await?;
    let between: Vec<(i64, i64)> = found.iter().filter_map(|(first, next)| Some((*first, (*next)?))).collect();
    let last: Vec<[i64; 1]> = found.iter().filter(|(_, next)| next.is_none()).map(|(first, _)| [*first]).collect();
    let (between, last) = (to_json(&between)?, to_json(&last)?);
    sqlx::query(HAND_OVER).bind(&between).execute(&mut *connection).await?;
    sqlx::query(RESTORE).bind(&last).execute(&mut *connection).await?;
    sqlx::query(FORGET_PREDICTIONS).bind(&last).execute(&mut *connection).await?;
    sqlx::query(RESTORE_PREDICTIONS).bind(&last).execute(&mut *connection).await?;
    sqlx::query(FORGET_CONFLICTS_WITH)
        .bind(run_id.as_str())
        .bind(&ids)
        .bind(CONFLICT_GONE)
        .execute(&mut *connection)
        .await?;
    sqlx::query(FORGET_REPLACEMENTS).bind(run_id.as_str()).bind(&ids).execute(&mut *connection).await?;
    Ok(replaced.len() as u64)
}

/// The last step.
async fn end(connection: &mut Connection, run_id: &RunId) -> Result<Option<RemovalStep>, StoreError> {
    sqlx::query(FORGET_DEAD_LETTERS).bind(run_id.as_str()).bind(NO_BYTES).execute(&mut *connection).await?;
    sqlx::query(statistics::FORGET).bind(run_id.as_str()).execute(&mut *connection).await?;
    sqlx::query(END).bind(run_id.as_str()).execute(connection).await?;
    Ok(None)
}

pub(crate) async fn plan(pool: &Pool, run_id: &RunId) -> Result<RemovalPlan, StoreError> {
    let mut counting = pool.begin_with(COUNTING).await?;
    let passed_on = inherit::count(&mut counting, run_id).await?;
    let restored: i64 = sqlx::query_scalar(COUNT_RESTORED).bind(run_id.as_str()).fetch_one(&mut *counting).await?;
    let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE run_id = $1")
        .bind(run_id.as_str())
        .fetch_one(&mut *counting)
        .await?;
    counting.commit().await?;
    Ok(RemovalPlan { passed_on, restored: unsigned(restored), dead_letters: unsigned(dead_letters) })
}

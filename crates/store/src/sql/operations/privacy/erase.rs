//! What is known of ids goes, a few ids at a time: their transactions, predictions and history, the rows that failed with them or
//! count as duplicates of them, and what keeps the content of those rows elsewhere.
//!
//! The ids are refused by then, so no writer brings one of them meanwhile; the lock of removals keeps replays and removals away.

use assay_transaction::RunId;
use uuid::Uuid;

use super::super::runs;
use super::dialect::{
    Connection, Pool, REMOVING, as_id, as_json, for_update, json_collect, json_elements, key, queue_up,
};
use super::fragments::{covering_chunk, failed_columns, has_content};
use super::{DELETE_INVALID, by_run, forget_rows, is_listed, journal, listed, pairs};
use crate::operations::privacy::{ERASED, MAX_SEARCHED};
use crate::operations::removal::REMOVALS;
use crate::values::{NO_BYTES, signed, to_json, unsigned};
use crate::{ChunkPlace, ErasureCounts, StoreError};

/// The ids of a JSON list.
macro_rules! ids {
    ($list:literal) => {
        listed!($list, as_id!("element.value->>0"))
    };
}
/// The chunks, `c`, of a JSON list, with their duplicates among the ids $1.
macro_rules! duplicates {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM chunks c CROSS JOIN ",
            json_elements!("c.duplicate_rows", "pair"),
            " WHERE (c.run_id, c.chunk) IN ",
            pairs!("$2"),
            " AND c.duplicate_rows IS NOT NULL AND ",
            as_id!("pair.value->>1"),
            " IN ",
            ids!("$1")
        )
    };
}

const KNOWN: &str = concat!(
    "SELECT CAST(wanted.id AS text) FROM (SELECT ",
    as_id!("element.value->>0"),
    " AS id FROM ",
    json_elements!(as_json!("$1")),
    ") AS wanted WHERE EXISTS (SELECT 1 FROM transactions t WHERE t.id = wanted.id)
        OR EXISTS (SELECT 1 FROM failed_transactions f WHERE f.transaction_id = wanted.id)
        OR EXISTS (SELECT 1 FROM transaction_history h WHERE h.transaction_id = wanted.id)"
);
/// The last of the chunks with duplicates that are searched together, behind the run $1 and the chunk $2.
const LAST_SEARCHED: &str = "
    SELECT run_id, chunk FROM (SELECT run_id, chunk FROM chunks WHERE duplicate_rows IS NOT NULL AND (run_id, chunk) > ($1, $2)
        ORDER BY run_id, chunk LIMIT $3) AS searched ORDER BY run_id DESC, chunk DESC LIMIT 1";
const FIND_DUPLICATES: &str = concat!(
    "SELECT pair.value->>1, c.run_id, c.chunk FROM chunks c CROSS JOIN ",
    json_elements!("c.duplicate_rows", "pair"),
    " WHERE c.duplicate_rows IS NOT NULL AND (c.run_id, c.chunk) > ($2, $3) AND (c.run_id, c.chunk) <= ($4, $5) AND ",
    as_id!("pair.value->>1"),
    " IN ",
    ids!("$1")
);
const COUNT: &str = concat!(
    "SELECT (SELECT count(*) FROM transactions WHERE id IN ",
    ids!("$1"),
    "), (SELECT count(*) FROM failed_transactions WHERE transaction_id IN ",
    ids!("$1"),
    "), (SELECT count(*) FROM transaction_history WHERE transaction_id IN ",
    ids!("$1"),
    ")"
);
const COUNT_DUPLICATES: &str = duplicates!("count(*)");
const STORED: &str = concat!("SELECT run_id, row_number FROM transactions WHERE id IN ", ids!("$1"));
const FAILED: &str =
    concat!("SELECT run_id, row_number FROM failed_transactions WHERE transaction_id IN ", ids!("$1"), for_update!());
const REPEATED: &str = duplicates!("c.run_id, CAST(pair.value->>0 AS bigint)");
/// The duplicates of the chunks $2 without those of the ids $1.
const KEEP_DUPLICATES: &str = concat!(
    "UPDATE chunks SET duplicate_rows = (SELECT ",
    json_collect!("pair.value"),
    " FROM ",
    json_elements!("chunks.duplicate_rows", "pair"),
    " WHERE ",
    as_id!("pair.value->>1"),
    " NOT IN ",
    ids!("$1"),
    ") WHERE (run_id, chunk) IN ",
    pairs!("$2"),
    " AND duplicate_rows IS NOT NULL"
);
/// Failed rows become tombstones; $2 to $5 are id, reason, payload and operation. The condition follows.
macro_rules! failed_to_tombstones {
    ($($condition:tt)+) => {
        concat!(
            "UPDATE failed_transactions SET transaction_id = $2, class = 'erased', reason = $3, attempts = 0, payload = $4, \
             operation = $5 WHERE ",
            $($condition)+
        )
    };
}
const FAILED_BY_ID: &str = failed_to_tombstones!("transaction_id IN ", ids!("$1"));
const FAILED_BY_ROW: &str = failed_to_tombstones!(is_listed!("$1"), " AND ", has_content!());
const TOMBSTONES: &str = concat!(
    "INSERT INTO failed_transactions (",
    failed_columns!(),
    ") SELECT element.value->>0, CAST(element.value->>1 AS bigint), $2, 'erased', $3, 0, $4, $5 FROM ",
    json_elements!(as_json!("$1")),
    " WHERE true ON CONFLICT (run_id, row_number) DO NOTHING"
);
const INVALID_TOMBSTONES: &str = concat!(
    "INSERT INTO failed_transactions (",
    failed_columns!(),
    ") SELECT run_id, row_number, $2, 'erased', $3, 0, $4, $5 FROM invalid_transactions WHERE ",
    is_listed!("$1"),
    " ON CONFLICT (run_id, row_number) DO NOTHING"
);
/// The chunks of a run, $1, no longer count these rows as predicted.
const DEBIT: &str = concat!(
    "UPDATE chunks SET predicted = predicted - debits.rows FROM (SELECT ",
    covering_chunk!("$1", "CAST(element.value->>0 AS bigint)"),
    " AS chunk, count(*) AS rows FROM ",
    json_elements!(as_json!("$2")),
    " GROUP BY 1) AS debits WHERE chunks.run_id = $1 AND chunks.chunk = debits.chunk"
);
const DELETE_HISTORY: &str = concat!("DELETE FROM transaction_history WHERE transaction_id IN ", ids!("$1"));
const DELETE_PREDICTIONS: &str = concat!("DELETE FROM predictions WHERE transaction_id IN ", ids!("$1"));
const DELETE_TRANSACTIONS: &str = concat!("DELETE FROM transactions WHERE id IN ", ids!("$1"));
/// Live messages that cover one of the rows, $1, and no row with content.
const FORGET_MESSAGES: &str = concat!(
    "DELETE FROM live_messages WHERE EXISTS (SELECT 1 FROM ",
    json_elements!(as_json!("$1")),
    " WHERE element.value->>0 = live_messages.run_id AND CAST(element.value->>1 AS bigint) >= live_messages.first_row
        AND CAST(element.value->>1 AS bigint) < live_messages.first_row + live_messages.rows)
    AND (SELECT count(*) FROM failed_transactions f WHERE f.run_id = live_messages.run_id
        AND f.row_number >= live_messages.first_row AND f.row_number < live_messages.first_row + live_messages.rows
        AND NOT (",
    has_content!(),
    ")) = live_messages.rows"
);
/// The body and, as a producer may have named the message after its transaction, the name of a live message.
macro_rules! empty_letters {
    ($($condition:tt)+) => {
        concat!(
            "UPDATE dead_letters SET body = $2, operation = $3, \
             message_id = CASE WHEN message_type LIKE '%live%' THEN NULL ELSE message_id END WHERE length(body) > 0 AND ",
            $($condition)+
        )
    };
}
const EMPTY_LETTERS: &str = empty_letters!("id IN ", listed!("$1", "CAST(element.value->>0 AS bigint)"));
/// The letters of the chunks that cover the rows $1.
const EMPTY_LETTERS_OF_ROWS: &str = empty_letters!(
    "(run_id, message_id) IN (SELECT element.value->>0, element.value->>0 || '/' || CAST(",
    covering_chunk!("element.value->>0", "CAST(element.value->>1 AS bigint)"),
    " AS text) FROM ",
    json_elements!(as_json!("$1")),
    ")"
);

fn id_list(ids: &[Uuid]) -> Result<String, StoreError> {
    to_json(&ids.iter().map(|id| [id]).collect::<Vec<_>>())
}

fn place_list(places: &[ChunkPlace]) -> Result<String, StoreError> {
    to_json(&places.iter().map(|place| (place.run_id.as_str(), place.chunk)).collect::<Vec<_>>())
}

fn read_id(text: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|_| StoreError::configuration("the database holds a transaction id that cannot be read"))
}

pub(crate) async fn known(connection: &mut Connection, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let found: Vec<String> = sqlx::query_scalar(KNOWN).bind(id_list(ids)?).fetch_all(connection).await?;
    found.iter().map(|id| read_id(id)).collect()
}

pub(crate) async fn find_duplicates(
    connection: &mut Connection,
    ids: &[Uuid],
    after: Option<&ChunkPlace>,
) -> Result<(Vec<(Uuid, ChunkPlace)>, Option<ChunkPlace>), StoreError> {
    let (run_id, chunk) = after.map_or(("", -1), |after| (after.run_id.as_str(), signed(after.chunk)));
    let last: Option<(String, i64)> = sqlx::query_as(LAST_SEARCHED)
        .bind(run_id)
        .bind(chunk)
        .bind(i64::from(MAX_SEARCHED))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(last) = last else { return Ok((Vec::new(), None)) };
    let found: Vec<(String, String, i64)> = sqlx::query_as(FIND_DUPLICATES)
        .bind(id_list(ids)?)
        .bind(run_id)
        .bind(chunk)
        .bind(&last.0)
        .bind(last.1)
        .fetch_all(connection)
        .await?;
    let place = |run_id: &str, chunk| {
        Ok::<_, StoreError>(ChunkPlace { run_id: runs::read_name(run_id)?, chunk: unsigned(chunk) })
    };
    let found = found.into_iter().map(|(id, run_id, chunk)| Ok((read_id(&id)?, place(&run_id, chunk)?)));
    Ok((found.collect::<Result<_, StoreError>>()?, Some(place(&last.0, last.1)?)))
}

pub(crate) async fn plan(
    connection: &mut Connection,
    ids: &[Uuid],
    duplicates: &[ChunkPlace],
) -> Result<ErasureCounts, StoreError> {
    let list = id_list(ids)?;
    let (transactions, failed, history): (i64, i64, i64) =
        sqlx::query_as(COUNT).bind(&list).fetch_one(&mut *connection).await?;
    let repeated: i64 =
        sqlx::query_scalar(COUNT_DUPLICATES).bind(list).bind(place_list(duplicates)?).fetch_one(connection).await?;
    Ok(ErasureCounts {
        transactions: unsigned(transactions),
        failed: unsigned(failed),
        duplicates: unsigned(repeated),
        history: unsigned(history),
        ..ErasureCounts::default()
    })
}

pub(crate) async fn by_id(
    pool: &Pool,
    operation: u64,
    ids: &[Uuid],
    duplicates: &[ChunkPlace],
) -> Result<ErasureCounts, StoreError> {
    let mut transaction = pool.begin_with(REMOVING).await?;
    queue_up(&mut transaction, REMOVALS).await?;
    let (list, places) = (id_list(ids)?, place_list(duplicates)?);
    let failed: Vec<(String, i64)> = sqlx::query_as(FAILED).bind(&list).fetch_all(&mut *transaction).await?;
    let stored: Vec<(String, i64)> = sqlx::query_as(STORED).bind(&list).fetch_all(&mut *transaction).await?;
    let repeated: Vec<(String, i64)> =
        sqlx::query_as(REPEATED).bind(&list).bind(&places).fetch_all(&mut *transaction).await?;
    let mut counts = ErasureCounts {
        transactions: stored.len() as u64,
        failed: failed.len() as u64,
        duplicates: repeated.len() as u64,
        ..ErasureCounts::default()
    };
    put_tombstones(&mut transaction, FAILED_BY_ID, operation, &list).await?;
    for (run_id, rows) in by_run(&stored) {
        let rows: Vec<[i64; 1]> = rows.into_iter().map(|row| [row]).collect();
        sqlx::query(DEBIT).bind(run_id).bind(to_json(&rows)?).execute(&mut *transaction).await?;
    }
    sqlx::query(KEEP_DUPLICATES).bind(&list).bind(&places).execute(&mut *transaction).await?;
    let history = sqlx::query(DELETE_HISTORY).bind(&list).execute(&mut *transaction).await?;
    counts.history = history.rows_affected();
    for statement in [DELETE_PREDICTIONS, DELETE_TRANSACTIONS] {
        sqlx::query(statement).bind(&list).execute(&mut *transaction).await?;
    }
    let without_failed: Vec<(String, i64)> = [stored, repeated].concat();
    put_tombstones(&mut transaction, TOMBSTONES, operation, &to_json(&without_failed)?).await?;
    finish(&mut transaction, operation, &[failed, without_failed].concat(), &mut counts).await?;
    transaction.commit().await?;
    Ok(counts)
}

pub(crate) async fn by_row(pool: &Pool, operation: u64, rows: &[(RunId, u64)]) -> Result<ErasureCounts, StoreError> {
    let mut transaction = pool.begin_with(REMOVING).await?;
    queue_up(&mut transaction, REMOVALS).await?;
    let rows: Vec<(String, i64)> = rows.iter().map(|(run_id, row)| (run_id.to_string(), signed(*row))).collect();
    let list = to_json(&rows)?;
    let mut counts = ErasureCounts {
        failed: put_tombstones(&mut transaction, FAILED_BY_ROW, operation, &list).await?,
        ..ErasureCounts::default()
    };
    put_tombstones(&mut transaction, INVALID_TOMBSTONES, operation, &list).await?;
    counts.invalid = sqlx::query(DELETE_INVALID).bind(&list).execute(&mut *transaction).await?.rows_affected();
    finish(&mut transaction, operation, &rows, &mut counts).await?;
    transaction.commit().await?;
    Ok(counts)
}

pub(crate) async fn letters(pool: &Pool, operation: u64, letters: &[u64]) -> Result<ErasureCounts, StoreError> {
    let mut transaction = pool.begin_with(REMOVING).await?;
    let list = to_json(&letters.iter().map(|letter| [letter]).collect::<Vec<_>>())?;
    let query = sqlx::query(EMPTY_LETTERS).bind(list).bind(NO_BYTES).bind(signed(operation));
    let emptied = query.execute(&mut *transaction).await?.rows_affected();
    let counts = ErasureCounts { dead_letters: emptied, ..ErasureCounts::default() };
    journal::add_counts(&mut transaction, operation, "erased", &counts.named()).await?;
    transaction.commit().await?;
    Ok(counts)
}

/// Executes a statement that makes tombstones; returns how many.
async fn put_tombstones(
    connection: &mut Connection,
    statement: &'static str,
    operation: u64,
    list: &str,
) -> Result<u64, StoreError> {
    let done = sqlx::query(statement)
        .bind(list)
        .bind(key(Uuid::nil()))
        .bind(ERASED)
        .bind(NO_BYTES)
        .bind(signed(operation))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Takes what else is known of rows that have become tombstones, and counts everything.
async fn finish(
    connection: &mut Connection,
    operation: u64,
    rows: &[(String, i64)],
    counts: &mut ErasureCounts,
) -> Result<(), StoreError> {
    forget_rows(connection, rows).await?;
    let list = to_json(rows)?;
    let messages = sqlx::query(FORGET_MESSAGES).bind(&list).execute(&mut *connection).await?;
    counts.live_messages = messages.rows_affected();
    let query = sqlx::query(EMPTY_LETTERS_OF_ROWS).bind(&list).bind(NO_BYTES).bind(signed(operation));
    counts.dead_letters = query.execute(&mut *connection).await?.rows_affected();
    journal::add_counts(connection, operation, "erased", &counts.named()).await
}

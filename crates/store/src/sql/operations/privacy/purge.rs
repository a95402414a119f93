//! What is old goes, page by page: the keys of a page are read first, and then its content is taken. Rows leave tombstones that say
//! what they were.

use assay_transaction::Timestamp;
use uuid::Uuid;

use super::super::dead_letters::is_blocking;
use super::dialect::{Connection, Pool, REMOVING, as_id, as_json, as_time, json_elements, key, queue_up};
use super::fragments::{failed_columns, has_content};
use super::{DELETE_INVALID, forget_rows, is_listed, journal, listed, pairs};
use crate::operations::privacy::MAX_PURGED;
use crate::operations::removal::REMOVALS;
use crate::values::{NO_BYTES, signed, to_json, unsigned};
use crate::{PurgeCounts, PurgeKind, PurgePosition, StoreError};

/// The end of a join with the runs that had finished before $1.
macro_rules! of_finished_runs {
    ($table:literal) => {
        concat!(
            " JOIN runs r ON r.run_id = ",
            $table,
            ".run_id WHERE r.finished_at IS NOT NULL AND r.finished_at < ",
            as_time!("$1")
        )
    };
}
/// What a kind selects: run, number, name and bytes; $1 is the time before which it is purged.
macro_rules! raw {
    () => {
        concat!(
            "SELECT i.run_id, i.row_number, '', CAST(length(i.raw) AS bigint) AS bytes FROM invalid_transactions i",
            of_finished_runs!("i")
        )
    };
}
macro_rules! failures {
    () => {
        concat!(
            "SELECT f.run_id, f.row_number, '', CAST(length(f.payload) AS bigint) AS bytes FROM failed_transactions f",
            of_finished_runs!("f"),
            " AND ",
            has_content!()
        )
    };
}
macro_rules! dead_letters {
    () => {
        concat!(
            "SELECT '', id, '', CAST(length(body) AS bigint) AS bytes FROM dead_letters WHERE length(body) > 0 AND received_at < ",
            as_time!("$1"),
            " AND NOT (",
            is_blocking!(),
            ")"
        )
    };
}
macro_rules! history {
    () => {
        concat!(
            "SELECT '', id, '', CAST(length(CAST(\"transaction\" AS text)) AS bigint) AS bytes FROM transaction_history h ",
            "WHERE CAST(\"transaction\" AS text) <> '{}' AND replaced_at < ",
            as_time!("$1"),
            // A removal on its way restores from them.
            " AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.run_id = h.replaced_by_run AND r.removal_at IS NOT NULL ",
            "AND r.removed_at IS NULL)"
        )
    };
}
macro_rules! live_messages {
    () => {
        concat!(
            "SELECT m.run_id, m.chunk, m.message, CAST(length(m.message) AS bigint) AS bytes FROM live_messages m",
            of_finished_runs!("m")
        )
    };
}
macro_rules! erased_ids {
    () => {
        concat!(
            "SELECT '', erased_ids.operation, CAST(digest AS text), CAST(16 AS bigint) AS bytes FROM erased_ids ",
            "JOIN operations o ON o.id = erased_ids.operation WHERE o.done_at < ",
            as_time!("$1")
        )
    };
}

/// The statements of a kind.
struct Statements {
    /// How many there are, and their bytes.
    plan: &'static str,
    /// The next ones behind the run $2, the number $3 and the name $4; at most $5.
    page: &'static str,
}

/// The statements of a kind, by what it selects and how its pages follow each other.
macro_rules! statements {
    ($selected:ident, $follow:literal) => {
        Statements {
            plan: concat!(
                "SELECT count(*), CAST(coalesce(sum(selected.bytes), 0) AS bigint) FROM (",
                $selected!(),
                ") AS selected"
            ),
            page: concat!($selected!(), $follow, " LIMIT $5"),
        }
    };
}
const RAW: Statements = statements!(raw, " AND (i.run_id, i.row_number) > ($2, $3) ORDER BY i.run_id, i.row_number");
const FAILURES: Statements =
    statements!(failures, " AND (f.run_id, f.row_number) > ($2, $3) ORDER BY f.run_id, f.row_number");
const DEAD_LETTERS: Statements = statements!(dead_letters, " AND id > $3 ORDER BY id");
const HISTORY: Statements = statements!(history, " AND id > $3 ORDER BY id");
const LIVE_MESSAGES: Statements =
    statements!(live_messages, " AND (m.run_id, m.message) > ($2, $4) ORDER BY m.run_id, m.message");
const ERASED_IDS: Statements = statements!(erased_ids, " ORDER BY erased_ids.digest");

/// Invalid rows, $1, become tombstones; $2 to $4 are their id, payload and operation.
const RAW_TOMBSTONES: &str = concat!(
    "INSERT INTO failed_transactions (",
    failed_columns!(),
    ") SELECT run_id, row_number, $2, 'purged', 'purged; it was invalid: ' || reason, 0, $3, $4 FROM invalid_transactions WHERE ",
    is_listed!("$1"),
    " ON CONFLICT (run_id, row_number) DO NOTHING"
);
const FAILURE_TOMBSTONES: &str = concat!(
    "UPDATE failed_transactions SET transaction_id = $2, payload = $3, operation = $4, reason = 'purged; it had failed: ' || class, ",
    "class = 'purged' WHERE ",
    is_listed!("$1"),
    " AND ",
    has_content!()
);
const EMPTY_LETTERS: &str = concat!(
    "UPDATE dead_letters SET body = $2, operation = $3 WHERE id IN ",
    listed!("$1", "CAST(element.value->>0 AS bigint)")
);
/// What replaced the content stays, as a removal must know that it cannot restore it.
const EMPTY_HISTORY: &str = concat!(
    "UPDATE transaction_history SET \"transaction\" = '{}', prediction = NULL WHERE id IN ",
    listed!("$1", "CAST(element.value->>0 AS bigint)")
);
const DELETE_MESSAGES: &str = concat!(
    "DELETE FROM live_messages WHERE (run_id, message) IN ",
    listed!("$1", "element.value->>0, element.value->>1")
);
const READMIT: &str = concat!("DELETE FROM erased_ids WHERE digest IN ", listed!("$1", as_id!("element.value->>0")));

fn statements(kind: PurgeKind) -> Statements {
    match kind {
        PurgeKind::Raw => RAW,
        PurgeKind::Failures => FAILURES,
        PurgeKind::DeadLetters => DEAD_LETTERS,
        PurgeKind::History => HISTORY,
        PurgeKind::LiveMessages => LIVE_MESSAGES,
        PurgeKind::ErasedIds => ERASED_IDS,
    }
}

/// A time as it is stored and compared.
fn bound(before: Timestamp) -> String {
    before.as_datetime().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) async fn plan(
    connection: &mut Connection,
    kind: PurgeKind,
    before: Timestamp,
) -> Result<PurgeCounts, StoreError> {
    let (rows, bytes): (i64, i64) =
        sqlx::query_as(statements(kind).plan).bind(bound(before)).fetch_one(connection).await?;
    Ok(PurgeCounts { rows: unsigned(rows), bytes: unsigned(bytes) })
}

pub(crate) async fn step(
    pool: &Pool,
    operation: u64,
    kind: PurgeKind,
    before: Timestamp,
    from: &PurgePosition,
) -> Result<(PurgeCounts, Option<PurgePosition>), StoreError> {
    let mut transaction = pool.begin_with(REMOVING).await?;
    queue_up(&mut transaction, REMOVALS).await?;
    let page: Vec<(String, i64, String, i64)> = sqlx::query_as(statements(kind).page)
        .bind(bound(before))
        .bind(&from.run_id)
        .bind(from.number)
        .bind(&from.name)
        .bind(i64::from(MAX_PURGED))
        .fetch_all(&mut *transaction)
        .await?;
    let Some((run_id, number, name, _)) = page.last().cloned() else { return Ok((PurgeCounts::default(), None)) };
    let bytes = page.iter().map(|(_, _, _, bytes)| unsigned(*bytes)).sum();
    let taken = PurgeCounts { rows: page.len() as u64, bytes };
    match kind {
        PurgeKind::Raw | PurgeKind::Failures => {
            let rows: Vec<(String, i64)> = page.into_iter().map(|(run_id, row, ..)| (run_id, row)).collect();
            rows_to_tombstones(&mut transaction, operation, kind, &rows).await?;
        }
        PurgeKind::DeadLetters => {
            let letters: Vec<[i64; 1]> = page.iter().map(|(_, id, ..)| [*id]).collect();
            let query = sqlx::query(EMPTY_LETTERS).bind(to_json(&letters)?).bind(NO_BYTES).bind(signed(operation));
            query.execute(&mut *transaction).await?;
        }
        PurgeKind::History => {
            let entries: Vec<[i64; 1]> = page.iter().map(|(_, id, ..)| [*id]).collect();
            sqlx::query(EMPTY_HISTORY).bind(to_json(&entries)?).execute(&mut *transaction).await?;
        }
        PurgeKind::LiveMessages => {
            let messages: Vec<[&str; 2]> = page.iter().map(|(run_id, _, name, _)| [&**run_id, &**name]).collect();
            sqlx::query(DELETE_MESSAGES).bind(to_json(&messages)?).execute(&mut *transaction).await?;
        }
        PurgeKind::ErasedIds => {
            let digests: Vec<[&str; 1]> = page.iter().map(|(_, _, digest, _)| [&**digest]).collect();
            sqlx::query(READMIT).bind(to_json(&digests)?).execute(&mut *transaction).await?;
        }
    }
    let counts = [("rows", taken.rows), ("bytes", taken.bytes)];
    journal::add_counts(&mut transaction, operation, kind.as_str(), &counts).await?;
    transaction.commit().await?;
    Ok((taken, Some(PurgePosition { run_id, number, name })))
}

async fn rows_to_tombstones(
    connection: &mut Connection,
    operation: u64,
    kind: PurgeKind,
    rows: &[(String, i64)],
) -> Result<(), StoreError> {
    let list = to_json(rows)?;
    let statement = if kind == PurgeKind::Raw { RAW_TOMBSTONES } else { FAILURE_TOMBSTONES };
    sqlx::query(statement)
        .bind(&list)
        .bind(key(Uuid::nil()))
        .bind(NO_BYTES)
        .bind(signed(operation))
        .execute(&mut *connection)
        .await?;
    if kind == PurgeKind::Raw {
        sqlx::query(DELETE_INVALID).bind(&list).execute(&mut *connection).await?;
    }
    forget_rows(connection, rows).await
}

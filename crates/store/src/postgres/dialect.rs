//! What the modules of `sql` need where the databases differ, for PostgreSQL. `sqlite::dialect` has the same names.

use assay_transaction::RunId;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use uuid::Uuid;

pub(super) use super::begin::{Begin, COUNTING, LISTING, LOOKING_UP, READING, REMOVING, WRITING};
pub(super) use super::counts::{count_apart, fit_plans};
pub(super) use super::pool::Pool;
use super::sql::fragments::covering_chunk;
use crate::StoreError;

pub(super) type Database = super::Postgres;
pub(super) type OpenTransaction = super::write::PostgresTransaction;
pub(super) type Connection = PgConnection;
pub(super) type Row = PgRow;
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// The name of the database in traces.
pub(super) const SYSTEM: &str = "postgresql";

/// Whether the table of applied migrations exists.
pub(super) const HAS_MIGRATIONS: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

const ID_OF_ROW: &str = concat!(
    "SELECT substring(c.ids FROM CAST(($2 - c.first_row) * 16 + 1 AS integer) FOR 16) FROM chunks c WHERE c.run_id = $1 AND c.chunk = ",
    covering_chunk!("$1", "$2"),
    " AND $2 < c.first_row + c.rows"
);

const IDS_OF_ROWS: &str = concat!(
    "SELECT c.chunk, c.first_row, c.ids FROM chunks c WHERE c.run_id = $1 AND c.ids IS NOT NULL AND c.chunk = ANY(ARRAY(SELECT ",
    covering_chunk!("$1", "wanted.row_number"),
    " FROM UNNEST($2::bigint[]) AS wanted(row_number))) ORDER BY c.chunk FOR NO KEY UPDATE"
);
const PUT_IDS: &str = "UPDATE chunks SET ids = $3 WHERE run_id = $1 AND chunk = $2";

/// An id as it is bound.
pub(super) fn key(id: Uuid) -> Uuid {
    id
}

/// Ids as [`is_any_of`] takes them.
pub(super) fn keys(ids: &[Uuid]) -> Vec<Uuid> {
    ids.to_vec()
}

/// The transaction of a row, as the chunk that covers it has recorded.
pub(super) async fn id_of_row(
    connection: &mut Connection,
    run_id: &RunId,
    row: i64,
) -> Result<Option<Uuid>, StoreError> {
    let id = sqlx::query_scalar(ID_OF_ROW).bind(run_id.as_str()).bind(row).fetch_optional(connection).await?;
    let id: Option<Vec<u8>> = id.flatten();
    Ok(id.and_then(|id| Uuid::from_slice(&id).ok()).filter(|id| !id.is_nil()))
}

/// Forgets which transactions rows of a run are.
pub(super) async fn forget_row_ids(connection: &mut Connection, run_id: &str, rows: &[i64]) -> Result<(), StoreError> {
    let chunks: Vec<(i64, i64, Vec<u8>)> =
        sqlx::query_as(IDS_OF_ROWS).bind(run_id).bind(rows).fetch_all(&mut *connection).await?;
    for (chunk, first_row, mut ids) in chunks {
        for row in rows {
            let place = usize::try_from(row - first_row).unwrap_or(usize::MAX).saturating_mul(size_of::<Uuid>());
            if let Some(id) = ids.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
                *id = *Uuid::nil().as_bytes();
            }
        }
        sqlx::query(PUT_IDS).bind(run_id).bind(chunk).bind(ids).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Takes the lock of a name until the transaction ends: that of a run, which writers share ([`super::write`]); or
/// that of a content, of which one run begins at a time.
pub(super) async fn queue_up(connection: &mut Connection, name: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(name).execute(connection).await?;
    Ok(())
}

/// The end of a condition on `run_id`, or `run_id` and `row_number`, of transactions: a row is in one of two indexes, each of which
/// serves the queries that name its type.
macro_rules! of_either_type {
    () => {
        " AND (processing_type = 'batch' OR processing_type = 'streaming')"
    };
}
/// The end of an assignment to a chunk whose transactions are removed.
macro_rules! forget_ids {
    () => {
        ", ids = NULL"
    };
}
/// One of two expressions: the first where an index has each row of a run.
macro_rules! if_rows_are_indexed {
    ($then:expr, $otherwise:expr) => {
        $otherwise
    };
}
/// Whether an id is among those that are bound.
macro_rules! is_any_of {
    ($id:literal, $ids:literal) => {
        concat!($id, " = ANY(", $ids, ")")
    };
}
/// The time at which the transaction began.
macro_rules! now {
    () => {
        "now()"
    };
}
/// The time now: Unix time in seconds.
macro_rules! unix_now {
    () => {
        "CAST(floor(extract(epoch FROM now())) AS bigint)"
    };
}
/// The time now, even if the transaction has waited for a lock.
macro_rules! clock {
    () => {
        "clock_timestamp()"
    };
}
/// The time in this many seconds.
macro_rules! seconds_ahead {
    ($($seconds:tt)+) => {
        concat!("clock_timestamp() + make_interval(secs => ", $($seconds)+, ")")
    };
}
/// Milliseconds until a time, at least 0.
macro_rules! millis_until {
    ($($time:tt)+) => {
        concat!("CAST(greatest(extract(epoch FROM ", $($time)+, " - clock_timestamp()) * 1000, 0) AS bigint)")
    };
}
/// The time this many seconds ago.
macro_rules! seconds_ago {
    ($($seconds:tt)+) => {
        concat!("now() - make_interval(secs => ", $($seconds)+, ")")
    };
}
/// Milliseconds since a time, at least 0.
macro_rules! millis_since {
    ($($time:tt)+) => {
        concat!("CAST(greatest(extract(epoch FROM now() - ", $($time)+, ") * 1000, 0) AS bigint)")
    };
}
/// JSON that is bound as text.
macro_rules! as_json {
    ($($text:tt)+) => {
        concat!("CAST(", $($text)+, " AS jsonb)")
    };
}
/// The length of a JSON array.
macro_rules! json_length {
    ($($array:tt)+) => {
        concat!("jsonb_array_length(", $($array)+, ")")
    };
}
/// The elements of a JSON array, as the column `value` of the table `element`, or of a given one.
macro_rules! json_elements {
    ($array:expr, $name:literal) => {
        concat!("jsonb_array_elements(", $array, ") AS ", $name, "(value)")
    };
    ($($array:tt)+) => {
        concat!("jsonb_array_elements(", $($array)+, ") AS element(value)")
    };
}
/// A JSON array of rows, NULL if there are none.
macro_rules! json_collect {
    ($($value:tt)+) => {
        concat!("jsonb_agg(", $($value)+, ")")
    };
}
/// An id that is written as text.
macro_rules! as_id {
    ($($text:tt)+) => {
        concat!("CAST(", $($text)+, " AS uuid)")
    };
}
/// A time that is written as text, by this database.
macro_rules! as_time {
    ($($text:tt)+) => {
        concat!("CAST(", $($text)+, " AS timestamptz)")
    };
}
/// An hour before a time.
macro_rules! hour_before {
    ($($time:tt)+) => {
        concat!("(", $($time)+, " - interval '1 hour')")
    };
}
/// The end of a query that locks its rows.
macro_rules! for_update {
    () => {
        " FOR UPDATE"
    };
}
/// A sum of amounts that is bound as text.
macro_rules! as_amount {
    ($($text:tt)+) => {
        concat!("CAST(CAST(", $($text)+, " AS text) AS numeric)")
    };
}
pub(super) use {
    as_amount, as_id, as_json, as_time, clock, for_update, forget_ids, hour_before, if_rows_are_indexed, is_any_of,
    json_collect, json_elements, json_length, millis_since, millis_until, now, of_either_type, seconds_ago,
    seconds_ahead, unix_now,
};

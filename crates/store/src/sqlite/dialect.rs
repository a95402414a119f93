//! What the modules of `sql` need where the databases differ, for SQLite. `postgres::dialect` has the same names.

use std::future::{Ready, ready};

use assay_transaction::RunId;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use uuid::Uuid;

pub(super) use super::pool::Pool;
use crate::StoreError;
use crate::values::LabelCounts;

pub(super) type Database = super::Sqlite;
pub(super) type OpenTransaction = super::write::SqliteTransaction;
pub(super) type Connection = SqliteConnection;
pub(super) type Row = SqliteRow;
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

/// The statement that begins a transaction.
pub(super) type Begin = &'static str;

/// The name of the database in traces.
pub(super) const SYSTEM: &str = "sqlite";

/// Writes. The file has one writer at a time: from here on, this transaction.
pub(super) const WRITING: &str = "BEGIN IMMEDIATE";
/// Reads, all of it at one point in time.
pub(super) const READING: &str = "BEGIN";
/// Reads lists in row order, page by page.
pub(super) const LISTING: &str = READING;
/// Finds few rows of a large table.
pub(super) const LOOKING_UP: &str = READING;
/// Writes to the rows of a part of a run.
pub(super) const REMOVING: &str = WRITING;
/// Counts the rows of a large run.
pub(super) const COUNTING: &str = READING;

/// Whether the table of applied migrations exists.
pub(super) const HAS_MIGRATIONS: &str = "SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'";

/// An id as it is bound.
pub(super) fn key(id: Uuid) -> String {
    id.to_string()
}

/// Ids as [`is_any_of`] takes them.
pub(super) fn keys(ids: &[Uuid]) -> String {
    ids.iter().map(Uuid::to_string).collect::<serde_json::Value>().to_string()
}

/// The transaction of a row, if its chunk has recorded that. An index has it.
pub(super) fn id_of_row(_: &mut Connection, _: &RunId, _: i64) -> Ready<Result<Option<Uuid>, StoreError>> {
    ready(Ok(None))
}

/// Forgets which transactions rows of a run are. Chunks do not know.
pub(super) fn forget_row_ids(_: &mut Connection, _: &str, _: &[i64]) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Takes the lock of a name, such as that of a run. Every writer has the lock of the file already.
pub(super) fn queue_up(_: &mut Connection, _: &str) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Lets the next statements find the rows of a run. They do.
pub(super) fn fit_plans(_: &mut Connection, _: &RunId) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Labels with their counts and mean scores, if they can be counted without joining tables.
pub(super) fn count_apart(_: &mut Connection, _: &RunId) -> Ready<Result<Option<LabelCounts>, StoreError>> {
    ready(Ok(None))
}

/// The end of a condition on `run_id` of transactions: nothing, as an index has each row.
macro_rules! of_either_type {
    () => {
        ""
    };
}
/// The end of an assignment to a chunk whose transactions are removed.
macro_rules! forget_ids {
    () => {
        ""
    };
}
/// One of two expressions: the first where an index has each row of a run.
macro_rules! if_rows_are_indexed {
    ($then:expr, $otherwise:expr) => {
        $then
    };
}
/// Whether an id is among those that are bound.
macro_rules! is_any_of {
    ($id:literal, $ids:literal) => {
        concat!($id, " IN (SELECT value FROM json_each(", $ids, "))")
    };
}
/// The time now.
macro_rules! now {
    () => {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    };
}
/// The time now: Unix time in seconds.
macro_rules! unix_now {
    () => {
        "CAST(strftime('%s', 'now') AS integer)"
    };
}
/// The time now, even if the transaction has waited for a lock.
macro_rules! clock {
    () => {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    };
}
/// The time in this many seconds.
macro_rules! seconds_ahead {
    ($($seconds:tt)+) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || ", $($seconds)+, " || ' seconds')")
    };
}
/// Milliseconds until a time, at least 0.
macro_rules! millis_until {
    ($($time:tt)+) => {
        concat!("CAST(round(max((julianday(", $($time)+, ") - julianday('now')) * 86400000, 0)) AS integer)")
    };
}
/// The time this many seconds ago.
macro_rules! seconds_ago {
    ($($seconds:tt)+) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || CAST(", $($seconds)+, " AS integer) || ' seconds')")
    };
}
/// Milliseconds since a time, at least 0.
macro_rules! millis_since {
    ($($time:tt)+) => {
        concat!("CAST(round(max((julianday('now') - julianday(", $($time)+, ")) * 86400000, 0)) AS integer)")
    };
}
/// JSON that is bound as text.
macro_rules! as_json {
    ($($text:tt)+) => {
        $($text)+
    };
}
/// The length of a JSON array.
macro_rules! json_length {
    ($($array:tt)+) => {
        concat!("json_array_length(", $($array)+, ")")
    };
}
/// The elements of a JSON array, as the column `value` of the table `element`, or of a given one.
macro_rules! json_elements {
    ($array:expr, $name:literal) => {
        concat!("json_each(", $array, ") AS ", $name)
    };
    ($($array:tt)+) => {
        concat!("json_each(", $($array)+, ") AS element")
    };
}
/// A JSON array of rows, NULL if there are none.
macro_rules! json_collect {
    ($($value:tt)+) => {
        concat!("nullif(json_group_array(json(", $($value)+, ")), '[]')")
    };
}
/// An id that is written as text.
macro_rules! as_id {
    ($($text:tt)+) => {
        $($text)+
    };
}
/// A time that is written as text, by this database.
macro_rules! as_time {
    ($($text:tt)+) => {
        $($text)+
    };
}
/// An hour before a time.
macro_rules! hour_before {
    ($($time:tt)+) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', ", $($time)+, ", '-1 hour')")
    };
}
/// The end of a query that locks its rows. Here the file is locked.
macro_rules! for_update {
    () => {
        ""
    };
}
/// A sum of amounts that is bound as text, as it is stored.
macro_rules! as_amount {
    ($($text:tt)+) => {
        $($text)+
    };
}
pub(super) use {
    as_amount, as_id, as_json, as_time, clock, for_update, forget_ids, hour_before, if_rows_are_indexed, is_any_of,
    json_collect, json_elements, json_length, millis_since, millis_until, now, of_either_type, seconds_ago,
    seconds_ahead, unix_now,
};

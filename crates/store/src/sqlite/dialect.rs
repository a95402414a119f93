//! What the modules of `sql` are made of where the two databases differ, as SQLite has it. `postgres::dialect` has the same
//! names.

use std::future::{Ready, ready};

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use uuid::Uuid;

pub(super) use super::pool::Pool;
use crate::StoreError;

pub(super) type Database = super::Sqlite;
pub(super) type OpenTransaction = super::write::SqliteTransaction;
pub(super) type Connection = SqliteConnection;
pub(super) type Row = SqliteRow;
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

/// The statement that begins a transaction.
pub(super) type Begin = &'static str;

/// Begins a transaction that writes. The file has one writer at a time, and from then on that is us.
pub(super) const WRITING: &str = "BEGIN IMMEDIATE";
/// Begins one that reads, all of it at one point in time.
pub(super) const READING: &str = "BEGIN";
/// The same for lists in row order, page by page.
pub(super) const LISTING: &str = READING;
/// The same for counting the rows of a large run.
pub(super) const COUNTING: &str = READING;

/// Whether the table of applied migrations exists.
pub(super) const HAS_MIGRATIONS: &str = "SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'";

/// An id as it is bound.
pub(super) fn key(id: Uuid) -> String {
    id.to_string()
}

/// Ids as [`among`] takes them.
pub(super) fn keys(ids: &[Uuid]) -> String {
    ids.iter().map(Uuid::to_string).collect::<serde_json::Value>().to_string()
}

/// Queues up for what has a name, such as the row of a run. Whoever writes has queued up for the file.
pub(super) fn queue_up(_: &mut Connection, _: &str) -> Ready<Result<(), StoreError>> {
    ready(Ok(()))
}

/// Whether an id is among those that are bound.
macro_rules! is_any_of {
    ($id:literal, $ids:literal) => {
        concat!($id, " IN (SELECT value FROM json_each(", $ids, "))")
    };
}
/// This moment.
macro_rules! now {
    () => {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    };
}
/// This moment, also in a transaction that has waited for a lock since it began.
macro_rules! clock {
    () => {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    };
}
/// In so many seconds.
macro_rules! seconds_ahead {
    ($($seconds:tt)+) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || ", $($seconds)+, " || ' seconds')")
    };
}
/// Milliseconds until a time, not below zero.
macro_rules! millis_until {
    ($($time:tt)+) => {
        concat!("CAST(round(max((julianday(", $($time)+, ") - julianday('now')) * 86400000, 0)) AS integer)")
    };
}
/// So many seconds ago.
macro_rules! seconds_ago {
    ($($seconds:tt)+) => {
        concat!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || CAST(", $($seconds)+, " AS integer) || ' seconds')")
    };
}
/// Milliseconds since a time, not below zero.
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
/// How many elements a JSON array has.
macro_rules! json_length {
    ($($array:tt)+) => {
        concat!("json_array_length(", $($array)+, ")")
    };
}
/// The elements of a JSON array, as the column `value` of the table `element`, or of one of another name.
macro_rules! json_elements {
    ($array:expr, $name:literal) => {
        concat!("json_each(", $array, ") AS ", $name)
    };
    ($($array:tt)+) => {
        concat!("json_each(", $($array)+, ") AS element")
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
/// The end of a statement that locks the rows it finds against others that do the same. Here the file is.
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
    as_amount, as_id, as_json, as_time, clock, for_update, hour_before, is_any_of, json_elements, json_length,
    millis_since, millis_until, now, seconds_ago, seconds_ahead,
};

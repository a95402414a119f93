//! What the modules of `sql` are made of where the two databases differ, as SQLite has it. `postgres::dialect` has the same
//! names.

use std::future::{Ready, ready};

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use uuid::Uuid;

pub(super) use super::pool::Pool;
use crate::StoreError;

pub(super) type Database = super::Sqlite;
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
macro_rules! among {
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
macro_rules! json {
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
macro_rules! id {
    ($($text:tt)+) => {
        $($text)+
    };
}
/// A time that is written as text, by this database.
macro_rules! time {
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
macro_rules! locked {
    () => {
        ""
    };
}
/// A sum of amounts that is bound as text, as it is stored.
macro_rules! amount {
    ($($text:tt)+) => {
        $($text)+
    };
}
pub(super) use {
    among, amount, clock, hour_before, id, json, json_elements, json_length, locked, millis_since, millis_until, now,
    seconds_ago, seconds_ahead, time,
};

/// Gives a stored transaction the content that an entry of its history holds, $1.
pub(super) const RESTORE: &str = "
    UPDATE transactions SET external_id = h.\"transaction\"->>'external_id',
        description = h.\"transaction\"->>'description', amount = h.\"transaction\"->>'amount',
        \"timestamp\" = h.\"transaction\"->>'timestamp', merchant = h.\"transaction\"->>'merchant',
        operation_type = h.\"transaction\"->>'operation_type', side = h.\"transaction\"->>'side',
        attributes = nullif(h.\"transaction\"->'attributes', 'null')
    FROM transaction_history h WHERE h.transaction_id = transactions.id AND h.id IN (SELECT element.value->>0
        FROM json_each($1) AS element)";
/// The same for its prediction. One that a removed run had asked for is one of the run that the transaction is of by now.
pub(super) const RESTORE_PREDICTIONS: &str = "
    INSERT INTO predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)
    SELECT h.transaction_id, h.prediction->>'prediction', h.prediction->>'fraud_score',
        h.prediction->>'model_version',
        CASE WHEN EXISTS (SELECT 1 FROM runs r WHERE r.run_id = h.prediction->>'run_id' AND r.removal_at IS NOT NULL)
            THEN t.run_id ELSE h.prediction->>'run_id' END,
        h.prediction->>'predicted_at'
    FROM transaction_history h JOIN transactions t ON t.id = h.transaction_id
    WHERE h.prediction IS NOT NULL AND h.id IN (SELECT element.value->>0 FROM json_each($1) AS element)
    ON CONFLICT (transaction_id) DO UPDATE SET prediction = excluded.prediction, fraud_score = excluded.fraud_score,
        model_version = excluded.model_version, run_id = excluded.run_id, predicted_at = excluded.predicted_at";

//! What the modules of `sql` are made of where the two databases differ, as PostgreSQL has it. `sqlite::dialect` has the same
//! names.

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use uuid::Uuid;

pub(super) use super::pool::Pool;
pub(super) use super::transaction::{COUNTING, LISTING, READING, WRITING};
use crate::StoreError;

pub(super) type Database = super::Postgres;
pub(super) type Connection = PgConnection;
pub(super) type Row = PgRow;
pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// An id as it is bound.
pub(super) fn key(id: Uuid) -> Uuid {
    id
}

/// Ids as [`among`] takes them.
pub(super) fn keys(ids: &[Uuid]) -> Vec<Uuid> {
    ids.to_vec()
}

/// Queues up for what has a name: for the row of a run behind the writers that are at work on it, and before all others; for a
/// content, of which one run begins at a time. Until the transaction ends.
pub(super) async fn queue_up(connection: &mut Connection, name: &str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))").bind(name).execute(connection).await?;
    Ok(())
}

/// Whether an id is among those that are bound.
macro_rules! among {
    ($id:literal, $ids:literal) => {
        concat!($id, " = ANY(", $ids, ")")
    };
}
/// This moment.
macro_rules! now {
    () => {
        "now()"
    };
}
/// This moment, also in a transaction that has waited for a lock since it began.
macro_rules! clock {
    () => {
        "clock_timestamp()"
    };
}
/// In so many seconds.
macro_rules! seconds_ahead {
    ($($seconds:tt)+) => {
        concat!("clock_timestamp() + make_interval(secs => ", $($seconds)+, ")")
    };
}
/// Milliseconds until a time, not below zero.
macro_rules! millis_until {
    ($($time:tt)+) => {
        concat!("CAST(greatest(extract(epoch FROM ", $($time)+, " - clock_timestamp()) * 1000, 0) AS bigint)")
    };
}
/// So many seconds ago.
macro_rules! seconds_ago {
    ($($seconds:tt)+) => {
        concat!("now() - make_interval(secs => ", $($seconds)+, ")")
    };
}
/// Milliseconds since a time, not below zero.
macro_rules! millis_since {
    ($($time:tt)+) => {
        concat!("CAST(greatest(extract(epoch FROM now() - ", $($time)+, ") * 1000, 0) AS bigint)")
    };
}
/// JSON that is bound as text.
macro_rules! json {
    ($($text:tt)+) => {
        concat!("CAST(", $($text)+, " AS jsonb)")
    };
}
/// An id that is there as text.
macro_rules! id {
    ($($text:tt)+) => {
        concat!("CAST(", $($text)+, " AS uuid)")
    };
}
/// How many elements a JSON array has.
macro_rules! json_length {
    ($($array:tt)+) => {
        concat!("jsonb_array_length(", $($array)+, ")")
    };
}
/// The elements of a JSON array, as the column `value` of the table `element`.
macro_rules! json_elements {
    ($($array:tt)+) => {
        concat!("jsonb_array_elements(", $($array)+, ") AS element(value)")
    };
}
/// The end of a statement that locks the rows it finds against others that do the same.
macro_rules! locked {
    () => {
        " FOR UPDATE"
    };
}
/// A sum of amounts that is bound as text.
macro_rules! amount {
    ($($text:tt)+) => {
        concat!("CAST(CAST(", $($text)+, " AS text) AS numeric)")
    };
}
pub(super) use {
    among, amount, clock, id, json, json_elements, json_length, locked, millis_since, millis_until, now, seconds_ago,
    seconds_ahead,
};

//! The journal: which operator did what to which run, when and why.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::dialect::{Connection, Pool, READING, Row, WRITING, as_json, for_update};
use super::rows;
use crate::values::{signed, storable, unsigned};
use crate::{AuditContext, OperationRecord, StoreError};

const RECORD: &str = concat!(
    "INSERT INTO operations (operator, action, run_id, reason, details) VALUES ($1, $2, $3, $4, ",
    as_json!("$5"),
    ")"
);
/// Operations, as `read` takes them.
macro_rules! operations {
    () => {
        "SELECT id, operator, action, run_id, reason, CAST(details AS text) AS details, done_at FROM operations "
    };
}
pub(super) use operations;
const LATEST: &str = concat!(operations!(), "WHERE CAST($1 AS text) IS NULL OR run_id = $1 ORDER BY id DESC LIMIT $2");
const BY_ID: &str = concat!(operations!(), "WHERE id = $1");
/// The same as `RECORD`, with the number of the operation: only roles that may read operations can ask for it.
const BEGIN: &str = concat!(
    "INSERT INTO operations (operator, action, reason, details) VALUES ($1, $2, $3, ",
    as_json!("$4"),
    ") RETURNING id"
);
const DETAILS: &str = concat!("SELECT CAST(details AS text) FROM operations WHERE id = $1", for_update!());
const PUT_DETAILS: &str = concat!("UPDATE operations SET details = ", as_json!("$2"), " WHERE id = $1");

pub(crate) async fn record(
    connection: &mut Connection,
    action: &str,
    run_id: Option<&RunId>,
    details: Option<&serde_json::Value>,
    audit: &AuditContext,
) -> Result<(), StoreError> {
    sqlx::query(RECORD)
        .bind(storable(audit.operator.as_str().into()))
        .bind(action)
        .bind(run_id.map(RunId::as_str))
        .bind(audit.reason.as_deref().map(|reason| storable(reason.into())))
        .bind(details.map(ToString::to_string))
        .execute(connection)
        .await?;
    Ok(())
}

/// Begins an operation that counts what it does, step by step.
pub(crate) async fn begin(
    pool: &Pool,
    action: &str,
    details: &serde_json::Value,
    audit: &AuditContext,
) -> Result<u64, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let id: i64 = sqlx::query_scalar(BEGIN)
        .bind(storable(audit.operator.as_str().into()))
        .bind(action)
        .bind(audit.reason.as_deref().map(|reason| storable(reason.into())))
        .bind(details.to_string())
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(unsigned(id))
}

/// Adds counts to those of an operation, under a name.
pub(crate) async fn add_counts(
    connection: &mut Connection,
    operation: u64,
    name: &str,
    counts: &[(&'static str, u64)],
) -> Result<(), StoreError> {
    let before: Option<Option<String>> =
        sqlx::query_scalar(DETAILS).bind(signed(operation)).fetch_optional(&mut *connection).await?;
    let unreadable = || StoreError::configuration(format!("operation {operation} has details that cannot be read"));
    let mut details: serde_json::Value = match before.flatten() {
        Some(json) => serde_json::from_str(&json).map_err(|_| unreadable())?,
        None => return Err(unreadable()),
    };
    for (count, more) in counts.iter().filter(|(_, more)| *more > 0) {
        let so_far = details[name][count].as_u64().unwrap_or_default();
        details[name][count] = (so_far + more).into();
    }
    sqlx::query(PUT_DETAILS).bind(signed(operation)).bind(details.to_string()).execute(connection).await?;
    Ok(())
}

/// An operation by its number.
pub(crate) async fn by_id(pool: &Pool, operation: u64) -> Result<Option<OperationRecord>, StoreError> {
    let found = rows(pool, READING, sqlx::query(BY_ID).bind(signed(operation))).await?;
    found.first().map(read).transpose()
}

pub(crate) async fn latest(
    pool: &Pool,
    run_id: Option<&RunId>,
    limit: u32,
) -> Result<Vec<OperationRecord>, StoreError> {
    let query = sqlx::query(LATEST).bind(run_id.map(RunId::as_str)).bind(i64::from(limit));
    rows(pool, READING, query).await?.iter().map(read).collect()
}

/// Reads the columns of `operations!`.
pub(super) fn read(row: &Row) -> Result<OperationRecord, StoreError> {
    let unreadable = |what: &str| StoreError::configuration(format!("an operation has {what} that cannot be read"));
    let run_id: Option<String> = row.try_get("run_id")?;
    let details: Option<String> = row.try_get("details")?;
    Ok(OperationRecord {
        id: unsigned(row.try_get("id")?),
        operator: row.try_get("operator")?,
        action: row.try_get("action")?,
        run_id: run_id.map(|run_id| run_id.parse()).transpose().map_err(|_| unreadable("a run"))?,
        reason: row.try_get("reason")?,
        details: details.map(|json| serde_json::from_str(&json)).transpose().map_err(|_| unreadable("details"))?,
        done_at: row.try_get::<DateTime<Utc>, _>("done_at")?.into(),
    })
}

//! The journal: which operator did what to which run, when and why.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::dialect::{Connection, Pool, READING, Row, as_json};
use super::rows;
use crate::values::storable;
use crate::{AuditContext, OperationRecord, StoreError};

const RECORD: &str = concat!(
    "INSERT INTO operations (operator, action, run_id, reason, details) VALUES ($1, $2, $3, $4, ",
    as_json!("$5"),
    ")"
);
const LATEST: &str = "
    SELECT operator, action, run_id, reason, CAST(details AS text) AS details, done_at FROM operations
    WHERE CAST($1 AS text) IS NULL OR run_id = $1 ORDER BY id DESC LIMIT $2";

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

pub(crate) async fn latest(
    pool: &Pool,
    run_id: Option<&RunId>,
    limit: u32,
) -> Result<Vec<OperationRecord>, StoreError> {
    let query = sqlx::query(LATEST).bind(run_id.map(RunId::as_str)).bind(i64::from(limit));
    rows(pool, READING, query).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<OperationRecord, StoreError> {
    let unreadable = |what: &str| StoreError::configuration(format!("an operation has {what} that cannot be read"));
    let run_id: Option<String> = row.try_get("run_id")?;
    let details: Option<String> = row.try_get("details")?;
    Ok(OperationRecord {
        operator: row.try_get("operator")?,
        action: row.try_get("action")?,
        run_id: run_id.map(|run_id| run_id.parse()).transpose().map_err(|_| unreadable("a run"))?,
        reason: row.try_get("reason")?,
        details: details.map(|json| serde_json::from_str(&json)).transpose().map_err(|_| unreadable("details"))?,
        done_at: row.try_get::<DateTime<Utc>, _>("done_at")?.into(),
    })
}

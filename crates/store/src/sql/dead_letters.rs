//! Messages that the broker gave up, or that could not be read.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use uuid::Uuid;

use super::dialect::{Pool, Row, key, now};
use crate::screening::storable;
use crate::session::unsigned;
use crate::{DeadLetter, DeadLetterOutcome, DeadLetterRecord, StoreError};

/// Those that keep their run from being complete.
macro_rules! is_blocking {
    () => {
        "outcome IN ('unreadable', 'refused') AND resolved_at IS NULL"
    };
}

const RECORD: &str = "
    INSERT INTO dead_letters (key, queue, message_id, message_type, run_id, reason, attempt, body, outcome)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (key) DO NOTHING";
const LATEST: &str = "
    SELECT id, queue, message_id, message_type, run_id, reason, attempt, body, outcome, received_at, resolved_at
    FROM dead_letters WHERE CAST($1 AS text) IS NULL OR run_id = $1 ORDER BY id DESC LIMIT $2";
const BLOCKING: &str = concat!("SELECT count(*) FROM dead_letters WHERE run_id = $1 AND ", is_blocking!());
const RESOLVE: &str =
    concat!("UPDATE dead_letters SET resolved_at = ", now!(), " WHERE run_id = $1 AND ", is_blocking!());

pub(super) async fn record(pool: &Pool, letter: &DeadLetter) -> Result<bool, StoreError> {
    let text = |text: &str| storable(text.into()).into_owned();
    let done = sqlx::query(RECORD)
        .bind(key(identity(letter)))
        .bind(text(&letter.queue))
        .bind(letter.message_id.as_deref().map(text))
        .bind(letter.message_type.as_deref().map(text))
        .bind(letter.run_id.as_deref().map(text))
        .bind(text(&letter.reason))
        .bind(i64::from(letter.attempt))
        .bind(letter.body.as_slice())
        .bind(letter.outcome.as_str())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What makes two letters the same one: where it was, and what it said under which name.
fn identity(letter: &DeadLetter) -> Uuid {
    let id = letter.message_id.as_deref().unwrap_or_default();
    let mut text = format!("{}:{}{}:{id}", letter.queue.len(), letter.queue, id.len()).into_bytes();
    text.extend_from_slice(&letter.body);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, &text)
}

pub(super) async fn latest(
    pool: &Pool,
    run_id: Option<&RunId>,
    limit: u32,
) -> Result<Vec<DeadLetterRecord>, StoreError> {
    let rows = sqlx::query(LATEST).bind(run_id.map(RunId::as_str)).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DeadLetterRecord, StoreError> {
    let outcome: String = row.try_get("outcome")?;
    let outcome = DeadLetterOutcome::from_stored(&outcome).ok_or_else(|| {
        StoreError::configuration(format!("a dead letter has the outcome `{outcome}`, which this version cannot read"))
    })?;
    Ok(DeadLetterRecord {
        id: unsigned(row.try_get("id")?),
        letter: DeadLetter {
            queue: row.try_get("queue")?,
            message_id: row.try_get("message_id")?,
            message_type: row.try_get("message_type")?,
            run_id: row.try_get("run_id")?,
            reason: row.try_get("reason")?,
            attempt: u32::try_from(row.try_get::<i64, _>("attempt")?).unwrap_or(u32::MAX),
            body: row.try_get("body")?,
            outcome,
        },
        received_at: row.try_get::<DateTime<Utc>, _>("received_at")?.into(),
        resolved_at: row.try_get::<Option<DateTime<Utc>>, _>("resolved_at")?.map(Into::into),
    })
}

pub(super) async fn blocking(pool: &Pool, run_id: &RunId) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(BLOCKING).bind(run_id.as_str()).fetch_one(pool).await?;
    Ok(unsigned(count))
}

pub(super) async fn resolve(pool: &Pool, run_id: &RunId) -> Result<u64, StoreError> {
    Ok(sqlx::query(RESOLVE).bind(run_id.as_str()).execute(pool).await?.rows_affected())
}

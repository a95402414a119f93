//! Dead letters: messages that the broker gave up, or that could not be read.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use uuid::Uuid;

use super::dialect::{Pool, READING, Row, WRITING, as_json, clock, json_elements, key};
use super::{ask, rows};
use crate::values::{NO_BYTES, signed, storable, to_json, unsigned};
use crate::{DeadLetter, DeadLetterOutcome, DeadLetterRecord, OpenDeadLetter, StoreError};

/// Dead letters that keep their run from being complete. One from before the run began belongs to another run of the
/// same name, which a restored database does not know.
macro_rules! is_blocking {
    () => {
        "outcome IN ('unreadable', 'refused') AND resolved_at IS NULL AND NOT EXISTS (SELECT 1 FROM runs \
         WHERE runs.run_id = dead_letters.run_id AND runs.started_at > dead_letters.received_at)"
    };
}
pub(crate) use is_blocking;

const RECORD: &str = "
    INSERT INTO dead_letters (key, queue, message_id, message_type, run_id, reason, attempt, body, outcome)
    VALUES ($1, $2, $3, $4, $5, $6, $7,
        CASE WHEN EXISTS (SELECT 1 FROM runs WHERE run_id = $5 AND removal_at IS NOT NULL) THEN $10 ELSE $8 END, $9)
    ON CONFLICT (key) DO NOTHING";
/// A known letter that comes again is unresolved again.
const AGAIN: &str = concat!(
    "UPDATE dead_letters SET times = times + 1, received_at = ",
    clock!(),
    ", resolved_at = NULL, reason = $2, attempt = $3, outcome = $4 WHERE key = $1"
);
const LATEST: &str = "
    SELECT id, queue, message_id, message_type, run_id, reason, attempt, body, outcome, received_at, resolved_at
    FROM dead_letters WHERE CAST($1 AS text) IS NULL OR run_id = $1 ORDER BY id DESC LIMIT $2";
pub(crate) const BLOCKING: &str = concat!("SELECT count(*) FROM dead_letters WHERE run_id = $1 AND ", is_blocking!());
const OPEN: &str = concat!("SELECT id, times FROM dead_letters WHERE run_id = $1 AND ", is_blocking!(), " ORDER BY id");
/// $1 is a JSON array of ids, each with how often the letter had come.
const RESOLVE: &str = concat!(
    "UPDATE dead_letters SET resolved_at = ",
    clock!(),
    " WHERE ",
    is_blocking!(),
    " AND EXISTS (SELECT 1 FROM ",
    json_elements!(as_json!("$1")),
    " WHERE CAST(element.value->>0 AS bigint) = dead_letters.id AND CAST(element.value->>1 AS bigint) = dead_letters.times)"
);
/// Parts of a replay that are dead letters (messages `run/replay/part`, each counted once) and not recorded.
const GIVEN_UP: &str = "
    SELECT count(DISTINCT message_id) FROM dead_letters WHERE run_id = $1
        AND substr(message_id, 1, length(CAST($2 AS text))) = $2
        AND length(message_id) > length(CAST($2 AS text))
        AND rtrim(substr(message_id, length(CAST($2 AS text)) + 1), '0123456789') = ''
        AND NOT EXISTS (SELECT 1 FROM replay_parts p WHERE p.run_id = $1 AND p.replay = $3
            AND message_id = CAST($2 AS text) || CAST(p.part AS text))";

pub(crate) async fn record(pool: &Pool, letter: &DeadLetter) -> Result<bool, StoreError> {
    let text = |text: &str| storable(text.into()).into_owned();
    // The letters of a removed run keep no body.
    let mut transaction = pool.begin_with(WRITING).await?;
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
        .bind(NO_BYTES)
        .execute(&mut *transaction)
        .await?;
    let is_new = done.rows_affected() == 1;
    if !is_new {
        sqlx::query(AGAIN)
            .bind(key(identity(letter)))
            .bind(text(&letter.reason))
            .bind(i64::from(letter.attempt))
            .bind(letter.outcome.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(is_new)
}

/// Two letters are the same if queue, message id and body are.
fn identity(letter: &DeadLetter) -> Uuid {
    let id = letter.message_id.as_deref().unwrap_or_default();
    let mut text = format!("{}:{}{}:{id}", letter.queue.len(), letter.queue, id.len()).into_bytes();
    text.extend_from_slice(&letter.body);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, &text)
}

pub(crate) async fn latest(
    pool: &Pool,
    run_id: Option<&RunId>,
    limit: u32,
) -> Result<Vec<DeadLetterRecord>, StoreError> {
    let query = sqlx::query(LATEST).bind(run_id.map(RunId::as_str)).bind(i64::from(limit));
    rows(pool, READING, query).await?.iter().map(read).collect()
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

pub(crate) async fn blocking(pool: &Pool, run_id: &RunId) -> Result<u64, StoreError> {
    let count: i64 =
        ask(pool, READING, async |reading| sqlx::query_scalar(BLOCKING).bind(run_id.as_str()).fetch_one(reading).await)
            .await?;
    Ok(unsigned(count))
}

pub(crate) async fn open(pool: &Pool, run_id: &RunId) -> Result<Vec<OpenDeadLetter>, StoreError> {
    let letters: Vec<(i64, i64)> =
        ask(pool, READING, async |reading| sqlx::query_as(OPEN).bind(run_id.as_str()).fetch_all(reading).await).await?;
    Ok(letters.into_iter().map(|(id, times)| OpenDeadLetter { id: unsigned(id), times: unsigned(times) }).collect())
}

pub(crate) async fn resolve(pool: &Pool, letters: &[OpenDeadLetter]) -> Result<u64, StoreError> {
    if letters.is_empty() {
        return Ok(0);
    }
    let letters: Vec<(u64, u64)> = letters.iter().map(|letter| (letter.id, letter.times)).collect();
    let mut transaction = pool.begin_with(WRITING).await?;
    let done = sqlx::query(RESOLVE).bind(to_json(&letters)?).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

pub(crate) async fn given_up(pool: &Pool, run_id: &RunId, replay: u64) -> Result<u64, StoreError> {
    let parts: i64 = ask(pool, READING, async |reading| {
        sqlx::query_scalar(GIVEN_UP)
            .bind(run_id.as_str())
            .bind(format!("{run_id}/{replay}/"))
            .bind(signed(replay))
            .fetch_one(reading)
            .await
    })
    .await?;
    Ok(unsigned(parts))
}

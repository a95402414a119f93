//! The replays of a run, and the counts of their parts. `crate::write::replay` writes the rows.

use assay_transaction::RunId;
use chrono::{DateTime, Utc};

use super::dialect::{Pool, READING, WRITING};
use super::{ask, journal, runs, stop_orders};
use crate::values::{signed, unsigned};
use crate::{AuditContext, EarlierFailure, ReplayCounts, StoreError};

const BEGIN: &str = "
    INSERT INTO replays (run_id, replay)
    SELECT CAST($1 AS text), coalesce(max(replay), 0) + 1 FROM replays WHERE run_id = $1 RETURNING replay";
const REPLAYED: &str = "
    SELECT count(*), CAST(coalesce(sum(stored), 0) AS bigint), CAST(coalesce(sum(failed), 0) AS bigint),
        CAST(coalesce(sum(gone), 0) AS bigint)
    FROM replay_parts WHERE run_id = $1 AND replay = $2";

const EARLIER_FAILURES: &str = "
    SELECT replay, class, reason, attempts, replayed_at FROM row_history WHERE run_id = $1 AND row_number = $2
    ORDER BY replay";

pub(crate) async fn begin(
    pool: &Pool,
    run_id: &RunId,
    details: &serde_json::Value,
    audit: &AuditContext,
) -> Result<u64, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    // Of two concurrent replays, the second waits here, and then sees the number of the first.
    if runs::locked_run(&mut transaction, run_id).await?.is_none() {
        return Err(stop_orders::unknown(run_id));
    }
    let replay: i64 = sqlx::query_scalar(BEGIN).bind(run_id.as_str()).fetch_one(&mut *transaction).await?;
    journal::record(&mut transaction, "replay", Some(run_id), Some(details), audit).await?;
    transaction.commit().await?;
    Ok(unsigned(replay))
}

pub(crate) async fn replayed(pool: &Pool, run_id: &RunId, replay: u64) -> Result<(u64, ReplayCounts), StoreError> {
    let (parts, stored, failed, gone): (i64, i64, i64, i64) = ask(pool, READING, async |reading| {
        sqlx::query_as(REPLAYED).bind(run_id.as_str()).bind(signed(replay)).fetch_one(reading).await
    })
    .await?;
    let sum = ReplayCounts { is_new: false, stored: unsigned(stored), failed: unsigned(failed), gone: unsigned(gone) };
    Ok((unsigned(parts), sum))
}

pub(crate) async fn earlier_failures(pool: &Pool, run_id: &RunId, row: u64) -> Result<Vec<EarlierFailure>, StoreError> {
    let kept: Vec<(i64, String, String, i64, DateTime<Utc>)> = ask(pool, READING, async |reading| {
        sqlx::query_as(EARLIER_FAILURES).bind(run_id.as_str()).bind(signed(row)).fetch_all(reading).await
    })
    .await?;
    let failure = |(replay, class, reason, attempts, replayed_at): (i64, String, String, i64, DateTime<Utc>)| {
        let (replay, attempts, replayed_at) = (unsigned(replay), unsigned(attempts), replayed_at.into());
        EarlierFailure { replay, class, reason, attempts, replayed_at }
    };
    Ok(kept.into_iter().map(failure).collect())
}

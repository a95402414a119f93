//! Runs and chunks: checkpoint, seal and end of a run, and lists. `begin` says how a run begins.

use assay_transaction::{Checkpoint, RowRange, Run, RunId, RunState, SealedTotals};
use sqlx::Row as _;

use super::dialect::{
    Connection, Pool, Query, READING, WRITING, as_amount, clock, for_update, millis_since, now, queue_up, seconds_ago,
};
use super::run_row::{self, run_columns, stop_kind};
use super::{ask, leases, rows};
use crate::ledger::first_gap::FirstGaps;
use crate::ledger::sealing::{end_state, settled_seal};
use crate::values::{signed, storable, unsigned};
use crate::{Lease, OpenRun, RecordedChunk, RecordedProgress, RunPace, SealOutcome, StoreError};

const BY_ID: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE run_id = $1");
const BY_ID_LOCKED: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE run_id = $1", for_update!());
const LATEST: &str = concat!("SELECT ", run_columns!(), " FROM runs ORDER BY started_at DESC, run_id DESC LIMIT $1");
const LATEST_OF: &str = concat!(
    "SELECT ",
    run_columns!(),
    " FROM runs WHERE source_location = $2 ORDER BY started_at DESC, run_id DESC LIMIT $1"
);
const OPEN: &str = concat!(
    "SELECT ",
    run_columns!(),
    ", CASE WHEN lease_until > ",
    clock!(),
    " THEN lease_holder END AS held_by FROM runs WHERE finished_at IS NULL ORDER BY run_id"
);
const CHECKPOINT: &str = concat!(
    "UPDATE runs SET checkpoint_chunk = $4, checkpoint_row = $5, checkpoint_line = $6, checkpoint_offset = $7, ",
    "checkpoint_invalid = $8, checkpoint_amount = ",
    as_amount!("$9"),
    ", checkpoint_other = $10 WHERE run_id = $1 AND lease_holder = $2 AND lease_epoch = $3 AND state = 'loading' AND checkpoint_chunk < $4"
);
const SEAL: &str = concat!(
    "UPDATE runs SET state = 'sealed', rows_read = $2, chunks_total = $3, ",
    "error = coalesce(CAST($4 AS text), stop_reason), ",
    "source_key = CASE WHEN CAST($4 AS text) IS NULL AND stop_kind IS NULL THEN source_key END, amount_read = ",
    as_amount!("$5"),
    ", lease_holder = NULL, lease_until = NULL WHERE run_id = $1"
);
const LAST_CHUNK: &str = "SELECT chunk, first_row, rows FROM chunks WHERE run_id = $1 ORDER BY chunk DESC LIMIT 1";
const STATE: &str = "SELECT state, chunks_total FROM runs WHERE run_id = $1";
const TO_CLOSE: &str =
    concat!("SELECT state, chunks_total, error, stop_kind FROM runs WHERE run_id = $1", for_update!());
const FINISH: &str = concat!(
    "UPDATE runs SET state = $2, finished_at = ",
    now!(),
    ", source_key = CASE WHEN $2 = 'complete' THEN source_key END WHERE run_id = $1"
);
/// The first missing chunk from $2 on.
const FIRST_GAP: &str = "
    SELECT CASE
        WHEN NOT EXISTS (SELECT 1 FROM chunks WHERE run_id = $1 AND chunk = CAST($2 AS bigint)) THEN CAST($2 AS bigint)
        ELSE (SELECT c.chunk + 1 FROM chunks c WHERE c.run_id = $1 AND c.chunk >= CAST($2 AS bigint)
            AND NOT EXISTS (SELECT 1 FROM chunks following WHERE following.run_id = $1 AND following.chunk = c.chunk + 1)
            ORDER BY c.chunk LIMIT 1)
    END";
const CHUNKS_BELOW: &str = "SELECT count(*) FROM chunks WHERE run_id = $1 AND chunk < $2";
const RECORDED_FROM: &str =
    "SELECT chunk, first_row, rows FROM chunks WHERE run_id = $1 AND chunk >= $2 ORDER BY chunk LIMIT $3";
const PROGRESS: &str = "SELECT count(*), CAST(coalesce(sum(rows), 0) AS bigint) FROM chunks WHERE run_id = $1";
const PACE: &str = concat!(
    "SELECT CAST(coalesce(sum(rows), 0) AS bigint), coalesce(",
    millis_since!("min(recorded_at)"),
    ", 0) FROM chunks WHERE run_id = $1 AND recorded_at >= ",
    seconds_ago!("$2")
);

const FAILED_SHARE: &str = "
    SELECT (SELECT count(*) FROM failed_transactions WHERE run_id = $1),
        (SELECT CAST(coalesce(sum(rows), 0) AS bigint) FROM chunks WHERE run_id = $1)";

pub(crate) async fn checkpoint(pool: &Pool, lease: &Lease, at: Checkpoint) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let moved = sqlx::query(CHECKPOINT)
        .bind(lease.run_id.as_str())
        .bind(&lease.owner)
        .bind(signed(lease.epoch))
        .bind(signed(at.chunk))
        .bind(signed(at.at.row))
        .bind(signed(at.at.line))
        .bind(signed(at.at.offset))
        .bind(signed(at.counted.invalid))
        .bind(at.counted.amount.to_string())
        .bind(signed(at.counted.other_reading))
        .execute(&mut *transaction)
        .await?;
    if moved.rows_affected() == 0 {
        // It was further already, or this loader lost its lease.
        leases::check(&mut transaction, lease).await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(crate) async fn seal(
    pool: &Pool,
    lease: &Lease,
    sealed: SealedTotals,
    error: Option<&str>,
) -> Result<SealOutcome, StoreError> {
    let run_id = &lease.run_id;
    let mut transaction = pool.begin_with(WRITING).await?;
    let Some(run) = locked_run(&mut transaction, run_id).await? else {
        return Err(StoreError::transient(format!("run {run_id} is not in the ledger")));
    };
    if !run.sealed.is_some_and(|before| before.ends_like(sealed)) {
        // A repeated seal, whose commit was not confirmed, has ended the lease itself.
        leases::check(&mut transaction, lease).await?;
    }
    let last = last_chunk(&mut transaction, run_id).await?;
    if let Some(already) = settled_seal(&run, sealed, last)? {
        return Ok(already);
    }
    put_seal(&mut transaction, run_id, sealed, error).await?;
    transaction.commit().await?;
    Ok(SealOutcome::Done)
}

pub(crate) async fn by_id(connection: &mut Connection, run_id: &RunId) -> Result<Option<Run>, StoreError> {
    find(connection, sqlx::query(BY_ID).bind(run_id.as_str())).await
}

/// A run, locked until the transaction ends.
pub(crate) async fn locked_run(connection: &mut Connection, run_id: &RunId) -> Result<Option<Run>, StoreError> {
    queue_up(connection, run_id.as_str()).await?;
    find(connection, sqlx::query(BY_ID_LOCKED).bind(run_id.as_str())).await
}

/// The last recorded chunk of a locked run. A new statement, and so a new snapshot: it sees chunks of writers that
/// held the run before.
pub(crate) async fn last_chunk(
    connection: &mut Connection,
    run_id: &RunId,
) -> Result<Option<RecordedChunk>, StoreError> {
    let last: Option<(i64, i64, i64)> =
        sqlx::query_as(LAST_CHUNK).bind(run_id.as_str()).fetch_optional(connection).await?;
    Ok(last.map(recorded))
}

/// Seals a locked run.
pub(crate) async fn put_seal(
    connection: &mut Connection,
    run_id: &RunId,
    sealed: SealedTotals,
    error: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(SEAL)
        .bind(run_id.as_str())
        .bind(signed(sealed.rows_read))
        .bind(signed(sealed.chunks_total))
        .bind(error.map(|error| storable(error.into())))
        .bind(sealed.amount.map(|amount| amount.to_string()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn close_run(pool: &Pool, run_id: &RunId) -> Result<RunState, StoreError> {
    // First without a lock: while a run is loading, nothing has to wait.
    let mut reading = pool.begin_with(READING).await?;
    // Without its settings, which a newer version may have written.
    let found: Option<(String, Option<i64>)> =
        sqlx::query_as(STATE).bind(run_id.as_str()).fetch_optional(&mut *reading).await?;
    let Some((state, total)) = found else { return Ok(RunState::Loading) };
    let state = read_state(&state)?;
    // The same while chunks are missing: the writer that records the last one calls this afterwards, and sees them
    // all.
    if state != RunState::Sealed || is_short(&mut reading, &pool.gaps, run_id, total).await? {
        return Ok(state);
    }
    reading.commit().await?;
    let mut transaction = pool.begin_with(WRITING).await?;
    let (state, total, error, stop): (String, Option<i64>, Option<String>, Option<String>) =
        sqlx::query_as(TO_CLOSE).bind(run_id.as_str()).fetch_one(&mut *transaction).await?;
    if state != RunState::Sealed.as_str() {
        return read_state(&state);
    }
    // A new statement, and so a new snapshot: it sees every chunk recorded before the lock was granted. Of two
    // writers that record the last two chunks, the later one sees both.
    let recorded: i64 =
        sqlx::query_scalar(CHUNKS_BELOW).bind(run_id.as_str()).bind(total).fetch_one(&mut *transaction).await?;
    pool.gaps.forget(run_id);
    if Some(recorded) != total {
        return Ok(RunState::Sealed);
    }
    let end = end_state(error.as_deref(), stop.as_deref().map(stop_kind).transpose()?);
    sqlx::query(FINISH).bind(run_id.as_str()).bind(end.as_str()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(end)
}

/// The name of a run, as the ledger has it.
pub(crate) fn read_name(name: &str) -> Result<RunId, StoreError> {
    name.parse().map_err(|_| StoreError::configuration("a run has a name that this version cannot read"))
}

fn read_state(state: &str) -> Result<RunState, StoreError> {
    state.parse().map_err(|error| StoreError::configuration(format!("{error}")))
}

/// Whether a sealed run misses a chunk: the one that was missing when this process looked last, or a later one.
async fn is_short(
    connection: &mut Connection,
    gaps: &FirstGaps,
    run_id: &RunId,
    total: Option<i64>,
) -> Result<bool, StoreError> {
    let total = total.unwrap_or_default();
    let gap: i64 =
        sqlx::query_scalar(FIRST_GAP).bind(run_id.as_str()).bind(gaps.of(run_id)).fetch_one(connection).await?;
    if gap < total {
        gaps.found(run_id, gap);
    }
    Ok(gap < total)
}

pub(crate) async fn runs(pool: &Pool, location: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
    let query = sqlx::query(if location.is_some() { LATEST_OF } else { LATEST }).bind(i64::from(limit));
    let query = location.into_iter().fold(query, Query::bind);
    Ok(rows(pool, READING, query).await?.iter().filter_map(run_row::readable).collect())
}

pub(crate) async fn open_runs(pool: &Pool) -> Result<Vec<OpenRun>, StoreError> {
    let rows = rows(pool, READING, sqlx::query(OPEN)).await?;
    rows.iter()
        .filter_map(|row| run_row::readable(row).map(|run| Ok(OpenRun { run, held_by: row.try_get("held_by")? })))
        .collect()
}

pub(crate) async fn progress(connection: &mut Connection, run_id: &RunId) -> Result<RecordedProgress, StoreError> {
    let (chunks, rows): (i64, i64) = sqlx::query_as(PROGRESS).bind(run_id.as_str()).fetch_one(connection).await?;
    Ok(RecordedProgress { chunks_recorded: unsigned(chunks), rows_recorded: unsigned(rows) })
}

pub(crate) async fn failed_share(pool: &Pool, run_id: &RunId) -> Result<(u64, u64), StoreError> {
    let (failed, rows): (i64, i64) =
        ask(pool, READING, async |reading| sqlx::query_as(FAILED_SHARE).bind(run_id.as_str()).fetch_one(reading).await)
            .await?;
    Ok((unsigned(failed), unsigned(rows)))
}

pub(crate) async fn pace(
    connection: &mut Connection,
    run_id: &RunId,
    window_seconds: u32,
) -> Result<RunPace, StoreError> {
    let (rows, millis): (i64, i64) =
        sqlx::query_as(PACE).bind(run_id.as_str()).bind(f64::from(window_seconds)).fetch_one(connection).await?;
    Ok(RunPace { rows: unsigned(rows), millis: unsigned(millis) })
}

pub(crate) async fn recorded_from(
    connection: &mut Connection,
    run_id: &RunId,
    chunk: u64,
    limit: u32,
) -> Result<Vec<RecordedChunk>, StoreError> {
    let query = sqlx::query_as(RECORDED_FROM).bind(run_id.as_str()).bind(signed(chunk)).bind(i64::from(limit));
    let chunks: Vec<(i64, i64, i64)> = query.fetch_all(connection).await?;
    Ok(chunks.into_iter().map(recorded).collect())
}

fn recorded((chunk, first_row, rows): (i64, i64, i64)) -> RecordedChunk {
    RecordedChunk { chunk: unsigned(chunk), range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) } }
}

pub(crate) async fn find(connection: &mut Connection, query: Query<'_>) -> Result<Option<Run>, StoreError> {
    query.fetch_optional(connection).await?.as_ref().map(run_row::read).transpose()
}

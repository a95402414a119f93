//! Runs and chunks, and what became of the rows of a run.

use assay_transaction::{Checkpoint, RowRange, Run, RunId, RunState, Sealed, SourceIdentity, Tally};
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqliteExecutor};

use crate::ledger::{BEGIN_ATTEMPTS, RunRow, end_state, is_to_seal, of_same_id, of_same_source, source_key};
use crate::session::{signed, unsigned};
use crate::{Begun, NewRun, PredictionCount, Progress, RecordedChunk, StoreError};

/// The columns of a run, as `read` takes them.
macro_rules! run_columns {
    () => {
        "run_id, source_location, source_version, state, settings, checkpoint_chunk, checkpoint_row, \
         checkpoint_line, checkpoint_offset, rows_read, chunks_total, error, started_at, finished_at"
    };
}

const BEGIN: &str = concat!(
    "INSERT INTO runs (run_id, source_location, source_version, source_key, settings) VALUES ($1, $2, $3, $4, $5) ",
    "ON CONFLICT DO NOTHING RETURNING ",
    run_columns!()
);
const BY_SOURCE: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE source_key = $1");
const BY_ID: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE run_id = $1");
const CHECKPOINT: &str = "
    UPDATE runs SET checkpoint_chunk = $2, checkpoint_row = $3, checkpoint_line = $4, checkpoint_offset = $5
    WHERE run_id = $1 AND checkpoint_chunk < $2";
const SEAL: &str = "
    UPDATE runs SET state = 'sealed', rows_read = $2, chunks_total = $3, error = $4,
        source_key = CASE WHEN $4 IS NULL THEN source_key END
    WHERE run_id = $1";
const LAST_CHUNK: &str = "SELECT chunk, first_row, rows FROM chunks WHERE run_id = $1 ORDER BY chunk DESC LIMIT 1";
const FINISH: &str = "
    UPDATE runs SET state = $2, finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), source_key = CASE WHEN $2 = 'complete' THEN source_key END
    WHERE run_id = $1";

/// A transaction without its prediction does not count: the law is to notice.
const TALLY: &str = "
    SELECT
        (SELECT count(*) FROM transactions t JOIN predictions p ON p.transaction_id = t.id WHERE t.run_id = $1),
        (SELECT count(*) FROM invalid_transactions WHERE run_id = $1),
        (SELECT count(*) FROM failed_transactions WHERE run_id = $1),
        (SELECT coalesce(sum(json_array_length(duplicate_rows)), 0) FROM chunks
            WHERE run_id = $1 AND duplicate_rows IS NOT NULL)";
const PREDICTIONS: &str = "
    SELECT p.prediction, count(*), avg(p.fraud_score)
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id
    WHERE t.run_id = $1 GROUP BY p.prediction ORDER BY count(*) DESC, p.prediction";
/// Invalid rows by reason.
pub(crate) const INVALID: &str = "
    SELECT reason, count(*) FROM invalid_transactions WHERE run_id = $1 GROUP BY reason ORDER BY count(*) DESC, reason";
/// Failed transactions by class.
pub(crate) const FAILED: &str = "
    SELECT class, count(*) FROM failed_transactions WHERE run_id = $1 GROUP BY class ORDER BY count(*) DESC, class";

pub(crate) async fn begin_run(pool: &SqlitePool, new: &NewRun) -> Result<Begun, StoreError> {
    let key = source_key(&new.source);
    let settings = serde_json::to_string(&new.settings).map_err(|error| StoreError::data(error.to_string()))?;
    for _ in 0..BEGIN_ATTEMPTS {
        let started = sqlx::query(BEGIN)
            .bind(new.run_id.as_str())
            .bind(&new.source.location)
            .bind(&new.source.version)
            .bind((!new.force).then(|| key.to_string()))
            .bind(&settings)
            .fetch_optional(pool)
            .await?;
        if let Some(row) = started {
            return Ok(Begun::Started(read(&row)?));
        }
        if !new.force
            && let Some(run) = find(pool, sqlx::query(BY_SOURCE).bind(key.to_string())).await?
        {
            return Ok(of_same_source(run));
        }
        if let Some(run) = find(pool, sqlx::query(BY_ID).bind(new.run_id.as_str())).await? {
            return of_same_id(new, run);
        }
        // What was in the way a moment ago has failed meanwhile, and gave the source free.
    }
    Err(StoreError::transient(format!("run {} cannot begin: others are beginning it too", new.run_id)))
}

pub(crate) async fn checkpoint(pool: &SqlitePool, run_id: &RunId, at: Checkpoint) -> Result<(), StoreError> {
    sqlx::query(CHECKPOINT)
        .bind(run_id.as_str())
        .bind(signed(at.chunk))
        .bind(signed(at.row))
        .bind(signed(at.line))
        .bind(signed(at.offset))
        .execute(pool)
        .await?;
    Ok(())
}

pub(crate) async fn seal(
    pool: &SqlitePool,
    run_id: &RunId,
    sealed: Sealed,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let Some(run) = find(&mut *transaction, sqlx::query(BY_ID).bind(run_id.as_str())).await? else {
        return Err(StoreError::transient(format!("run {run_id} is not in the ledger")));
    };
    // The file has one writer at a time, and now that is us.
    let last: Option<(i64, i64, i64)> =
        sqlx::query_as(LAST_CHUNK).bind(run_id.as_str()).fetch_optional(&mut *transaction).await?;
    if is_to_seal(&run, sealed, last.map(recorded))? {
        sqlx::query(SEAL)
            .bind(run_id.as_str())
            .bind(signed(sealed.rows_read))
            .bind(signed(sealed.chunks_total))
            .bind(error.map(|error| crate::screening::storable(error.into())))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

pub(crate) async fn close_run(pool: &SqlitePool, run_id: &RunId) -> Result<RunState, StoreError> {
    // First without a lock: while a run is loading, nobody has to wait for anybody.
    match run(pool, run_id).await? {
        Some(run) if run.state == RunState::Sealed => {}
        Some(run) => return Ok(run.state),
        None => return Ok(RunState::Loading),
    }
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let (state, total, error): (String, Option<i64>, Option<String>) =
        sqlx::query_as("SELECT state, chunks_total, error FROM runs WHERE run_id = $1")
            .bind(run_id.as_str())
            .fetch_one(&mut *transaction)
            .await?;
    if state != RunState::Sealed.as_str() {
        return read_state(&state);
    }
    // The file has one writer at a time, and now that is us.
    let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM chunks WHERE run_id = $1 AND chunk < $2")
        .bind(run_id.as_str())
        .bind(total)
        .fetch_one(&mut *transaction)
        .await?;
    if Some(recorded) != total {
        return Ok(RunState::Sealed);
    }
    let end = end_state(error.as_deref());
    sqlx::query(FINISH).bind(run_id.as_str()).bind(end.as_str()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(end)
}

pub(crate) async fn open_runs(pool: &SqlitePool) -> Result<Vec<RunId>, StoreError> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT run_id FROM runs WHERE state = 'sealed' ORDER BY run_id").fetch_all(pool).await?;
    names.iter().map(|name| name.parse().map_err(|error| StoreError::configuration(format!("{error}")))).collect()
}

pub(crate) async fn run(pool: &SqlitePool, run_id: &RunId) -> Result<Option<Run>, StoreError> {
    find(pool, sqlx::query(BY_ID).bind(run_id.as_str())).await
}

pub(crate) async fn progress(pool: &SqlitePool, run_id: &RunId) -> Result<Progress, StoreError> {
    let (chunks, rows): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(sum(rows), 0) FROM chunks WHERE run_id = $1")
            .bind(run_id.as_str())
            .fetch_one(pool)
            .await?;
    Ok(Progress { chunks_recorded: unsigned(chunks), rows_recorded: unsigned(rows) })
}

pub(crate) async fn recorded_from(
    pool: &SqlitePool,
    run_id: &RunId,
    chunk: u64,
    limit: u32,
) -> Result<Vec<RecordedChunk>, StoreError> {
    let chunks: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT chunk, first_row, rows FROM chunks WHERE run_id = $1 AND chunk >= $2 ORDER BY chunk LIMIT $3",
    )
    .bind(run_id.as_str())
    .bind(signed(chunk))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    Ok(chunks.into_iter().map(recorded).collect())
}

fn recorded((chunk, first_row, rows): (i64, i64, i64)) -> RecordedChunk {
    RecordedChunk { chunk: unsigned(chunk), range: RowRange { first_row: unsigned(first_row), rows: unsigned(rows) } }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

async fn find(executor: impl SqliteExecutor<'_>, query: Query<'_>) -> Result<Option<Run>, StoreError> {
    query.fetch_optional(executor).await?.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<Run, StoreError> {
    let source = SourceIdentity { location: row.try_get("source_location")?, version: row.try_get("source_version")? };
    RunRow {
        run_id: row.try_get("run_id")?,
        source,
        state: row.try_get("state")?,
        settings: row.try_get("settings")?,
        checkpoint: [
            row.try_get("checkpoint_chunk")?,
            row.try_get("checkpoint_row")?,
            row.try_get("checkpoint_line")?,
            row.try_get("checkpoint_offset")?,
        ],
        rows_read: row.try_get("rows_read")?,
        chunks_total: row.try_get("chunks_total")?,
        error: row.try_get("error")?,
        started_at: row.try_get::<DateTime<Utc>, _>("started_at")?,
        finished_at: row.try_get::<Option<DateTime<Utc>>, _>("finished_at")?,
    }
    .read()
}

fn read_state(state: &str) -> Result<RunState, StoreError> {
    state.parse().map_err(|error| StoreError::configuration(format!("{error}")))
}

pub(crate) async fn tally(pool: &SqlitePool, run_id: &RunId) -> Result<Tally, StoreError> {
    let (predicted, invalid, failed, duplicate): (i64, i64, i64, i64) =
        sqlx::query_as(TALLY).bind(run_id.as_str()).fetch_one(pool).await?;
    Ok(Tally {
        predicted: unsigned(predicted),
        invalid: unsigned(invalid),
        failed: unsigned(failed),
        duplicate: unsigned(duplicate),
    })
}

pub(crate) async fn predictions(pool: &SqlitePool, run_id: &RunId) -> Result<Vec<PredictionCount>, StoreError> {
    let counts: Vec<(String, i64, Option<f64>)> =
        sqlx::query_as(PREDICTIONS).bind(run_id.as_str()).fetch_all(pool).await?;
    let count = |(prediction, count, mean_score)| PredictionCount { prediction, count: unsigned(count), mean_score };
    Ok(counts.into_iter().map(count).collect())
}

pub(crate) async fn by_code(
    pool: &SqlitePool,
    run_id: &RunId,
    query: &'static str,
) -> Result<Vec<(String, u64)>, StoreError> {
    let counts: Vec<(String, i64)> = sqlx::query_as(query).bind(run_id.as_str()).fetch_all(pool).await?;
    Ok(counts.into_iter().map(|(code, count)| (code, unsigned(count))).collect())
}

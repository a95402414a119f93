//! How far runs are: each answer comes from one read-only transaction.

use assay_transaction::{Run, RunId, Tally};
use sqlx::Row as _;

use super::dead_letters::BLOCKING;
use super::dialect::{
    COUNTING, Connection, Pool, READING, Row, as_json, clock, json_elements, json_length, millis_since, seconds_ago,
};
use super::records::{read_endpoint, read_time};
use super::run_row::{self, run_columns};
use super::runs;
use super::{ask, counts, rows};
use crate::StoreError;
use crate::values::{to_json, unsigned};
use crate::{RunFilter, RunModel, RunOverview, TallySource};

const RUN: &str = concat!(
    "SELECT ",
    run_columns!(),
    ", CASE WHEN lease_until > ",
    clock!(),
    " THEN lease_holder END AS held_by, ",
    millis_since!("coalesce((SELECT max(recorded_at) FROM chunks WHERE chunks.run_id = runs.run_id), started_at)"),
    " AS quiet FROM runs WHERE run_id = $1"
);
/// Counts of each run of a JSON list, as chunks record them. Failed and invalid rows are counted themselves, as there are few of them as a rule.
const BOOKED: &str = concat!(
    "SELECT CAST(coalesce(sum(c.predicted), 0) AS bigint),
        (SELECT count(*) FROM invalid_transactions i WHERE i.run_id = listed.run_id),
        (SELECT count(*) FROM failed_transactions f WHERE f.run_id = listed.run_id),
        CAST(coalesce(sum(CASE WHEN c.duplicate_rows IS NOT NULL THEN ",
    json_length!("c.duplicate_rows"),
    " END), 0) AS bigint)
    FROM (SELECT element.value->>0 AS run_id, CAST(element.value->>1 AS bigint) AS place FROM ",
    json_elements!(as_json!("$1")),
    ") AS listed LEFT JOIN chunks c ON c.run_id = listed.run_id GROUP BY listed.run_id, listed.place ORDER BY listed.place"
);
/// $4 is a JSON list of states.
macro_rules! is_selected {
    () => {
        concat!(
            "(CAST($1 AS double precision) IS NULL OR started_at >= ",
            seconds_ago!("coalesce($1, 0)"),
            ") AND (CAST($2 AS text) IS NULL OR lower(source_location) LIKE $2 ESCAPE '!') ",
            "AND ($3 = 0 OR EXISTS (SELECT 1 FROM failed_transactions f WHERE f.run_id = runs.run_id)) ",
            "AND (CAST($4 AS text) IS NULL OR state IN (SELECT element.value->>0 FROM ",
            json_elements!(as_json!("$4")),
            "))"
        )
    };
}
const LISTED: &str = concat!(
    "SELECT ",
    run_columns!(),
    " FROM runs WHERE ",
    is_selected!(),
    " ORDER BY started_at DESC, run_id DESC LIMIT $5 OFFSET $6"
);
const COUNTED: &str = concat!("SELECT count(*) FROM runs WHERE ", is_selected!());

/// The models of a run, as far as a person reads.
const MODELS: &str = "
    SELECT m.model_version, e.url AS endpoint_url, e.features AS endpoint_features, m.first_at
    FROM run_models m LEFT JOIN model_endpoints e ON e.id = m.endpoint
    WHERE m.run_id = $1 ORDER BY m.first_at, m.model_version, m.endpoint LIMIT 20";

pub(crate) async fn overview(
    pool: &Pool,
    run_id: &RunId,
    window_seconds: u32,
    counting: TallySource,
) -> Result<Option<RunOverview>, StoreError> {
    let begin = match counting {
        TallySource::Rows => COUNTING,
        TallySource::Chunks => READING,
    };
    ask(pool, begin, async |reading| read(reading, run_id, window_seconds, counting).await).await
}

async fn read(
    connection: &mut Connection,
    run_id: &RunId,
    window_seconds: u32,
    counting: TallySource,
) -> Result<Option<RunOverview>, StoreError> {
    let Some(row) = sqlx::query(RUN).bind(run_id.as_str()).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let (tally, predictions) = match counting {
        TallySource::Rows => {
            let (tally, predictions) = counts::recount(connection, run_id).await?;
            (tally, Some(predictions))
        }
        TallySource::Chunks => (booked(connection, run_id).await?, None),
    };
    Ok(Some(RunOverview {
        run: run_row::read(&row)?,
        held_by: row.try_get("held_by")?,
        quiet_millis: unsigned(row.try_get("quiet")?),
        progress: runs::progress(connection, run_id).await?,
        pace: runs::pace(connection, run_id, window_seconds).await?,
        tally,
        invalid: counts::by_code(connection, run_id, counts::INVALID).await?,
        failed: counts::by_code(connection, run_id, counts::FAILED).await?,
        models: models(connection, run_id).await?,
        predictions,
        blocking: unsigned(sqlx::query_scalar(BLOCKING).bind(run_id.as_str()).fetch_one(connection).await?),
    }))
}

async fn models(connection: &mut Connection, run_id: &RunId) -> Result<Vec<RunModel>, StoreError> {
    let rows = sqlx::query(MODELS).bind(run_id.as_str()).fetch_all(connection).await?;
    let model = |row: &Row| {
        let version: String = row.try_get("model_version")?;
        Ok(RunModel {
            model_version: Some(version).filter(|version| !version.is_empty()),
            endpoint: read_endpoint(row)?,
            first_at: read_time(row, "first_at")?,
        })
    };
    rows.iter().map(model).collect()
}

/// The outcomes of a run's rows as its chunks record them.
pub(crate) async fn booked(connection: &mut Connection, run_id: &RunId) -> Result<Tally, StoreError> {
    Ok(all_booked(connection, std::slice::from_ref(run_id)).await?.pop().unwrap_or_default())
}

/// The same of several runs, in their order.
pub(crate) async fn all_booked(connection: &mut Connection, runs: &[RunId]) -> Result<Vec<Tally>, StoreError> {
    let listed: Vec<(&str, usize)> = runs.iter().enumerate().map(|(place, run)| (run.as_str(), place)).collect();
    let tallies: Vec<(i64, i64, i64, i64)> =
        sqlx::query_as(BOOKED).bind(to_json(&listed)?).fetch_all(connection).await?;
    Ok(tallies.into_iter().map(counts::tally).collect())
}

pub(crate) async fn list(pool: &Pool, filter: &RunFilter, skip: u32, limit: u32) -> Result<Vec<Run>, StoreError> {
    let query = sqlx::query(LISTED)
        .bind(filter.seconds)
        .bind(filter.pattern())
        .bind(i64::from(filter.has_failed))
        .bind(filter.states_json()?)
        .bind(i64::from(limit))
        .bind(i64::from(skip));
    Ok(rows(pool, READING, query).await?.iter().filter_map(run_row::readable).collect())
}

pub(crate) async fn count(pool: &Pool, filter: &RunFilter) -> Result<u64, StoreError> {
    let states = filter.states_json()?;
    let counting = async |reading: &mut Connection| {
        sqlx::query_scalar(COUNTED)
            .bind(filter.seconds)
            .bind(filter.pattern())
            .bind(i64::from(filter.has_failed))
            .bind(states)
            .fetch_one(reading)
            .await
    };
    let count: i64 = ask(pool, READING, counting).await?;
    Ok(unsigned(count))
}

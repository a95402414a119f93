//! How a run begins: one for each source, and one for each content.

use assay_transaction::RunSettings;
use sqlx::Row as _;
use uuid::Uuid;

use super::dialect::{Connection, Pool, READING, WRITING, as_json, clock, key, millis_until, queue_up, seconds_ahead};
use super::leases;
use super::migrations::ids;
use super::run_row::{read, run_columns};
use super::runs::{by_id, find};
use crate::ledger::begin::{BEGIN_ATTEMPTS, PriorRun, of_same_id, of_same_source, source_key};
use crate::values::{signed, to_json, unsigned};
use crate::{LeaseAttempt, NewRun, RunStart, StoreError};

const BEGIN: &str = concat!(
    "INSERT INTO runs (run_id, source_location, source_version, source_key, settings, source_bytes, lease_holder, ",
    "lease_epoch, lease_until, fingerprint) VALUES ($1, $2, $3, $4, ",
    as_json!("$5"),
    ", $6, $7, 1, ",
    seconds_ahead!("$8"),
    ", $9) ON CONFLICT DO NOTHING RETURNING lease_epoch, ",
    run_columns!()
);
const BY_SOURCE: &str = concat!("SELECT ", run_columns!(), " FROM runs WHERE source_key = $1");
/// A run with this content, loaded or being loaded, the furthest first. One without a live loader may never end.
const BY_CONTENT: &str = concat!(
    "SELECT lease_holder, CAST(coalesce(",
    millis_until!("lease_until"),
    ", 0) AS bigint) AS remaining, ",
    run_columns!(),
    " FROM runs WHERE fingerprint = $1 AND error IS NULL AND stop_kind IS NULL AND (state IN ('sealed', 'complete') ",
    "OR state = 'loading' AND lease_holder IS NOT NULL AND lease_until > ",
    clock!(),
    ") ORDER BY CASE state WHEN 'complete' THEN 0 WHEN 'sealed' THEN 1 ELSE 2 END, started_at, run_id LIMIT 1"
);

pub(crate) async fn begin_run(pool: &Pool, new: &NewRun) -> Result<RunStart, StoreError> {
    let source = source_key(&new.source);
    for _ in 0..BEGIN_ATTEMPTS {
        let mut transaction = pool.begin_with(WRITING).await?;
        if let Some(copy) = copy_in_the_way(&mut transaction, new, source).await? {
            return Ok(copy);
        }
        let settings = RunSettings { ids: ids(&mut transaction).await?, ..new.settings.clone() };
        let started = sqlx::query(BEGIN)
            .bind(new.run_id.as_str())
            .bind(&new.source.location)
            .bind(&new.source.version)
            .bind((!new.force).then(|| key(source)))
            .bind(to_json(&settings)?)
            .bind(new.source_bytes.map(signed))
            .bind(&new.owner)
            .bind(new.lease.as_secs_f64())
            .bind(&new.fingerprint)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(row) = started {
            let run = read(&row)?;
            let lease = leases::granted(&row, &run.run_id, &new.owner)?;
            transaction.commit().await?;
            return Ok(RunStart::Started(run, lease));
        }
        transaction.rollback().await?;
        let mut connection = pool.begin_with(READING).await?;
        let same_source =
            if new.force { None } else { find(&mut connection, sqlx::query(BY_SOURCE).bind(key(source))).await? };
        let prior = match same_source {
            Some(run) => Some(of_same_source(run)),
            None => by_id(&mut connection, &new.run_id).await?.map(|run| of_same_id(new, run)).transpose()?,
        };
        connection.commit().await?;
        match prior {
            Some(PriorRun::Loaded(run)) => return Ok(RunStart::AlreadyLoaded(run)),
            Some(PriorRun::Loading(run)) => match leases::take(pool, &run.run_id, &new.owner, new.lease).await? {
                LeaseAttempt::Granted(run, lease) => return Ok(RunStart::Resumed(run, lease)),
                LeaseAttempt::Held { run, by, remaining } => return Ok(RunStart::Held { run, by, remaining }),
                // It was sealed meanwhile, and may have freed its source.
                LeaseAttempt::NotLoading(_) => {}
            },
            None => {}
        }
        // The run in the way failed meanwhile, and freed the source.
    }
    Err(StoreError::transient(format!(
        "run {} cannot begin: other loaders are beginning it at the same time",
        new.run_id
    )))
}

/// The run of another source, or of another version, with the content of a new one. Concurrent transactions with the
/// same content wait here, so that one of two copies begins, and the other finds it.
async fn copy_in_the_way(
    connection: &mut Connection,
    new: &NewRun,
    source: Uuid,
) -> Result<Option<RunStart>, StoreError> {
    let Some(fingerprint) = new.fingerprint.as_deref().filter(|_| !new.force) else { return Ok(None) };
    queue_up(connection, fingerprint).await?;
    // A run is no copy of itself.
    if find(connection, sqlx::query(BY_SOURCE).bind(key(source))).await?.is_some() {
        return Ok(None);
    }
    copy_of(connection, fingerprint).await
}

pub(crate) async fn copy_of(connection: &mut Connection, fingerprint: &str) -> Result<Option<RunStart>, StoreError> {
    let Some(row) = sqlx::query(BY_CONTENT).bind(fingerprint).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let run = read(&row)?;
    let by: Option<String> = row.try_get("lease_holder")?;
    Ok(Some(match by {
        Some(by) => {
            let remaining = std::time::Duration::from_millis(unsigned(row.try_get("remaining")?));
            RunStart::Held { run, by, remaining }
        }
        None => RunStart::Copied(run),
    }))
}

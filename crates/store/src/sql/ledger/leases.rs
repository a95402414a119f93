//! Which loader owns a run. The database's clock decides, in single statements that commit at once: of two concurrent
//! loaders, one finds what the other left.

use std::time::Duration;

use assay_transaction::{RunId, RunState};
use sqlx::Row as _;

use super::dialect::{Connection, Pool, READING, Row, WRITING, clock, millis_until, seconds_ahead};
use super::operations::stop_orders::unknown;
use super::run_row::{self, run_columns};
use super::runs;
use crate::ledger::begin::BEGIN_ATTEMPTS;
use crate::values::{signed, unsigned};
use crate::{Lease, LeaseAttempt, LeaseRenewal, StoreError};

const TAKE: &str = concat!(
    "UPDATE runs SET lease_holder = $2, lease_epoch = lease_epoch + 1, lease_until = ",
    seconds_ahead!("$3"),
    " WHERE run_id = $1 AND state = 'loading' AND (lease_holder IS NULL OR lease_holder = $2 OR lease_until <= ",
    clock!(),
    ") RETURNING lease_epoch, ",
    run_columns!()
);
const HELD: &str = concat!(
    "SELECT lease_holder, ",
    millis_until!("lease_until"),
    " FROM runs WHERE run_id = $1 AND lease_holder IS NOT NULL AND lease_until > ",
    clock!()
);
const RENEW: &str = concat!(
    "UPDATE runs SET lease_until = ",
    seconds_ahead!("$4"),
    " WHERE run_id = $1 AND lease_holder = $2 AND lease_epoch = $3 AND state = 'loading' ",
    "RETURNING stop_kind, stop_reason, stop_at"
);
const RELEASE: &str = "
    UPDATE runs SET lease_holder = NULL, lease_until = NULL
    WHERE run_id = $1 AND lease_holder = $2 AND lease_epoch = $3";
const EVICT: &str = "
    UPDATE runs SET lease_holder = NULL, lease_until = NULL WHERE run_id = $1 AND lease_holder = $2";
const STATE_AND_LEASE: &str = "SELECT state, lease_holder, lease_epoch FROM runs WHERE run_id = $1";

pub(crate) async fn take(
    pool: &Pool,
    run_id: &RunId,
    owner: &str,
    lease: Duration,
) -> Result<LeaseAttempt, StoreError> {
    for _ in 0..BEGIN_ATTEMPTS {
        let mut transaction = pool.begin_with(WRITING).await?;
        let taken = sqlx::query(TAKE)
            .bind(run_id.as_str())
            .bind(owner)
            .bind(lease.as_secs_f64())
            .fetch_optional(&mut *transaction)
            .await?;
        transaction.commit().await?;
        if let Some(row) = taken {
            return Ok(LeaseAttempt::Granted(run_row::read(&row)?, granted(&row, run_id, owner)?));
        }
        let mut reading = pool.begin_with(READING).await?;
        let run = runs::by_id(&mut reading, run_id).await?.ok_or_else(|| unknown(run_id))?;
        if run.state != RunState::Loading {
            return Ok(LeaseAttempt::NotLoading(run));
        }
        if let Some((by, remaining)) = held(&mut reading, run_id).await? {
            return Ok(LeaseAttempt::Held { run, by, remaining });
        }
        reading.commit().await?;
        // It became free meanwhile.
    }
    Err(StoreError::transient(format!(
        "run {run_id} cannot be taken over: other loaders are taking it over at the same time"
    )))
}

/// The lease that a row of `runs` grants.
pub(crate) fn granted(row: &Row, run_id: &RunId, owner: &str) -> Result<Lease, StoreError> {
    let epoch = unsigned(row.try_get("lease_epoch")?);
    Ok(Lease { run_id: run_id.clone(), owner: owner.to_owned(), epoch })
}

/// The owner of a live lease, and how long it lasts; none if the run is free.
pub(crate) async fn held(
    connection: &mut Connection,
    run_id: &RunId,
) -> Result<Option<(String, Duration)>, StoreError> {
    let held: Option<(String, i64)> = sqlx::query_as(HELD).bind(run_id.as_str()).fetch_optional(connection).await?;
    Ok(held.map(|(by, millis)| (by, Duration::from_millis(unsigned(millis)))))
}

pub(crate) async fn renew(pool: &Pool, lease: &Lease, time: Duration) -> Result<LeaseRenewal, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let renewed = sqlx::query(RENEW)
        .bind(lease.run_id.as_str())
        .bind(&lease.owner)
        .bind(signed(lease.epoch))
        .bind(time.as_secs_f64())
        .fetch_optional(&mut *transaction)
        .await?;
    let renewed = match renewed {
        Some(row) => LeaseRenewal::Kept(run_row::read_stop(&row)?),
        None => LeaseRenewal::Lost { by: owner(&mut transaction, lease).await?.and_then(|now| now.owner) },
    };
    transaction.commit().await?;
    Ok(renewed)
}

pub(crate) async fn release(pool: &Pool, lease: &Lease) -> Result<(), StoreError> {
    let Lease { run_id, owner, epoch } = lease;
    let mut transaction = pool.begin_with(WRITING).await?;
    sqlx::query(RELEASE).bind(run_id.as_str()).bind(owner).bind(signed(*epoch)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

pub(crate) async fn evict(pool: &Pool, run_id: &RunId, owner: &str) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    sqlx::query(EVICT).bind(run_id.as_str()).bind(owner).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Refuses a loader that lost its lease. A lease that merely ran out is still its own.
pub(crate) async fn check(connection: &mut Connection, lease: &Lease) -> Result<(), StoreError> {
    match owner(connection, lease).await? {
        Some(now) if now.epoch == lease.epoch && (!now.is_loading || now.owner.as_ref() == Some(&lease.owner)) => {
            Ok(())
        }
        now => Err(lease.lost(now.and_then(|now| now.owner).as_deref())),
    }
}

struct LeaseState {
    is_loading: bool,
    owner: Option<String>,
    epoch: u64,
}

async fn owner(connection: &mut Connection, lease: &Lease) -> Result<Option<LeaseState>, StoreError> {
    let found: Option<(String, Option<String>, i64)> =
        sqlx::query_as(STATE_AND_LEASE).bind(lease.run_id.as_str()).fetch_optional(connection).await?;
    Ok(found.map(|(state, owner, epoch)| LeaseState {
        is_loading: state == RunState::Loading.as_str(),
        owner,
        epoch: unsigned(epoch),
    }))
}

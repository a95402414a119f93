//! Orders to end a run early.
//!
//! An order is given once. The run of a sealed source needs nothing else: it ends as the order says when its chunks are
//! recorded. One that is loading keeps its source until it is sealed, so that a restarted loader finds it, sees the order and
//! seals it; where no loader comes, `seal_stopped` does.

use assay_transaction::{Run, RunId, RunState, StopKind, StopOrder};
use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::dialect::{Pool, WRITING, now};
use super::journal;
use super::ledger::{self, run_columns};
use crate::ledger::{stop_kind, stopped_at};
use crate::screening::storable;
use crate::{Act, Stopping, StoreError};

const ORDER: &str = concat!(
    "UPDATE runs SET stop_kind = $2, stop_reason = $3, stop_at = ",
    now!(),
    ", error = CASE WHEN state = 'sealed' THEN coalesce(error, $3) ELSE error END, ",
    "source_key = CASE WHEN state <> 'sealed' THEN source_key END WHERE run_id = $1 RETURNING ",
    run_columns!()
);
const ORDERED: &str = "
    SELECT stop_kind, stop_reason, stop_at FROM runs WHERE run_id = $1 AND stop_kind IS NOT NULL";

pub(super) async fn order_stop(
    pool: &Pool,
    run_id: &RunId,
    kind: StopKind,
    reason: &str,
    act: &Act,
) -> Result<Stopping, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let run = ledger::locked_run(&mut transaction, run_id).await?.ok_or_else(|| unknown(run_id))?;
    if run.state.is_finished() {
        return Ok(Stopping::Finished(run));
    }
    if run.stop.is_some() {
        return Ok(Stopping::Before(run));
    }
    let reason = storable(reason.into());
    let ordered =
        sqlx::query(ORDER).bind(run_id.as_str()).bind(kind.as_str()).bind(reason).fetch_one(&mut *transaction).await?;
    let run: Run = ledger::read(&ordered)?;
    let action = match kind {
        StopKind::Cancelled => "cancel",
        StopKind::Aborted => "abort",
    };
    journal::record(&mut transaction, action, Some(run_id), None, act).await?;
    transaction.commit().await?;
    Ok(Stopping::Ordered(run))
}

/// What an operator hears who names a run that is not there.
pub(super) fn unknown(run_id: &RunId) -> StoreError {
    StoreError::configuration(format!("run {run_id} is not in the ledger: `assay runs` lists those that are"))
}

pub(super) async fn stop_order(pool: &Pool, run_id: &RunId) -> Result<Option<StopOrder>, StoreError> {
    let Some(row) = sqlx::query(ORDERED).bind(run_id.as_str()).fetch_optional(pool).await? else { return Ok(None) };
    Ok(Some(StopOrder {
        kind: stop_kind(row.try_get("stop_kind")?)?,
        reason: row.try_get::<Option<String>, _>("stop_reason")?.unwrap_or_default(),
        at: row.try_get::<DateTime<Utc>, _>("stop_at")?.into(),
    }))
}

pub(super) async fn seal_stopped(pool: &Pool, run_id: &RunId) -> Result<RunState, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let Some(run) = ledger::locked_run(&mut transaction, run_id).await? else { return Ok(RunState::Loading) };
    if run.state != RunState::Loading || run.stop.is_none() {
        return Ok(run.state);
    }
    let last = ledger::last_chunk(&mut transaction, run_id).await?;
    // The error is the order's reason.
    ledger::put_seal(&mut transaction, run_id, stopped_at(run.checkpoint, last), None).await?;
    transaction.commit().await?;
    ledger::close_run(pool, run_id).await
}

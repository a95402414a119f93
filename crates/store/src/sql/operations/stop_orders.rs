//! Orders to end a run early.
//!
//! An order is given once. A sealed run ends as ordered once its chunks are recorded. A loading one keeps its source
//! until it is sealed: its loader receives the order with the next lease renewal and seals it; without a live loader,
//! `seal_stopped` does. The order itself seals a live run.

use assay_transaction::{Run, RunId, RunState, StopKind};

use super::dialect::{Pool, WRITING, now};
use super::run_row::{self, run_columns};
use super::runs;
use super::{journal, leases, live};
use crate::ledger::sealing::stopped_at;
use crate::values::storable;
use crate::{AuditContext, StopOutcome, StoreError};

const ORDER: &str = concat!(
    "UPDATE runs SET stop_kind = $2, stop_reason = $3, stop_at = ",
    now!(),
    ", error = CASE WHEN state = 'sealed' THEN coalesce(error, $3) ELSE error END, ",
    "source_key = CASE WHEN state <> 'sealed' THEN source_key END WHERE run_id = $1 RETURNING ",
    run_columns!()
);
pub(crate) async fn order_stop(
    pool: &Pool,
    run_id: &RunId,
    kind: StopKind,
    reason: &str,
    audit: &AuditContext,
) -> Result<StopOutcome, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    live::lock_places(&mut transaction, run_id).await?;
    let run = runs::locked_run(&mut transaction, run_id).await?.ok_or_else(|| unknown(run_id))?;
    if run.state.is_finished() {
        return Ok(StopOutcome::Finished(run));
    }
    if run.stop.is_some() {
        return Ok(StopOutcome::AlreadyOrdered(run));
    }
    if run.state == RunState::Loading && run.source.is_live() {
        live::seal_short(&mut transaction, run_id).await?;
    }
    let reason = storable(reason.into());
    let ordered =
        sqlx::query(ORDER).bind(run_id.as_str()).bind(kind.as_str()).bind(reason).fetch_one(&mut *transaction).await?;
    let run: Run = run_row::read(&ordered)?;
    let action = match kind {
        StopKind::Cancelled => "cancel",
        StopKind::Aborted => "abort",
    };
    journal::record(&mut transaction, action, Some(run_id), None, audit).await?;
    transaction.commit().await?;
    Ok(StopOutcome::Ordered(run))
}

/// The error for a run that does not exist.
pub(crate) fn unknown(run_id: &RunId) -> StoreError {
    StoreError::configuration(format!("run {run_id} is not in the ledger: `assay runs` lists those that are"))
}

pub(crate) async fn seal_stopped(pool: &Pool, run_id: &RunId) -> Result<RunState, StoreError> {
    let mut transaction = pool.begin_with(WRITING).await?;
    let Some(run) = runs::locked_run(&mut transaction, run_id).await? else { return Ok(RunState::Loading) };
    if run.state != RunState::Loading || run.stop.is_none() {
        return Ok(run.state);
    }
    if leases::held(&mut transaction, run_id).await?.is_some() {
        // Its loader knows better where it ends, and receives the order shortly.
        return Ok(run.state);
    }
    let last = runs::last_chunk(&mut transaction, run_id).await?;
    // The error is the order's reason.
    runs::put_seal(&mut transaction, run_id, stopped_at(run.checkpoint, last), None).await?;
    transaction.commit().await?;
    runs::close_run(pool, run_id).await
}

//! Closes runs: right after a commit that may hold their last chunk, and in the sweep, which covers all other cases.
//!
//! The sweep closes runs whose last chunk was recorded before they were sealed, or by a writer that died after its commit. It
//! broadcasts stop orders to the predictors, seals stopped runs without a loader and live runs whose day is over, and aborts
//! runs that have spent their budget of failed rows.

use std::convert::Infallible;
use std::time::Duration;

use assay_queue::{Broker, Message};
use assay_store::{AuditContext, OpenRun, Store, StoreError};
use assay_telemetry::in_run_span;
use assay_transaction::{Run, RunId, RunState, StopKind, StopNotice, StopOrder};
use chrono::Utc;
use tracing::{debug, info, warn};

use crate::metrics::OpenState;
use crate::{WriteProgress, metrics};

/// Interval between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Closes a run if it is sealed and complete, and returns whether it is finished. Leaves errors to the sweep.
pub(crate) async fn close_if_complete(store: &dyn Store, run_id: &RunId, progress: &WriteProgress) -> bool {
    match store.close_run(run_id).await {
        Ok(state) => {
            log_finished(run_id, state, progress);
            state.is_finished()
        }
        Err(error) => {
            in_run_span(run_id, || {
                warn!("cannot check whether run {run_id} is complete, and will retry: {error}");
            });
            false
        }
    }
}

/// Logs that a run is finished: once, although several commits and sweeps may see it.
fn log_finished(run_id: &RunId, state: RunState, progress: &WriteProgress) {
    if state.is_finished() && progress.is_newly_finished(run_id) {
        in_run_span(run_id, || info!("run {run_id} {}", state.as_phrase()));
    }
}

/// Sweeps all open runs at intervals, until it is dropped.
pub(crate) async fn sweep(store: &dyn Store, broker: &dyn Broker, progress: &WriteProgress) -> Infallible {
    loop {
        match store.open_runs().await {
            Ok(runs) => {
                let mut states = Vec::with_capacity(runs.len());
                for open in runs {
                    let run_id = open.run.run_id.clone();
                    match sweep_run(store, broker, open, progress).await {
                        Ok(state) => states.extend(state),
                        Err(error) => in_run_span(&run_id, || {
                            warn!("cannot check run {run_id}, and will retry: {error}");
                        }),
                    }
                }
                metrics::open(&states);
            }
            Err(error) => warn!("cannot check for runs to close: {error}"),
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// Returns the state of a run that is still open.
async fn sweep_run(
    store: &dyn Store,
    broker: &dyn Broker,
    OpenRun { run, held_by }: OpenRun,
    progress: &WriteProgress,
) -> Result<Option<OpenState>, StoreError> {
    let run_id = &run.run_id;
    match &run.stop {
        Some(order) => {
            // Live messages in flight were accepted: they are scored, and stored in the run of their day.
            if !run.source.is_live() {
                broadcast_stop(broker, run_id, order).await;
            }
            // A living loader seals the run itself.
            if run.state == RunState::Loading && held_by.is_none() {
                log_finished(run_id, store.seal_stopped(run_id).await?, progress);
            }
        }
        None => check_budget(store, &run).await?,
    }
    if run.state == RunState::Loading && run.stop.is_none() && run.source.is_live() {
        seal_past_day(store, run_id, progress).await?;
    }
    match run.state {
        RunState::Sealed => {
            if close_if_complete(store, run_id, progress).await {
                return Ok(None);
            }
            // A live run continues without what is dead-lettered.
            let is_stalled = !run.source.is_live() && store.blocking_dead_letters(run_id).await? > 0;
            Ok(Some(if is_stalled { OpenState::Stalled } else { OpenState::Sealed }))
        }
        RunState::Loading if run.source.is_live() || held_by.is_some() => Ok(Some(OpenState::Loading)),
        RunState::Loading => Ok(Some(OpenState::Abandoned)),
        _ => Ok(None),
    }
}

/// Seals a live run an hour after its day.
async fn seal_past_day(store: &dyn Store, run_id: &RunId, progress: &WriteProgress) -> Result<(), StoreError> {
    let Some(live) = store.live_run(run_id).await? else { return Ok(()) };
    if live.is_over(Utc::now()) {
        log_finished(run_id, store.seal_live(run_id).await?, progress);
    }
    Ok(())
}

/// Broadcasts a stop order to the predictors. A predictor that misses it receives that of the next sweep.
async fn broadcast_stop(broker: &dyn Broker, run_id: &RunId, order: &StopOrder) {
    let notice = StopNotice { run_id: run_id.clone(), kind: order.kind, reason: order.reason.clone() };
    let Ok(body) = notice.encode() else { return };
    let message = Message::new(format!("{run_id}/stop"), StopNotice::MESSAGE_TYPE, run_id, body);
    if let Err(error) = broker.broadcast(message).await {
        debug!("cannot broadcast yet that run {run_id} is stopped: {error}");
    }
}

/// Aborts a run if too many of its rows have failed.
async fn check_budget(store: &dyn Store, run: &Run) -> Result<(), StoreError> {
    if run.settings.budgets.max_failed.is_none() {
        return Ok(());
    }
    let (failed, recorded) = store.failed_share(&run.run_id).await?;
    if let Some(reason) = run.settings.budgets.exceeded_by_failed(failed, recorded) {
        in_run_span(&run.run_id, || warn!("run {} is aborted: {reason}", run.run_id));
        let audit = AuditContext { operator: "writer".to_owned(), reason: None };
        store.order_stop(&run.run_id, StopKind::Aborted, &reason, &audit).await?;
    }
    Ok(())
}

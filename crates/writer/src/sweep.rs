//! The sweep: looks after runs that are not finished, for all that no commit does.
//!
//! It closes the runs whose last chunk was recorded before they were sealed, or by a writer that died right after its commit
//! (`closing`). It tells the predictors which runs were stopped, seals those whose loader is gone and live runs whose day is
//! over, and stops those that have spent their budget of failed rows.

use std::convert::Infallible;
use std::time::Duration;

use assay_queue::{Broker, Message};
use assay_store::{Act, OpenRun, Store, StoreError};
use assay_telemetry::about_run;
use assay_transaction::{Run, RunId, RunState, StopKind, StopNotice, StopOrder};
use chrono::Utc;
use tracing::{debug, warn};

use crate::close::{close_if_complete, log_finished};
use crate::{WriteProgress, metrics};

/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Looks after every run that is not finished, again and again, until it is dropped.
pub(crate) async fn sweep(store: &dyn Store, broker: &dyn Broker, progress: &WriteProgress) -> Infallible {
    loop {
        match store.open_runs().await {
            Ok(runs) => {
                metrics::open(&runs);
                for open in runs {
                    let run_id = open.run.run_id.clone();
                    if let Err(error) = sweep_run(store, broker, open, progress).await {
                        about_run(&run_id, || {
                            warn!("cannot look after run {run_id}, and will look again: {error}");
                        });
                    }
                }
            }
            Err(error) => warn!("cannot look for runs to close: {error}"),
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

async fn sweep_run(
    store: &dyn Store,
    broker: &dyn Broker,
    OpenRun { run, held_by }: OpenRun,
    progress: &WriteProgress,
) -> Result<(), StoreError> {
    let run_id = &run.run_id;
    match &run.stop {
        Some(order) => {
            // What is under way of a live run was accepted: it is scored, and booked in the run of the day.
            if !run.source.is_live() {
                broadcast_stop(broker, run_id, order).await;
            }
            // A loader that lives hears of the order itself.
            if run.state == RunState::Loading && held_by.is_none() {
                log_finished(run_id, store.seal_stopped(run_id).await?, progress);
            }
        }
        None => check_budget(store, &run).await?,
    }
    if run.state == RunState::Loading && run.stop.is_none() && run.source.is_live() {
        seal_past_day(store, run_id, progress).await?;
    }
    if run.state == RunState::Sealed {
        close_if_complete(store, run_id, progress).await;
    }
    Ok(())
}

/// Seals a live run an hour after its day.
async fn seal_past_day(store: &dyn Store, run_id: &RunId, progress: &WriteProgress) -> Result<(), StoreError> {
    let Some(live) = store.live_run(run_id).await? else { return Ok(()) };
    if live.is_over(Utc::now()) {
        log_finished(run_id, store.seal_live(run_id).await?, progress);
    }
    Ok(())
}

/// Tells the predictors. Whoever does not hear it hears it after the next sweep.
async fn broadcast_stop(broker: &dyn Broker, run_id: &RunId, order: &StopOrder) {
    let notice = StopNotice { run_id: run_id.clone(), kind: order.kind, reason: order.reason.clone() };
    let Ok(body) = notice.encode() else { return };
    let message = Message::new(format!("{run_id}/stop"), StopNotice::MESSAGE_TYPE, run_id, body);
    if let Err(error) = broker.broadcast(message).await {
        debug!("the predictors do not hear yet that run {run_id} is stopped: {error}");
    }
}

/// Stops a run of which too much has failed.
async fn check_budget(store: &dyn Store, run: &Run) -> Result<(), StoreError> {
    if run.settings.budgets.max_failed.is_none() {
        return Ok(());
    }
    let (failed, recorded) = store.failed_share(&run.run_id).await?;
    if let Some(reason) = run.settings.budgets.spent_on_failed(failed, recorded) {
        about_run(&run.run_id, || warn!("run {} is aborted: {reason}", run.run_id));
        let act = Act { operator: "writer".to_owned(), reason: None };
        store.order_stop(&run.run_id, StopKind::Aborted, &reason, &act).await?;
    }
    Ok(())
}

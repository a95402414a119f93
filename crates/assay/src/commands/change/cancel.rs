//! `assay cancel`: ends a run early.

use std::fmt;
use std::time::Duration;

use assay_loader::evict_if_gone;
use assay_store::{StopOutcome, Store};
use assay_transaction::{Exit, Run, RunId, RunState, StopKind};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::commands::ledger::operator::ConfirmOptions;
use crate::commands::ledger::{LedgerOptions, find_run, rows_read};
use crate::error::CommandError;
use crate::output::{counted, grouped, one_line, print};

/// Longest wait for a running loader to seal the run, which usually needs less for its chunks in flight.
const SEAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a sealed run to finish.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of queries.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// End a run early
///
/// Reads and publishes no more of its source. Chunks on their way are not scored: their rows fail with class cancelled. Stored
/// rows stay. The run is `cancelled` once every row that was read has an outcome; `assay replay RUN --class cancelled` scores
/// the dropped rows after all. Its source can be loaded again.
///
/// A live run ends by itself an hour after its day, unless accepted rows are missing. If they are lost, this command ends it:
/// rows that arrived stay, `assay audit` keeps reporting the missing ones, and later arrivals go to the run of their day.
///
/// Needs a reason and a confirmation: asks on a terminal, else requires --reason and --yes. If the run is being stopped
/// already, the first reason stays, and the new one is recorded in `assay operations`.
///
/// Exits 0 when the run is being cancelled, or was before; 2 if it is finished otherwise, or without a confirmation.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay cancel batch_20260111_100000_3f9a1c --reason 'the wrong file' --yes")]
pub(crate) struct CancelArguments {
    /// The run
    #[arg(value_name = "RUN")]
    run_id: RunId,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: ConfirmOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Orders the stop, and seals the run if its loader is gone.
pub(crate) async fn cancel(arguments: &CancelArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("cancel").await?;
    let run_id = &arguments.run_id;
    let run = find_run(&*store, run_id).await?;
    if matches!(run.state, RunState::Complete | RunState::Failed) {
        return Err(CommandError::Finished { run_id: run.run_id, state: run.state });
    }
    let context = arguments.confirm.ask(&format!("Cancel run {run_id} of {}?", one_line(&run.source.location, 200)))?;
    let reason = context.reason.clone().unwrap_or_default();
    let was_ordered_before = match store.order_stop(run_id, StopKind::Cancelled, &reason, &context).await? {
        StopOutcome::Finished(run) if run.state != RunState::Cancelled => {
            return Err(CommandError::Finished { run_id: run.run_id, state: run.state });
        }
        StopOutcome::Finished(run) | StopOutcome::AlreadyOrdered(run) => {
            // Only another reason is recorded.
            if run.stop.is_some_and(|stop| stop.reason != reason) {
                let details = json!({ "was_ordered_before": true });
                store.record_operation("cancel", Some(run_id), Some(&details), &context).await?;
            }
            true
        }
        StopOutcome::Ordered(_) => false,
    };
    evict_if_gone(&*store, run_id).await?;
    wait_until_sealed(&*store, run_id).await?;
    store.close_run(run_id).await?;
    let run = wait_until(&*store, run_id, FINISH_TIMEOUT, |run| run.state.is_finished()).await?;
    let recorded = store.progress(run_id).await?.chunks_recorded;
    store.close().await;
    let total = run.sealed.map_or(0, |sealed| sealed.chunks_total);
    let ended = CancelReport {
        was_ordered_before,
        state: run.state,
        reason: run.stop.as_ref().map_or(reason, |stop| stop.reason.clone()),
        rows_read: rows_read(&run),
        chunks_missing: total.saturating_sub(recorded),
        run_id: run.run_id,
    };
    print(&ended, arguments.json)?;
    Ok(Exit::Done)
}

/// Seals a run without a loader. A running loader receives the order within a second, and seals the run itself.
async fn wait_until_sealed(store: &dyn Store, run_id: &RunId) -> Result<(), CommandError> {
    let deadline = Instant::now() + SEAL_TIMEOUT;
    while store.seal_stopped(run_id).await? == RunState::Loading && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Queries a run until a condition holds, or the time is over.
async fn wait_until(
    store: &dyn Store,
    run_id: &RunId,
    timeout: Duration,
    is_reached: impl Fn(&Run) -> bool,
) -> Result<Run, CommandError> {
    let deadline = Instant::now() + timeout;
    loop {
        let run = find_run(store, run_id).await?;
        if is_reached(&run) || Instant::now() >= deadline {
            return Ok(run);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The state of the run after the order.
#[derive(Debug, Serialize)]
struct CancelReport {
    run_id: RunId,
    state: RunState,
    was_ordered_before: bool,
    reason: String,
    rows_read: u64,
    chunks_missing: u64,
}

impl fmt::Display for CancelReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run_id, state, was_ordered_before, reason, rows_read, chunks_missing } = self;
        let order = if *was_ordered_before { "was being cancelled before" } else { "cancelling" };
        let rows = counted(*rows_read, "row", "rows");
        if state.is_finished() {
            let again = if *was_ordered_before { "already" } else { "now" };
            return writeln!(out, "run {run_id} is {state} {again}, after {rows}: {}", one_line(reason, 500));
        }
        writeln!(out, "run {run_id}: {order}: {}", one_line(reason, 500))?;
        if *state == RunState::Loading {
            return writeln!(
                out,
                "Its loader is still running, and seals the run when it ends. If the loader is gone, the writer seals the run \
                 after LEASE_TIMEOUT, as does this command, repeated then. `assay status {run_id} --watch` shows progress."
            );
        }
        writeln!(
            out,
            "It ends after {rows}. {} still on the way: their rows fail with class cancelled, or are stored if they are scored \
             already; then the run is cancelled. `assay status {run_id} --watch` shows progress.",
            counted(*chunks_missing, "chunk is", "chunks are")
        )?;
        writeln!(
            out,
            "If predictors and writers run and the count stays at {}, the chunks are lost: `assay repair {run_id}`.",
            grouped(*chunks_missing)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: RunState) -> CancelReport {
        CancelReport {
            run_id: "first".parse().unwrap(),
            state,
            was_ordered_before: false,
            reason: "wrong file".into(),
            rows_read: 1_200,
            chunks_missing: 3,
        }
    }

    #[test]
    fn the_next_steps_are_shown() {
        assert_eq!(
            ended(RunState::Cancelled).to_string(),
            "run first is cancelled now, after 1,200 rows: wrong file\n"
        );
        let again = CancelReport { was_ordered_before: true, ..ended(RunState::Cancelled) };
        assert_eq!(again.to_string(), "run first is cancelled already, after 1,200 rows: wrong file\n");
        let text = ended(RunState::Loading).to_string();
        assert!(
            text.starts_with("run first: cancelling: wrong file\nIts loader is still running, and seals"),
            "{text}"
        );
        let text = ended(RunState::Sealed).to_string();
        assert!(text.starts_with("run first: cancelling: wrong file\nIt ends after 1,200 rows. 3 chunks are still on"));
    }

    #[test]
    fn its_json_is_pinned() {
        crate::output::pin_json("cancel", &ended(RunState::Sealed));
    }
}

//! `assay cancel`: a run ends where it is.

use std::fmt;
use std::time::Duration;

use assay_loader::evict_if_gone;
use assay_store::{Stopping, Store};
use assay_transaction::{Exit, Run, RunId, RunState, StopKind};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::commands::ledger::operator::ConfirmOptions;
use crate::commands::ledger::{LedgerOptions, find_run, rows_read};
use crate::error::CommandError;
use crate::output::{counted, grouped, one_line, print};

/// How long a loader that lives may take to seal the run, before the command ends without it: as a rule it waits for what
/// is in flight no longer than this.
const SEAL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a run may take to be finished, once it is sealed, before the command ends without it.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// End a run where it is
///
/// Nothing more of its source is read or published, and its chunks that are on their way are booked as failed, class
/// cancelled, instead of being scored. What was stored stays. The run is `cancelled` once all that was read is accounted for,
/// and the law holds for it; `assay replay RUN --class cancelled` has the dropped rows scored after all. Its source can be
/// loaded again.
///
/// A live run ends by itself an hour after its day, unless rows that its producer was answered for are missing. Where they are
/// lost, this ends it all the same: what has arrived stays, `assay audit` goes on to say how many are missing, and what arrives
/// later is booked in the run of the day on which it does.
///
/// It takes a reason and a confirmation: on a terminal it asks, elsewhere it takes --reason and --yes. Of a run that was to be
/// stopped before, the first reason stays, and the new one is recorded in `assay operations`.
///
/// Exits 0 when the order is given, or had been before; 2 where the run is finished otherwise, or where nothing was confirmed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay cancel batch_20260111_100000_3f9a1c --reason 'the wrong file' --yes")]
pub(crate) struct CancelArguments {
    /// Which run
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

/// Orders it, and sees to it that the run is sealed, also where its loader is gone.
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
        Stopping::Finished(run) if run.state != RunState::Cancelled => {
            return Err(CommandError::Finished { run_id: run.run_id, state: run.state });
        }
        Stopping::Finished(run) | Stopping::Before(run) => {
            // The same command again adds nothing; another reason is kept beside the first, which stays.
            if run.stop.is_some_and(|stop| stop.reason != reason) {
                let details = json!({ "was_ordered_before": true });
                store.record_operation("cancel", Some(run_id), Some(&details), &context).await?;
            }
            true
        }
        Stopping::Ordered(_) => false,
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

/// Seals a run that no loader holds. One that does hears of the order within a second, and seals it itself.
async fn wait_until_sealed(store: &dyn Store, run_id: &RunId) -> Result<(), CommandError> {
    let deadline = Instant::now() + SEAL_TIMEOUT;
    while store.seal_stopped(run_id).await? == RunState::Loading && Instant::now() < deadline {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Looks at a run until something is so, or for so long.
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

/// What the order has led to so far.
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
        let before = if *was_ordered_before { "it was to be stopped before" } else { "it is to be stopped" };
        let rows = counted(*rows_read, "row", "rows");
        if state.is_finished() {
            let again = if *was_ordered_before { "already" } else { "now" };
            return writeln!(out, "run {run_id} is {state} {again}, after {rows}: {}", one_line(reason, 500));
        }
        writeln!(out, "run {run_id}: {before}: {}", one_line(reason, 500))?;
        if *state == RunState::Loading {
            return writeln!(
                out,
                "Its loader has not ended yet. The run is sealed when it has; where it is gone, by the writer, once its lease \
                 has run out (LEASE_TIMEOUT), or by this command, repeated then. `assay status {run_id} --watch` shows it."
            );
        }
        writeln!(
            out,
            "It ends after {rows}. {} still on the way: the rows are booked as failed, class cancelled, or are stored where \
             they were scored already; then the run is cancelled. `assay status {run_id} --watch` shows it.",
            counted(*chunks_missing, "chunk is", "chunks are")
        )?;
        writeln!(
            out,
            "Where predictors and writers run and the count stays at {}, the chunks are gone: `assay repair {run_id}`.",
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
    fn says_what_happens_next() {
        assert_eq!(
            ended(RunState::Cancelled).to_string(),
            "run first is cancelled now, after 1,200 rows: wrong file\n"
        );
        let again = CancelReport { was_ordered_before: true, ..ended(RunState::Cancelled) };
        assert_eq!(again.to_string(), "run first is cancelled already, after 1,200 rows: wrong file\n");
        let text = ended(RunState::Loading).to_string();
        assert!(
            text.starts_with("run first: it is to be stopped: wrong file\nIts loader has not ended yet."),
            "{text}"
        );
        let text = ended(RunState::Sealed).to_string();
        assert!(text.starts_with(
            "run first: it is to be stopped: wrong file\nIt ends after 1,200 rows. 3 chunks are still on"
        ));
    }
}

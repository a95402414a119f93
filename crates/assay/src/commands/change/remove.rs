//! `assay remove`: deletes the rows of a finished run.

use std::fmt;

use assay_report::describe_removal;
use assay_store::{RemovalCounts, RemovalPlan, RemovalStart, RemovalStep, Store};
use assay_transaction::{Exit, Run, RunId, RunRemoval, Tally};
use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::steps;
use crate::commands::ledger::operator::ConfirmOptions;
use crate::commands::ledger::{LedgerOptions, find_run, rows_read};
use crate::error::CommandError;
use crate::output::{FieldList, counted, grouped, one_line, print};

/// Progress is logged after this many rows.
const LOG_EVERY_ROWS: u64 = 100_000;

/// Delete everything that a finished run has stored
///
/// For the load of a wrong file, month or namespace. Only the number of each row is kept: it counts as failed with class
/// removed, and cannot be replayed, so the row accounting stays complete. A transaction with duplicates in other runs passes
/// to the earliest of them. Transactions that the run replaced under ID_CONFLICT=update are restored. Its source can be loaded
/// again without --force. Announcements, such as the feed of predictions, are not revoked.
///
/// Works in small steps while loads go on, and can be stopped: the same command resumes. Only a new load of the source brings
/// the rows back.
///
/// Exits 0 when the run is removed, or was before; 2 if the run is not finished, if what it replaced was purged, or without a confirmation; 3 when the
/// database is unreachable, or the command was stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay remove batch_20260111_100000_3f9a1c --dry-run
  assay remove batch_20260111_100000_3f9a1c --reason 'December again' --yes")]
pub(crate) struct RemoveArguments {
    /// The run
    #[arg(value_name = "RUN")]
    run_id: RunId,
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: ConfirmOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Removes a run, or shows what that would do.
pub(crate) async fn remove(arguments: &RemoveArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("remove").await?;
    let report = carry_out(&*store, arguments, shutdown).await;
    store.close().await;
    print(&report?, arguments.json)?;
    Ok(Exit::Done)
}

async fn carry_out(
    store: &dyn Store,
    arguments: &RemoveArguments,
    shutdown: &CancellationToken,
) -> Result<RemovalReport, CommandError> {
    let run = find_run(store, &arguments.run_id).await?;
    if !run.state.is_finished() {
        return Err(CommandError::Unfinished(run.run_id));
    }
    if let Some(removal) = run.removal.clone().filter(|removal| removal.ended_at.is_some()) {
        return Ok(RemovalReport { outcome: RemovalOutcome::Before { removal }, ..RemovalReport::of(&run) });
    }
    if arguments.dry_run {
        let (tally, plan) = (store.tally(&run.run_id).await?, store.plan_removal(&run.run_id).await?);
        return Ok(RemovalReport { outcome: RemovalOutcome::Planned { tally, plan }, ..RemovalReport::of(&run) });
    }
    let context = if run.removal.is_some() {
        arguments.confirm.without_asking()
    } else {
        let (rows, source) = (counted(rows_read(&run), "row", "rows"), one_line(&run.source.location, 200));
        arguments.confirm.ask(&format!("Remove run {} ({rows} of {source})?", run.run_id))?
    };
    match store.begin_removal(&run.run_id, &context).await? {
        RemovalStart::Started(_) => {}
        RemovalStart::Resumed(_) => info!("Resuming the removal of run {}", run.run_id),
        RemovalStart::Done(run) => {
            let removal = run.removal.clone().ok_or_else(|| CommandError::NoRun(run.run_id.to_string()))?;
            return Ok(RemovalReport { outcome: RemovalOutcome::Before { removal }, ..RemovalReport::of(&run) });
        }
        RemovalStart::Unfinished(run) => return Err(CommandError::Unfinished(run.run_id)),
        RemovalStart::Incomplete(run) => return Err(CommandError::Incomplete(run.run_id)),
        RemovalStart::Purged(run) => return Err(CommandError::NothingToRestore(run.run_id)),
        RemovalStart::Other(other) => return Err(CommandError::OtherRemoval(other)),
    }
    let removed = run_steps(store, &run, shutdown).await?;
    Ok(RemovalReport { outcome: RemovalOutcome::Done { removed }, ..RemovalReport::of(&run) })
}

/// Runs all steps.
async fn run_steps(store: &dyn Store, run: &Run, shutdown: &CancellationToken) -> Result<RemovalCounts, CommandError> {
    let stopped = || CommandError::RemovalStopped(run.run_id.clone());
    let (mut next, mut removed, mut logged) = (Some(RemovalStep::Start), RemovalCounts::default(), 0);
    while let Some(step) = next {
        let (done, after) =
            steps::take(shutdown, stopped, async || store.removal_step(&run.run_id, &step).await).await?;
        removed += done;
        next = after;
        if removed.rows >= logged + LOG_EVERY_ROWS {
            logged = removed.rows;
            info!("Removed {} of {} rows of run {}", grouped(logged), grouped(rows_read(run)), run.run_id);
        }
    }
    Ok(removed)
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct RemovalReport {
    run_id: RunId,
    source: String,
    rows_read: u64,
    #[serde(flatten)]
    outcome: RemovalOutcome,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum RemovalOutcome {
    /// A dry run.
    Planned { tally: Tally, plan: RemovalPlan },
    /// Removed now; after an interruption, only the rest.
    Done { removed: RemovalCounts },
    /// Removed before.
    Before { removal: RunRemoval },
}

impl RemovalReport {
    fn of(run: &Run) -> Self {
        let outcome = RemovalOutcome::Done { removed: RemovalCounts::default() };
        let (run_id, source) = (run.run_id.clone(), run.source.location.clone());
        Self { run_id, source, rows_read: rows_read(run), outcome }
    }
}

impl fmt::Display for RemovalReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run_id, source, rows_read, outcome } = self;
        let mut fields = FieldList::default();
        fields.add("source", one_line(source, 200));
        fields.add("rows read", grouped(*rows_read));
        match outcome {
            RemovalOutcome::Before { removal } => {
                writeln!(out, "run {run_id} was removed before: {}", describe_removal(removal))
            }
            RemovalOutcome::Done { removed } => {
                writeln!(out, "run {run_id} is removed")?;
                fields.add("removed now", counted(removed.rows, "row", "rows"));
                fields.add("passed on", counted(removed.passed_on, "transaction", "transactions"));
                fields.add("restored", counted(removed.restored, "transaction", "transactions"));
                writeln!(
                    out,
                    "{fields}its source can be loaded again; `assay audit {run_id}` verifies its row accounting"
                )
            }
            RemovalOutcome::Planned { tally, plan } => {
                writeln!(out, "of run {run_id} would be removed:")?;
                let Tally { predicted, invalid, failed, duplicate } = tally;
                fields.add("predicted", grouped(*predicted));
                fields.add("invalid", grouped(*invalid));
                fields.add("failed", grouped(*failed));
                fields.add("duplicate", grouped(*duplicate));
                for (heir, count) in &plan.passed_on {
                    fields.add("passed on", format!("{} of the predicted, to run {heir}", grouped(*count)));
                }
                fields.add(
                    "restored",
                    format!("{} of other runs", counted(plan.restored, "transaction", "transactions")),
                );
                if plan.dead_letters > 0 {
                    fields.add("dead letters", grouped(plan.dead_letters));
                }
                writeln!(out, "{fields}nothing was removed (--dry-run)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::{at, example};

    #[test]
    fn the_report_shows_what_was_removed() {
        let removed = RemovalCounts { rows: 1_000, passed_on: 10, restored: 1 };
        let report = RemovalReport { outcome: RemovalOutcome::Done { removed }, ..RemovalReport::of(&example()) };
        assert_eq!(
            report.to_string(),
            "\
run batch_20260111_100000_3f9a1c is removed
  source       s3://transactions/2026.csv
  rows read    1,000
  removed now  1,000 rows
  passed on    10 transactions
  restored     1 transaction
its source can be loaded again; `assay audit batch_20260111_100000_3f9a1c` verifies its row accounting
"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["outcome"], &json["removed"]["passed_on"]), (&"done".into(), &10.into()));
    }

    #[test]
    fn a_dry_run_shows_what_would_be_removed() {
        let tally = Tally { predicted: 900, invalid: 60, failed: 30, duplicate: 10 };
        let plan = RemovalPlan { passed_on: vec![("second".parse().unwrap(), 7)], restored: 2, dead_letters: 1 };
        let report =
            RemovalReport { outcome: RemovalOutcome::Planned { tally, plan }, ..RemovalReport::of(&example()) };
        assert_eq!(
            report.to_string(),
            "\
of run batch_20260111_100000_3f9a1c would be removed:
  source        s3://transactions/2026.csv
  rows read     1,000
  predicted     900
  invalid       60
  failed        30
  duplicate     10
  passed on     7 of the predicted, to run second
  restored      2 transactions of other runs
  dead letters  1
nothing was removed (--dry-run)
"
        );
    }

    #[test]
    fn an_earlier_removal_is_shown_with_its_operator() {
        let removal = RunRemoval {
            by: "ada".into(),
            reason: "wrong\nfile".into(),
            began_at: at("10:00:00"),
            ended_at: Some(at("10:00:05")),
        };
        let report = RemovalReport {
            outcome: RemovalOutcome::Before { removal: removal.clone() },
            ..RemovalReport::of(&example())
        };
        assert_eq!(
            report.to_string(),
            "run batch_20260111_100000_3f9a1c was removed before: removed by ada, 2026-01-11 10:00:00 UTC: wrong\\nfile\n"
        );
        assert!(describe_removal(&RunRemoval { ended_at: None, ..removal }).starts_with("being removed by ada, "));
    }

    #[test]
    fn its_json_is_pinned() {
        let removed = RemovalCounts { rows: 1_000, passed_on: 10, restored: 1 };
        let report = RemovalReport { outcome: RemovalOutcome::Done { removed }, ..RemovalReport::of(&example()) };
        crate::output::pin_json("remove", &report);
    }
}

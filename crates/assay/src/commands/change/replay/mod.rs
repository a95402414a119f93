//! `assay replay`: sends failed transactions to predictors and writer again.
//!
//! `publish` publishes them, `report` shows the outcomes. The store replaces a failed row by its
//! new outcome in one transaction; nothing is changed here.

mod publish;
mod report;

use std::time::Duration;

use assay_store::{FailedRowSelection, ReplayCounts, Store, parse_row_range};
use assay_transaction::{Exit, Run, RunId, parse_duration};
use clap::Args;
use tokio_util::sync::CancellationToken;

use self::publish::{PartPublisher, SentParts};
use self::report::{ReplayPlan, ReplayReport, ReplaySummary};
use crate::commands::change::stages::{StageOptions, poll_until};
use crate::commands::ledger::operator::OperatorOptions;
use crate::commands::ledger::{LedgerOptions, find_run};
use crate::commands::query::failures::classes;
use crate::error::CommandError;
use crate::local::{RunningStages, StageCounters};
use crate::output::print;

/// Send failed transactions to predictors and writer again
///
/// Rows that are scored now are stored, and no longer failed; others stay failed, with their attempts added up. Rows that are
/// no longer failed are ignored, so a replay can be repeated at any time. If AMQP_URL is set, the rows go to that fleet; else
/// predictor and writer run in this process, which waits for them. The replay is recorded in `assay operations`.
///
/// Exits 0 when the rows are sent, with --wait when none failed again; 1 if some did; 3 when a dependency is unreachable, or
/// the command was stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay replay batch_20260111_100000_3f9a1c --dry-run
  assay replay batch_20260111_100000_3f9a1c --class rejected --class suspect --wait
  assay replay batch_20260111_100000_3f9a1c --rows 1-1000,4711 --reason 'the model is repaired'")]
pub(crate) struct ReplayArguments {
    /// The run
    #[arg(value_name = "RUN")]
    run_id: RunId,
    /// Only rows that failed with this class; may be repeated
    #[arg(long = "class", value_name = "CLASS", value_parser = classes(), value_delimiter = ',')]
    classes: Vec<String>,
    /// Only these rows: numbers and ranges; may be repeated
    #[arg(long, value_name = "ROWS", value_parser = parse_row_range, value_delimiter = ',')]
    rows: Vec<(u64, u64)>,
    /// Only show what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Wait until every outcome is recorded; exit code 1 if rows failed again
    #[arg(long)]
    wait: bool,
    /// Longest time of --wait; then exit code 3
    #[arg(long, env = "WAIT_TIMEOUT", default_value = "24h", value_parser = parse_duration, value_name = "DURATION")]
    wait_timeout: Duration,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: OperatorOptions,
    #[command(flatten)]
    pub(crate) stages: StageOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Replays the selected rows.
pub(crate) async fn replay(arguments: &ReplayArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("replay").await?;
    let run = find_run(&*store, &arguments.run_id).await?;
    let selection = FailedRowSelection { classes: arguments.classes.clone(), rows: arguments.rows.clone() };
    let selected = store.count_failed(&run.run_id, &selection).await?;
    let plan = ReplayPlan::new(&run, selected);
    if arguments.dry_run || plan.rows_selected == 0 {
        store.close().await;
        print(&ReplayReport { plan, is_dry_run: arguments.dry_run, replayed: None }, arguments.json)?;
        return Ok(Exit::Done);
    }
    let sending = async |stages: &RunningStages, _: &StageCounters| {
        send(arguments, &run, &selection, &plan, stages, shutdown).await
    };
    let replayed = arguments.stages.with_stages(&arguments.ledger, store, &run, "replay", shutdown, sending).await?;
    let report = ReplayReport { plan, is_dry_run: false, replayed: Some(replayed) };
    print(&report, arguments.json)?;
    Ok(report.exit())
}

/// Sends the selected rows. Waits for their outcomes if requested, or if the stages are in this process.
async fn send(
    arguments: &ReplayArguments,
    run: &Run,
    selection: &FailedRowSelection,
    plan: &ReplayPlan,
    stages: &RunningStages,
    shutdown: &CancellationToken,
) -> Result<ReplaySummary, CommandError> {
    let store: &dyn Store = &**stages.store();
    let details = plan.details(selection);
    let replay = store.begin_replay(&run.run_id, &details, &arguments.operator.audit_context()).await?;
    let sending = PartPublisher { store, broker: &**stages.broker(), run, selection, replay, shutdown };
    let sent: SentParts = sending.send().await?;
    if !arguments.wait && !stages.are_local() {
        return Ok(ReplaySummary::new(replay, sent, None));
    }
    let outcomes = wait_for_parts(arguments, store, &run.run_id, replay, sent, shutdown).await?;
    Ok(ReplaySummary::new(replay, sent, Some(outcomes)))
}

/// Waits until each part is recorded or dead-lettered. Returns the sum of the recorded parts, and how many were dead-lettered.
async fn wait_for_parts(
    arguments: &ReplayArguments,
    store: &dyn Store,
    run_id: &RunId,
    replay: u64,
    sent: SentParts,
    shutdown: &CancellationToken,
) -> Result<(ReplayCounts, u64), CommandError> {
    let stopped = CommandError::ReplayStopped { run_id: run_id.clone(), rows: sent.rows };
    poll_until(arguments.wait_timeout, shutdown, stopped, async || {
        // Recorded parts first: a dead letter that is recorded between the queries then counts as neither, instead of as both.
        let (recorded, exchanged) = store.replayed(run_id, replay).await?;
        let given_up = store.parts_given_up(run_id, replay).await?;
        if recorded + given_up >= sent.parts {
            return Ok(Ok((exchanged, given_up)));
        }
        Ok(Err(CommandError::ReplayTimeout { run_id: run_id.clone(), replay, recorded, parts: sent.parts }))
    })
    .await
}

//! `assay status`: how far a run is.
//!
//! [`collect`] asks the database, `view` shows what it says, and `pace` works out what is left.

mod pace;
mod view;

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_store::{Operation, Store, StoreError};
use assay_transaction::{Exit, Run, RunId};
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(in crate::desk) use self::view::outcome_word;
use self::view::{DeadLetters, Outcome, ReplayProgress, Status};
use super::live::LiveCounts;
use super::queues::Glimpse;
use super::state::{ShownState, blocking};
use super::totals::ControlTotals;
use super::{DeskOptions, find};
use crate::error::CommandError;
use crate::print::{print, print_text};

/// Between two looks of --watch.
const REDRAW: Duration = Duration::from_secs(2);
/// What the rate is measured over.
const WINDOW_SECONDS: u32 = 60;
/// How many of a run's operations are looked through for replays.
const OPERATIONS: u32 = 1_000;
/// How many dead letters of a run are counted.
pub(in crate::desk) const LETTERS: u32 = 1_000;
/// Counting the rows of a large run takes its time: a watcher counts them for one part in so many of its own time.
const COUNTING_SHARE: u32 = 10;

/// Show how far a run is
///
/// Its state, what is read and what is stored, the rate of the last minute and the time left, what became of its rows so
/// far, replays, dead letters, and, where AMQP_URL is set, what waits in the queues. `stalled` means that a dead letter keeps
/// the run from being complete: `assay failures RUN` shows it, and `assay repair RUN` publishes its rows again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay status batch_20260111_100000_3f9a1c
  assay status batch_20260111_100000_3f9a1c --watch
  assay status batch_20260111_100000_3f9a1c --json | jq .state")]
pub(crate) struct StatusArguments {
    /// Which run
    #[arg(value_name = "RUN")]
    run_id: RunId,
    /// Show it again every 2 seconds, until the run is finished or Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print the result as JSON, on stdout; with --watch one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) desk: DeskOptions,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Shows a run once, or until it is finished.
pub(crate) async fn status(arguments: &StatusArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let store = arguments.desk.open("status").await?;
    find(&*store, &arguments.run_id).await?;
    let glimpse = Glimpse::connect(&arguments.broker, "status", arguments.desk.startup.startup_timeout).await;
    if arguments.watch {
        watch(&*store, &glimpse, arguments, shutdown).await?;
    } else {
        let status = collect(&*store, &glimpse, &arguments.run_id, None).await?;
        print(&status, arguments.json)?;
    }
    glimpse.close().await;
    store.close().await;
    Ok(Exit::Done)
}

/// Looks again and again. A database that is away for a moment is no reason to stop.
async fn watch(
    store: &dyn Store,
    glimpse: &Glimpse,
    arguments: &StatusArguments,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    use std::io::IsTerminal as _;
    let redraws = std::io::stdout().is_terminal() && !arguments.json;
    let mut counted: Option<Counted> = None;
    loop {
        let recent = counted.as_ref().filter(|counted| counted.is_recent()).map(|counted| counted.outcome.clone());
        let is_counted = recent.is_none();
        let began = Instant::now();
        let looked = shutdown.run_until_cancelled(collect(store, glimpse, &arguments.run_id, recent)).await;
        match looked {
            None => return Ok(()),
            Some(Ok(status)) => {
                if is_counted {
                    counted =
                        Some(Counted { outcome: status.outcome.clone(), at: Instant::now(), took: began.elapsed() });
                }
                if redraws {
                    // To the upper left, and everything below is gone.
                    print_text("\x1b[H\x1b[J")?;
                }
                if arguments.json {
                    let line = serde_json::to_string(&status).map_err(|error| CommandError::Print(error.into()))?;
                    print_text(&format_args!("{line}\n"))?;
                } else {
                    print_text(&format_args!("{status}{}", if redraws { "" } else { "\n" }))?;
                }
                if status.is_finished {
                    return Ok(());
                }
            }
            Some(Err(CommandError::Store(error))) if error.is_transient() => warn!("looking again soon: {error}"),
            Some(Err(error)) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// What became of the rows when they were last counted.
struct Counted {
    outcome: Outcome,
    at: Instant,
    took: Duration,
}

impl Counted {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < self.took * COUNTING_SHARE
    }
}

/// Asks how far a run is. What became of its rows is counted unless it is given.
async fn collect(
    store: &dyn Store,
    glimpse: &Glimpse,
    run_id: &RunId,
    outcome: Option<Outcome>,
) -> Result<Status, CommandError> {
    let run = find(store, run_id).await?;
    let blocking = blocking(store, &run).await?;
    let progress = store.progress(run_id).await?;
    let is_finished = run.state.is_finished();
    let pace = if is_finished { None } else { Some(store.pace(run_id, WINDOW_SECONDS).await?) };
    // A finished run is counted once more: what is shown at last is exact.
    let outcome = match outcome {
        Some(outcome) if !is_finished => outcome,
        _ => count(store, run_id).await?,
    };
    Ok(Status {
        run_id: run.run_id.clone(),
        state: ShownState::of(&run, blocking),
        is_finished,
        source: run.source.location.clone(),
        version: run.source.version.clone(),
        source_bytes: run.source_bytes,
        started_at: run.started_at,
        finished_at: run.finished_at,
        error: run.error.clone(),
        stop: run.stop.clone(),
        read: pace::reading(&run, progress),
        stored: pace::storing(&run, progress),
        control_totals: ControlTotals::of(&run),
        live: LiveCounts::of(store, &run).await?,
        rows_per_second: pace.map(pace::rate),
        left: pace.and_then(|pace| pace::left(&run, progress, pace)),
        outcome,
        replays: replays(store, &run).await?,
        dead_letters: DeadLetters::new(&store.dead_letters(Some(run_id), LETTERS).await?, blocking),
        queues: if is_finished { None } else { glimpse.look().await },
    })
}

async fn count(store: &dyn Store, run_id: &RunId) -> Result<Outcome, StoreError> {
    Ok(Outcome {
        tally: store.tally(run_id).await?,
        invalid_by_reason: store.invalid_counts(run_id).await?,
        failed_by_class: store.failed_counts(run_id).await?,
        predictions: store.prediction_counts(run_id).await?,
    })
}

/// The replays of a run, the first first: they are numbered in the order in which they were recorded.
async fn replays(store: &dyn Store, run: &Run) -> Result<Vec<ReplayProgress>, StoreError> {
    let operations = store.operations(Some(&run.run_id), OPERATIONS).await?;
    let mut replays = Vec::new();
    for (index, operation) in operations.iter().rev().filter(|operation| operation.action == "replay").enumerate() {
        let replay = index as u64 + 1;
        let (parts, exchanged) = store.replayed(&run.run_id, replay).await?;
        replays.push(ReplayProgress::new(replay, operation, parts, exchanged));
    }
    Ok(replays)
}

/// How many rows a replay was begun for.
fn rows_selected(operation: &Operation) -> Option<u64> {
    operation.details.as_ref()?.get("rows_selected")?.as_u64()
}

//! `assay status`: how far a run is.
//!
//! It asks the database, at one point in time, and then the broker; `pace` works out what is left, `obstacles` what is in the
//! way, and `view` shows it all.

mod obstacles;
mod progress;
mod view;

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_store::{Counting, Operation, Overview, PredictionCount, Store, StoreError};
use assay_transaction::{Exit, Run, RunId};
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::obstacles::{QueueView, obstacles};
pub(in crate::commands) use self::view::outcome_name;
use self::view::{DeadLetterCounts, OutcomeCounts, ReplayProgress, Status};
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::control_totals::ControlTotals;
use crate::commands::ledger::live_counts::LiveCounts;
use crate::commands::ledger::queues::QueueProbe;
use crate::commands::ledger::run_argument::resolve_run;
use crate::commands::ledger::state::{ShownState, blocking_count};
use crate::error::CommandError;
use crate::output::{masked_labels, print, print_text};

/// Between two looks of --watch.
const REDRAW: Duration = Duration::from_secs(2);
/// What the rate is measured over.
const WINDOW_SECONDS: u32 = 60;
/// How many of a run's operations are looked through for replays.
const MAX_OPERATIONS: u32 = 1_000;
/// How many dead letters of a run are counted.
pub(in crate::commands) const MAX_LETTERS: u32 = 1_000;
/// Counting the rows of a large run takes its time: a watcher counts them for one part in so many of its own time.
const COUNTING_SHARE: u32 = 10;

/// Show how far a run is
///
/// Its state, what is read and what is stored, the rate of the last minute and the time left, what became of its rows so
/// far, what is in the way, replays, dead letters, and, where AMQP_URL is set, what waits in the queues. `stalled` means that a dead letter keeps
/// the run from being complete: `assay failures RUN` shows it, and `assay repair RUN` publishes its rows again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay status batch_20260111_100000_3f9a1c
  assay status latest --watch
  assay status batch_20260111_100000_3f9a1c --json | jq .state")]
pub(crate) struct StatusArguments {
    /// Which run: its name, a source that it has loaded, or `latest`
    #[arg(value_name = "RUN")]
    run: String,
    /// Show it again every 2 seconds, until the run is finished or Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print the result as JSON, on stdout; with --watch one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Shows a run once, or until it is finished.
pub(crate) async fn status(arguments: &StatusArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("status").await?;
    let (Run { run_id, .. }, _) = resolve_run(&*store, &arguments.run).await?;
    let probe = QueueProbe::connect(&arguments.broker, "status", arguments.ledger.startup.startup_timeout).await;
    let query = StatusQuery {
        store: &*store,
        probe: &probe,
        run_id: &run_id,
        full_at: arguments.broker.queue_max_length.into(),
    };
    if arguments.watch {
        watch(&query, arguments, shutdown).await?;
    } else {
        let status = query.collect(None).await?;
        print(&status, arguments.json)?;
    }
    probe.close().await;
    store.close().await;
    Ok(Exit::Done)
}

/// Looks again and again. A database that is away for a moment is no reason to stop.
async fn watch(
    query: &StatusQuery<'_>,
    arguments: &StatusArguments,
    shutdown: &CancellationToken,
) -> Result<(), CommandError> {
    use std::io::IsTerminal as _;
    let redraws = std::io::stdout().is_terminal() && !arguments.json;
    let mut counted: Option<LabelCounts> = None;
    loop {
        let recent = counted.as_ref().filter(|counted| counted.is_recent());
        let began = Instant::now();
        match shutdown.run_until_cancelled(query.collect(recent)).await {
            None => return Ok(()),
            Some(Ok(status)) => {
                if status.outcome.labels_seconds_old.is_none() {
                    let labels = status.outcome.predictions.clone();
                    counted = Some(LabelCounts { labels, at: Instant::now(), took: began.elapsed() });
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

/// The labels when they were last counted.
struct LabelCounts {
    labels: Vec<PredictionCount>,
    at: Instant,
    took: Duration,
}

impl LabelCounts {
    fn is_recent(&self) -> bool {
        self.at.elapsed() < self.took * COUNTING_SHARE
    }
}

/// Who is asked, and for what.
struct StatusQuery<'a> {
    store: &'a dyn Store,
    probe: &'a QueueProbe,
    run_id: &'a RunId,
    /// At which length a queue takes no more.
    full_at: u64,
}

impl StatusQuery<'_> {
    /// Asks how far the run is. Its rows are counted one by one, unless that was done a moment ago: then as its chunks are
    /// booked, and the labels are those of then. A finished run is counted in any case: what is shown at last is exact.
    async fn collect(&self, recent: Option<&LabelCounts>) -> Result<Status, CommandError> {
        let (mut recent, mut overview) = (recent, None);
        if recent.is_some() {
            overview = Some(self.overview(Counting::Chunks).await?).filter(|found| !found.run.state.is_finished());
        }
        let overview = if let Some(overview) = overview {
            overview
        } else {
            recent = None;
            self.overview(Counting::Rows).await?
        };
        let Self { store, probe, run_id, full_at } = *self;
        let run = &overview.run;
        let is_finished = run.state.is_finished();
        let queues = if is_finished { None } else { probe.snapshot().await };
        let pace = (!is_finished).then_some(overview.pace);
        Ok(Status {
            run_id: run.run_id.clone(),
            state: ShownState::of(run, blocking_count(run, overview.blocking)),
            is_finished,
            source: run.source.location.clone(),
            version: run.source.version.clone(),
            source_bytes: run.source_bytes,
            started_at: run.started_at,
            finished_at: run.finished_at,
            error: run.error.clone(),
            stop: run.stop.clone(),
            read: progress::read_progress(run, overview.progress),
            stored: progress::store_progress(run, overview.progress),
            control_totals: ControlTotals::of(run),
            live: LiveCounts::of(store, run).await?,
            rows_per_second: pace.map(progress::rate),
            left: pace.and_then(|pace| progress::time_left(run, overview.progress, pace)),
            in_the_way: obstacles(&overview, QueueView { queues: queues.as_ref(), full_at }),
            replays: replays(store, run).await?,
            dead_letters: DeadLetterCounts::new(
                &store.dead_letters(Some(run_id), MAX_LETTERS).await?,
                blocking_count(run, overview.blocking),
            ),
            outcome: OutcomeCounts {
                tally: overview.tally,
                invalid_by_reason: overview.invalid,
                failed_by_class: overview.failed,
                predictions: overview
                    .predictions
                    .map(masked_labels)
                    .or_else(|| recent.map(|counted| counted.labels.clone()))
                    .unwrap_or_default(),
                labels_seconds_old: recent.map(|counted| counted.at.elapsed().as_secs()),
            },
            queues,
        })
    }

    async fn overview(&self, counting: Counting) -> Result<Overview, CommandError> {
        let overview = self.store.overview(self.run_id, WINDOW_SECONDS, counting).await?;
        overview.ok_or_else(|| CommandError::NoRun(self.run_id.to_string()))
    }
}

/// The replays of a run, the first first: they are numbered in the order in which they were recorded.
async fn replays(store: &dyn Store, run: &Run) -> Result<Vec<ReplayProgress>, StoreError> {
    let operations = store.operations(Some(&run.run_id), MAX_OPERATIONS).await?;
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

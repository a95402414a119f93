//! `assay status`: the progress of a run.
//!
//! Reads the database at one point in time, then the broker. `assay_report` judges what they say, and `view` shows it.

mod view;

use std::time::Duration;

use assay_queue::BrokerOptions;
use assay_report::{
    ControlTotals, LiveCounts, QueueProbe, QueueState, ShownState, blocking_count, obstacles, rate, read_progress,
    store_progress, time_left,
};
use assay_store::{OperationRecord, PredictionCount, RunOverview, Store, StoreError, TallySource};
use assay_transaction::{Exit, Run, RunId};
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(in crate::commands) use self::view::outcome_name;
use self::view::{DeadLetterCounts, OutcomeCounts, ReplayProgress, Status};
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;
use crate::output::{clear_screen, masked_labels, print, print_json_line, print_text};

/// Interval of --watch.
const REDRAW_INTERVAL: Duration = Duration::from_secs(2);
/// Period of the rate.
const WINDOW_SECONDS: u32 = 60;
/// Operations of a run that are searched for replays.
const MAX_OPERATIONS: u32 = 1_000;
/// Dead letters of a run that are counted.
pub(in crate::commands) const MAX_LETTERS: u32 = 1_000;
/// Counting the rows of a large run is slow, so --watch spends at most this fraction of its time on it: one in ten.
const COUNTING_SHARE: u32 = 10;

/// Show the progress of a run
///
/// Shows its state, rows that are read and stored, the rate of the last minute and the time left, outcomes so far, obstacles,
/// replays, dead letters and, if AMQP_URL is set, the queues. `stalled` means that a dead letter keeps the run from being
/// complete: `assay failures RUN` shows it, and `assay repair RUN` publishes its rows again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay status batch_20260111_100000_3f9a1c
  assay status latest --watch
  assay status batch_20260111_100000_3f9a1c --json | jq .state")]
pub(crate) struct StatusArguments {
    /// The run: its name, a source that it loaded, or `latest`
    #[arg(value_name = "RUN")]
    run: String,
    /// Repeat every 2 seconds until the run is finished or Ctrl-C
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

/// Repeats until the run is finished. Transient errors of the database do not end it.
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
                    clear_screen()?;
                }
                if arguments.json {
                    print_json_line(&status)?;
                } else {
                    print_text(&format_args!("{status}{}", if redraws { "" } else { "\n" }))?;
                }
                if status.is_finished {
                    return Ok(());
                }
            }
            Some(Err(CommandError::Store(error))) if error.is_transient() => warn!("retrying: {error}"),
            Some(Err(error)) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW_INTERVAL) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// The last count of predictions by label.
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

/// What is queried, and where.
struct StatusQuery<'a> {
    store: &'a dyn Store,
    probe: &'a QueueProbe,
    run_id: &'a RunId,
    /// Length at which a queue is full.
    full_at: u64,
}

impl StatusQuery<'_> {
    /// Collects the status. Rows are counted one by one, unless that was done recently: then the sums of the chunks are used,
    /// with the earlier labels. A finished run is always counted, so that the final status is exact.
    async fn collect(&self, recent: Option<&LabelCounts>) -> Result<Status, CommandError> {
        let (mut recent, mut overview) = (recent, None);
        if recent.is_some() {
            overview = Some(self.overview(TallySource::Chunks).await?).filter(|found| !found.run.state.is_finished());
        }
        let overview = if let Some(overview) = overview {
            overview
        } else {
            recent = None;
            self.overview(TallySource::Rows).await?
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
            read: read_progress(run, overview.progress),
            stored: store_progress(run, overview.progress),
            control_totals: ControlTotals::of(run),
            live: LiveCounts::of(store, run).await?,
            rows_per_second: pace.map(rate),
            left: pace.and_then(|pace| time_left(run, overview.progress, pace)),
            in_the_way: obstacles(&overview, QueueState { queues: queues.as_ref(), full_at }),
            models: overview.models.into(),
            tombstones: store.tombstones(run_id).await?,
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

    async fn overview(&self, counting: TallySource) -> Result<RunOverview, CommandError> {
        let overview = self.store.overview(self.run_id, WINDOW_SECONDS, counting).await?;
        overview.ok_or_else(|| CommandError::NoRun(self.run_id.to_string()))
    }
}

/// The replays of a run in order. They are numbered as they were recorded.
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

/// Rows that a replay was begun for.
fn rows_selected(operation: &OperationRecord) -> Option<u64> {
    operation.details.as_ref()?.get("rows_selected")?.as_u64()
}

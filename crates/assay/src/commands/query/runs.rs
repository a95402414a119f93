//! `assay runs`: lists the runs.

use std::fmt;

use assay_report::{LiveCounts, ShownState, blocking_letters, rows_so_far};
use assay_store::{RunFilter, Store};
use assay_transaction::{Exit, Run, RunId, Tally, Timestamp};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::since::SinceArgument;
use crate::error::CommandError;
use crate::output::{Table, grouped, human_duration, moment, one_line, print, seconds_between};

/// Longest location that is shown.
const LOCATION: usize = 100;
/// Longest error that is shown.
const ERROR: usize = 500;
/// Runs of a query.
const PAGE: u32 = 100;

/// List the runs, the latest first
///
/// Shows the outcomes of their rows so far; of a live run, the rows that arrived and those that its producer accepted. Errors
/// follow below the table. A `stalled` run is kept from being complete by a dead letter; a `cancelling` or `aborting` run
/// ends once its published rows are recorded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay runs
  assay runs --since 7d --state failed --state stalled
  assay runs --source 's3://bank/2026/*' --limit 5 --json")]
pub(crate) struct RunsArguments {
    /// Runs to list
    #[arg(long, default_value_t = 20, value_name = "RUNS")]
    limit: u32,
    /// Only runs in this state; may be repeated
    #[arg(long = "state", value_name = "STATE", value_parser = states(), value_delimiter = ',')]
    states: Vec<String>,
    /// Only runs that began after this: a span such as 12h or 7d, or a day or time in UTC, such as 2026-01-11
    #[arg(long, value_name = "WHEN")]
    since: Option<SinceArgument>,
    /// Only runs whose source contains this text; with * or ?, a pattern of the whole location
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(ShownState::ALL.map(ShownState::as_str))
}

/// Lists runs.
pub(crate) async fn runs(arguments: &RunsArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("runs").await?;
    let list = RunList(select(&*store, arguments).await?);
    store.close().await;
    print(&list, arguments.json)?;
    Ok(Exit::Done)
}

/// The selected runs. The shown state depends on other tables too, so the filter by state is here.
async fn select(store: &dyn Store, arguments: &RunsArguments) -> Result<Vec<RunLine>, CommandError> {
    let filter = RunFilter {
        seconds: arguments.since.map(SinceArgument::seconds),
        source: arguments.source.clone(),
        ..RunFilter::default()
    };
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let (mut lines, mut skip) = (Vec::new(), 0);
    while lines.len() < limit {
        let page = store.list_runs(&filter, skip, PAGE).await?;
        skip += PAGE;
        let is_last = page.len() < PAGE as usize;
        let mut chosen = Vec::new();
        for run in page {
            let state = ShownState::of(&run, blocking_letters(store, &run).await?);
            if lines.len() + chosen.len() < limit
                && (arguments.states.is_empty() || arguments.states.iter().any(|asked| asked == state.as_str()))
            {
                chosen.push((run, state));
            }
        }
        let names: Vec<_> = chosen.iter().map(|(run, _)| run.run_id.clone()).collect();
        let tallies = store.tallies_by_chunk(&names).await?;
        for ((run, state), tally) in chosen.into_iter().zip(tallies) {
            let live = LiveCounts::of(store, &run).await?;
            lines.push(RunLine::new(run, state, tally, live));
        }
        if is_last {
            break;
        }
    }
    Ok(lines)
}

/// The runs.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct RunList(Vec<RunLine>);

/// A run.
#[derive(Debug, Serialize)]
struct RunLine {
    run_id: RunId,
    state: ShownState,
    /// Of a live run, rows that arrived.
    rows_read: u64,
    #[serde(flatten)]
    tally: Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveCounts>,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    source: String,
    version: String,
    error: Option<String>,
}

impl RunLine {
    fn new(run: Run, state: ShownState, tally: Tally, live: Option<LiveCounts>) -> Self {
        Self {
            state,
            rows_read: rows_so_far(&run, tally, live.as_ref()),
            tally,
            live,
            run_id: run.run_id,
            started_at: run.started_at,
            finished_at: run.finished_at,
            source: run.source.location,
            version: run.source.version,
            error: run.error,
        }
    }

    /// The source; of a live run, with the rows that its producer accepted.
    fn source_text(&self) -> String {
        let source = one_line(&self.source, LOCATION);
        match self.live.as_ref().and_then(LiveCounts::rows_accepted) {
            Some(accepted) => format!("{source}, {} accepted", grouped(accepted)),
            None => source,
        }
    }
}

impl fmt::Display for RunList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(out, "no such runs");
        }
        let mut table = Table::new([
            "run",
            "state",
            ">rows read",
            ">predicted",
            ">invalid",
            ">failed",
            ">duplicate",
            "began (UTC)",
            ">took",
            "source",
        ]);
        for run in &self.0 {
            let took =
                run.finished_at.map(|end| human_duration(seconds_between(run.started_at, end))).unwrap_or_default();
            table.add([
                run.run_id.to_string(),
                run.state.to_string(),
                grouped(run.rows_read),
                grouped(run.tally.predicted),
                grouped(run.tally.invalid),
                grouped(run.tally.failed),
                grouped(run.tally.duplicate),
                moment(run.started_at),
                took,
                run.source_text(),
            ]);
        }
        table.fmt(out)?;
        let mut is_first = true;
        for (run_id, error) in self.0.iter().filter_map(|run| Some((&run.run_id, run.error.as_deref()?))) {
            writeln!(out, "{}{run_id}: {}", if is_first { "\n" } else { "" }, one_line(error, ERROR))?;
            is_first = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::{example, live_counts};
    use assay_transaction::{Checkpoint, Position, RunState, SourceIdentity};

    #[test]
    fn reads_as_a_table() {
        let loading = Run {
            run_id: "nightly".parse().unwrap(),
            state: RunState::Loading,
            checkpoint: Checkpoint::first(Position { row: 12_501, ..Position::START }),
            sealed: None,
            finished_at: None,
            ..example()
        };
        let tally = Tally { predicted: 980, invalid: 15, failed: 3, duplicate: 2 };
        let booked = Tally { predicted: 12_000, ..Tally::default() };
        let failed = Run { state: RunState::Failed, error: Some("not one\nof 1000 rows is valid".into()), ..example() };
        let list = RunList(vec![
            RunLine::new(loading, ShownState::Loading, booked, None),
            RunLine::new(failed, ShownState::Failed, tally, None),
        ]);
        assert_eq!(
            list.to_string(),
            "\
run                           state    rows read  predicted  invalid  failed  duplicate  began (UTC)          took  source
nightly                       loading     12,500     12,000        0       0          0  2026-01-11 10:00:00        s3://transactions/2026.csv
batch_20260111_100000_3f9a1c  failed       1,000        980       15       3          2  2026-01-11 10:00:00  50 s  s3://transactions/2026.csv

batch_20260111_100000_3f9a1c: not one\\nof 1000 rows is valid
"
        );
        assert_eq!(RunList(Vec::new()).to_string(), "no such runs\n");
        let json = serde_json::to_value(&list).unwrap();
        assert_eq!((&json[0]["state"], &json[1]["rows_read"]), (&"loading".into(), &1_000.into()));
        assert_eq!((&json[1]["failed"], &json[1]["error"]), (&3.into(), &"not one\nof 1000 rows is valid".into()));
    }

    #[test]
    fn a_live_run_shows_arrived_and_accepted_rows() {
        let source = SourceIdentity { location: "live:shop".into(), version: "2026-01-11".into() };
        let live = Run { state: RunState::Loading, sealed: None, checkpoint: Checkpoint::START, source, ..example() };
        let tally = Tally { predicted: 180, ..Tally::default() };
        let shown = RunLine::new(live, ShownState::Loading, tally, Some(live_counts(200, 190)));
        assert_eq!((shown.rows_read, shown.source_text().as_str()), (190, "live:shop, 200 accepted"));
    }

    #[test]
    fn its_json_is_pinned() {
        let tally = Tally { predicted: 980, invalid: 15, failed: 3, duplicate: 2 };
        let failed = Run { state: RunState::Failed, error: Some("no row is valid".into()), ..example() };
        crate::output::pin_json("runs", &RunList(vec![RunLine::new(failed, ShownState::Failed, tally, None)]));
    }
}

//! `assay runs`: which runs there are.

use std::fmt;

use assay_transaction::{Exit, Run, RunId, Timestamp};
use clap::Args;
use serde::Serialize;

use super::state::{ShownState, blocking};
use super::{DeskOptions, rows_read};
use crate::error::CommandError;
use crate::print::{Side, Table, grouped, moment, one_line, print, seconds_between, span};

/// How much of a location is shown.
const LOCATION: usize = 100;

/// List the runs, the latest first
///
/// A run that is not finished shows the rows up to its checkpoint. `stalled` is one that a dead letter keeps from being
/// complete; `cancelling` and `aborting` are runs that end early as soon as what was published of them is recorded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay runs
  assay runs --limit 5 --json")]
pub(crate) struct RunsArguments {
    /// How many runs to list
    #[arg(long, default_value_t = 20, value_name = "RUNS")]
    limit: u32,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) desk: DeskOptions,
}

/// Lists the latest runs.
pub(crate) async fn runs(arguments: &RunsArguments) -> Result<Exit, CommandError> {
    let store = arguments.desk.open("runs").await?;
    let mut list = List(Vec::new());
    for run in store.runs(None, arguments.limit).await? {
        let blocking = blocking(&*store, &run).await?;
        list.0.push(Line::new(run, blocking));
    }
    store.close().await;
    print(&list, arguments.json)?;
    Ok(Exit::Done)
}

/// The runs.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct List(Vec<Line>);

/// One of them.
#[derive(Debug, Serialize)]
struct Line {
    run_id: RunId,
    state: ShownState,
    rows_read: u64,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    source: String,
    version: String,
    error: Option<String>,
}

impl Line {
    fn new(run: Run, blocking: u64) -> Self {
        Self {
            state: ShownState::of(&run, blocking),
            rows_read: rows_read(&run),
            run_id: run.run_id,
            started_at: run.started_at,
            finished_at: run.finished_at,
            source: run.source.location,
            version: run.source.version,
            error: run.error,
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(out, "there is no run yet");
        }
        let mut table = Table::new([
            ("run", Side::Left),
            ("state", Side::Left),
            ("rows read", Side::Right),
            ("began (UTC)", Side::Left),
            ("took", Side::Right),
            ("source", Side::Left),
        ]);
        for run in &self.0 {
            let took = run.finished_at.map(|end| span(seconds_between(run.started_at, end))).unwrap_or_default();
            table.add([
                run.run_id.to_string(),
                run.state.to_string(),
                grouped(run.rows_read),
                moment(run.started_at),
                took,
                one_line(&run.source, LOCATION),
            ]);
        }
        table.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::state::tests::example;
    use assay_transaction::{Checkpoint, Position, RunState};

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
        let list = List(vec![Line::new(loading, 0), Line::new(example(), 0)]);
        assert_eq!(
            list.to_string(),
            "\
run                           state     rows read  began (UTC)          took  source
nightly                       loading      12,500  2026-01-11 10:00:00        s3://transactions/2026.csv
batch_20260111_100000_3f9a1c  complete      1,000  2026-01-11 10:00:00  50 s  s3://transactions/2026.csv
"
        );
        assert_eq!(List(Vec::new()).to_string(), "there is no run yet\n");
        let json = serde_json::to_value(&list).unwrap();
        assert_eq!((&json[0]["state"], &json[1]["rows_read"]), (&"loading".into(), &1_000.into()));
    }
}

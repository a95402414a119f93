//! `assay purge`: deletes content that is older than its time.

use std::fmt;

use assay_store::{PurgeCounts, PurgeKind, PurgePosition, Store};
use assay_transaction::{Exit, Timestamp};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::steps;
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::operator::ConfirmOptions;
use crate::commands::ledger::since::SinceArgument;
use crate::error::CommandError;
use crate::output::{Table, counted, grouped, moment, print};

/// Progress is logged after this many rows.
const LOG_EVERY_ROWS: u64 = 100_000;

/// Delete content that is older than its time
///
/// Takes the raw text of invalid rows, the payloads of failed transactions, the bodies of dead letters, replaced contents and the
/// names of live messages, of the time before a date; transactions and predictions stay. A purged row keeps its number: it counts as
/// failed with class purged, and cannot be replayed, so the row accounting stays complete. Rows of runs that are not finished,
/// and dead letters that keep their run from being complete, stay.
///
/// Works in small steps while loads go on, and can be stopped: the same command takes the rest. What was taken is counted in the
/// table of operations.
///
/// Exits 0 when the purge is done; 2 without a confirmation; 3 when the database is unreachable, or the command was stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay purge --before 90d --dry-run
  assay purge --before 90d --reason retention --yes
  assay purge --before 2026-01-01 --what raw,failures --reason retention --yes")]
pub(crate) struct PurgeArguments {
    /// Take what is older: a span such as 90d, or a day or time in UTC, such as 2026-01-11
    #[arg(long, value_name = "WHEN")]
    before: SinceArgument,
    /// What to take [default: all but erased-ids]
    #[arg(long, value_name = "KINDS", value_enum, value_delimiter = ',')]
    what: Vec<PurgeKind>,
    /// Only show what would be taken
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

/// Purges, or shows what that would take.
pub(crate) async fn purge(arguments: &PurgeArguments, shutdown: &CancellationToken) -> Result<Exit, CommandError> {
    let before = arguments.before.moment().ok_or(CommandError::NotInThePast)?;
    let store = arguments.ledger.open("purge").await?;
    let report = carry_out(&*store, arguments, before, shutdown).await;
    store.close().await;
    print(&report?, arguments.json)?;
    Ok(Exit::Done)
}

async fn carry_out(
    store: &dyn Store,
    arguments: &PurgeArguments,
    before: Timestamp,
    shutdown: &CancellationToken,
) -> Result<PurgeReport, CommandError> {
    let mut kinds = if arguments.what.is_empty() { PurgeKind::BY_DEFAULT.to_vec() } else { arguments.what.clone() };
    kinds.sort();
    kinds.dedup();
    let mut report = PurgeReport { before, is_dry_run: arguments.dry_run, operation: None, purged: Vec::new() };
    for kind in &kinds {
        report.purged.push(PurgedKind { kind: *kind, counts: store.plan_purge(*kind, before).await? });
    }
    let planned = report.total();
    if arguments.dry_run || planned.rows == 0 {
        return Ok(report);
    }
    let (rows, bytes) = (counted(planned.rows, "entry", "entries"), counted(planned.bytes, "byte", "bytes"));
    let context = arguments.confirm.ask(&format!("Purge {rows} ({bytes}) from before {} UTC?", moment(before)))?;
    let named: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let details = json!({ "before": before.to_string(), "what": named });
    let operation = store.begin_operation("purge", &details, &context).await?;
    report.operation = Some(operation);
    for purged in &mut report.purged {
        purged.counts = purge_kind(store, operation, purged.kind, before, shutdown).await?;
    }
    Ok(report)
}

async fn purge_kind(
    store: &dyn Store,
    operation: u64,
    kind: PurgeKind,
    before: Timestamp,
    shutdown: &CancellationToken,
) -> Result<PurgeCounts, CommandError> {
    let (mut taken, mut logged, mut next) = (PurgeCounts::default(), 0, Some(PurgePosition::default()));
    while let Some(from) = next {
        let step = async || store.purge_step(operation, kind, before, &from).await;
        let (counts, after) = steps::take(shutdown, || CommandError::PurgeStopped, step).await?;
        taken += counts;
        next = after;
        if taken.rows >= logged + LOG_EVERY_ROWS {
            logged = taken.rows;
            info!("Purged {} of {}", counted(logged, "entry", "entries"), kind.as_str());
        }
    }
    Ok(taken)
}

/// What was or would be taken.
#[derive(Debug, Serialize)]
struct PurgeReport {
    before: Timestamp,
    is_dry_run: bool,
    /// The number in the table of operations; none if nothing was taken.
    operation: Option<u64>,
    purged: Vec<PurgedKind>,
}

#[derive(Debug, Serialize)]
struct PurgedKind {
    kind: PurgeKind,
    #[serde(flatten)]
    counts: PurgeCounts,
}

impl PurgeReport {
    fn total(&self) -> PurgeCounts {
        let mut total = PurgeCounts::default();
        for purged in &self.purged {
            total += purged.counts;
        }
        total
    }
}

impl fmt::Display for PurgeReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = moment(self.before);
        match (self.is_dry_run, self.operation) {
            (true, _) => writeln!(out, "from before {before} UTC, a purge would take:")?,
            (false, Some(operation)) => writeln!(out, "purged from before {before} UTC, operation {operation}:")?,
            (false, None) => writeln!(out, "nothing is left from before {before} UTC")?,
        }
        let mut table = Table::new(["what", ">entries", ">bytes"]);
        for PurgedKind { kind, counts } in &self.purged {
            table.add([kind.as_str().to_owned(), grouped(counts.rows), grouped(counts.bytes)]);
        }
        table.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::at;

    #[test]
    fn reads_as_a_table() {
        let purged = vec![
            PurgedKind { kind: PurgeKind::Raw, counts: PurgeCounts { rows: 1_200, bytes: 98_765 } },
            PurgedKind { kind: PurgeKind::DeadLetters, counts: PurgeCounts::default() },
        ];
        let report = PurgeReport { before: at("10:00:00"), is_dry_run: false, operation: Some(7), purged };
        let table = "\nwhat          entries   bytes\nraw             1,200  98,765\ndead-letters        0       0\n";
        assert_eq!(report.to_string(), format!("purged from before 2026-01-11 10:00:00 UTC, operation 7:{table}"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["purged"][1], json!({ "kind": "dead-letters", "rows": 0, "bytes": 0 }));
        let dry = PurgeReport { is_dry_run: true, operation: None, ..report };
        assert_eq!(dry.to_string(), format!("from before 2026-01-11 10:00:00 UTC, a purge would take:{table}"));
    }
}

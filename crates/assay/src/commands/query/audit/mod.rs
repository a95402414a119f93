//! `assay audit`: verifies the row accounting and the chunks of runs, from the tables alone.

mod stranded;
mod strays;

use std::fmt;

use assay_queue::BrokerOptions;
use assay_report::{describe_removal, show_tombstones};
use assay_store::{Audit, AuditBreach, Store, Tombstones};
use assay_transaction::{Exit, Run, RunId, RunRemoval, RunState, Tally};
use clap::Args;
use serde::Serialize;

use self::stranded::{MissingChunks, find_missing_chunks};
use self::strays::StrayFindings;
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;
use crate::output::{FieldList, Tone, counted, grouped, one_line, print, print_json, print_text, ranges, toned};
use assay_report::ControlTotals;
use assay_report::LiveCounts;
use assay_report::QueueProbe;

/// Verify that every row of a run has exactly one outcome
///
/// Counts the rows themselves: rows_read = predicted + invalid + failed + duplicate; each row has one outcome; each stored
/// transaction has a prediction, each duplicate its original; every chunk from 0 to the total is recorded. Lists what is
/// missing. Of an unfinished run, the recorded rows are audited; if AMQP_URL is set, also whether missing chunks are still in
/// the queues, which they are not after a restore of PostgreSQL. With --all, rows without a run are listed too.
///
/// Shows control totals with what was read, and for a live run the rows that its producer accepted and those that arrived.
///
/// Exits 0 if the audit passed; 1 if it failed, control totals differ, live rows are missing, or missing chunks are lost; 2 if
/// there is no such run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay audit batch_20260111_100000_3f9a1c
  assay audit --all
  assay audit --all --json | jq '.[] | select(.breaches != [])'")]
pub(crate) struct AuditArguments {
    /// The run: its name, a source that it loaded, or `latest`
    #[arg(value_name = "RUN", required_unless_present = "all", conflicts_with = "all")]
    run: Option<String>,
    /// Audit every run
    #[arg(long)]
    all: bool,
    /// Print the result as JSON, on stdout: an object, with --all an array of them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Audits a run, or all of them.
pub(crate) async fn audit(arguments: &AuditArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("audit").await?;
    let probe = QueueProbe::connect(&arguments.broker, "audit", arguments.ledger.startup.startup_timeout).await;
    let exit = match &arguments.run {
        Some(run) => {
            let (Run { run_id, .. }, _) = resolve_run(&*store, run).await?;
            let finding =
                audit_run(&*store, &probe, &run_id).await?.ok_or_else(|| CommandError::NoRun(run_id.to_string()))?;
            print(&finding, arguments.json)?;
            finding.exit()
        }
        None => audit_all(&*store, &probe, arguments.json).await?,
    };
    probe.close().await;
    store.close().await;
    Ok(exit)
}

async fn audit_all(store: &dyn Store, probe: &QueueProbe, json: bool) -> Result<Exit, CommandError> {
    let mut findings = Vec::new();
    let (mut audited, mut broken, mut differing) = (0, 0, 0);
    for run in store.runs(None, u32::MAX).await? {
        let Some(finding) = audit_run(store, probe, &run.run_id).await? else { continue };
        audited += 1;
        broken += u64::from(!finding.breaches.is_empty() || finding.lacks_live_rows() || finding.chunks_stranded > 0);
        differing += u64::from(finding.totals_differ());
        if json {
            findings.push(serde_json::to_value(&finding).map_err(|error| CommandError::Print(error.into()))?);
        } else {
            // At once, as the next run may take long.
            print_text(&format_args!("{finding}\n"))?;
        }
    }
    let strays = StrayFindings(store.strays().await?);
    if json {
        findings.extend(strays.json());
        print_json(&findings)?;
    } else {
        print_text(&strays)?;
        let result = match broken {
            0 => "audit passed".to_owned(),
            broken => format!("audit failed for {}", grouped(broken)),
        };
        let totals = match differing {
            0 => String::new(),
            differing => format!("; control totals of {} differ", counted(differing, "run", "runs")),
        };
        print_text(&format_args!("{}: {result}{totals}{}\n", counted(audited, "run", "runs"), strays.summary()))?;
    }
    Ok(if broken + differing == 0 && strays.is_empty() { Exit::Done } else { Exit::FailedRows })
}

async fn audit_run(
    store: &dyn Store,
    probe: &QueueProbe,
    run_id: &RunId,
) -> Result<Option<AuditFinding>, CommandError> {
    let Some(audit) = store.audit(run_id).await? else { return Ok(None) };
    let live = LiveCounts::of(store, &audit.run).await?;
    let (chunks_stranded, unknown_because) = match find_missing_chunks(store, probe, &audit).await? {
        MissingChunks::OnTheirWay => (0, None),
        MissingChunks::Unknown(why) => (0, Some(why)),
        MissingChunks::Stranded(chunks) => (chunks, None),
    };
    let tombstones = store.tombstones(run_id).await?;
    Ok(Some(AuditFinding { chunks_stranded, unknown_because, live, tombstones, ..AuditFinding::from(audit) }))
}

/// The result of an audit.
#[derive(Debug, Serialize)]
struct AuditFinding {
    run_id: RunId,
    source: String,
    state: RunState,
    /// Whether the whole run was audited, as no more rows will come.
    is_finished: bool,
    /// Rows that were read; of an unfinished run, those of its recorded chunks.
    rows_read: u64,
    #[serde(flatten)]
    tally: Tally,
    chunks_recorded: u64,
    chunks_total: Option<u64>,
    chunks_missing: u64,
    /// First and last chunk of each missing range.
    missing: Vec<(u64, u64)>,
    /// Missing chunks of an unfinished run that are in no queue.
    chunks_stranded: u64,
    /// Why it is not known whether missing chunks are in a queue.
    #[serde(skip)]
    unknown_because: Option<String>,
    holds: bool,
    breaches: Vec<AuditBreach>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_totals: Option<ControlTotals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removal: Option<RunRemoval>,
    /// Rows that were purged or erased.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tombstones: Vec<Tombstones>,
}

impl From<Audit> for AuditFinding {
    fn from(audit: Audit) -> Self {
        let (breaches, control_totals) = (audit.breaches(), ControlTotals::of(&audit.run));
        let Audit { run, tally, chunks_recorded, rows_covered, missing, chunks_missing, .. } = audit;
        let Run { run_id, source, state, sealed, removal, .. } = run;
        let is_finished = state.is_finished();
        Self {
            run_id,
            source: source.location,
            state,
            is_finished,
            rows_read: if is_finished { sealed.map_or(0, |sealed| sealed.rows_read) } else { rows_covered },
            tally,
            chunks_recorded,
            chunks_total: sealed.map(|sealed| sealed.chunks_total),
            chunks_missing,
            missing,
            chunks_stranded: 0,
            unknown_because: None,
            holds: breaches.is_empty(),
            breaches,
            control_totals,
            live: None,
            removal,
            tombstones: Vec::new(),
        }
    }
}

impl AuditFinding {
    fn exit(&self) -> Exit {
        if self.holds && !self.totals_differ() && !self.lacks_live_rows() && self.chunks_stranded == 0 {
            Exit::Done
        } else {
            Exit::FailedRows
        }
    }

    fn lacks_live_rows(&self) -> bool {
        self.live.as_ref().is_some_and(LiveCounts::is_breach)
    }

    fn totals_differ(&self) -> bool {
        self.control_totals.as_ref().is_some_and(ControlTotals::differ)
    }

    fn chunks(&self) -> String {
        let text = match self.chunks_total {
            Some(total) => format!("{} of {} recorded", grouped(self.chunks_recorded), grouped(total)),
            None => format!("{} recorded so far", grouped(self.chunks_recorded)),
        };
        if self.chunks_missing > 0 {
            let listed: u64 = self.missing.iter().map(|(first, last)| last - first + 1).sum();
            let more = if listed < self.chunks_missing { ", …" } else { "" };
            let count =
                if self.chunks_missing > 1 { format!(" ({})", grouped(self.chunks_missing)) } else { String::new() };
            let noun = if self.chunks_missing == 1 { "chunk" } else { "chunks" };
            let ranges = ranges(&self.missing);
            return format!("{text}; missing{count}: {noun} {ranges}{more}");
        }
        text
    }
}

impl fmt::Display for AuditFinding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { predicted, invalid, failed, duplicate } = self.tally;
        let (tone, result) = match (self.holds, self.is_finished) {
            (true, false) if self.chunks_stranded > 0 => (Tone::Bad, "not finished; CHUNKS ARE LOST"),
            (true, true) => (Tone::Good, "audit passed"),
            (true, false) => (Tone::Open, "not finished; audit passed for the recorded rows"),
            (false, _) => (Tone::Bad, "AUDIT FAILED"),
        };
        writeln!(out, "run {} ({}): {}", self.run_id, self.state, toned(tone, result))?;
        let mut fields = FieldList::default();
        fields.add("source", one_line(&self.source, 200));
        let outcomes = format!(
            "{} = {} predicted + {} invalid + {} failed + {} duplicate",
            grouped(self.tally.total()),
            grouped(predicted),
            grouped(invalid),
            grouped(failed),
            grouped(duplicate)
        );
        fields.add(if self.is_finished { "rows read" } else { "rows recorded" }, grouped(self.rows_read));
        fields.add("outcomes", outcomes);
        fields.add("chunks", self.chunks());
        fields.add_some("control totals", self.control_totals.as_ref().map(ToString::to_string));
        fields.add_some("live rows", self.live.as_ref().map(ToString::to_string));
        if let Some(removal) = &self.removal {
            let resume = if removal.ended_at.is_some() { "" } else { "; `assay remove` resumes it" };
            fields.add("removal", format!("{}{resume}", describe_removal(removal)));
        }
        show_tombstones(&self.tombstones, &mut fields);
        for breach in &self.breaches {
            fields.add("breach", describe(breach));
        }
        if let Some(why) = &self.unknown_because {
            fields.add("missing chunks", format!("not known whether they are in a queue: {}", one_line(why, 300)));
        }
        if self.chunks_stranded > 0 {
            let missing = counted(self.chunks_stranded, "missing chunk is", "missing chunks are");
            fields.add(
                "lost",
                format!("{missing} in no queue, and no loader works on the run; unless the ML API is unreachable right now, publish again with `assay repair {}`", self.run_id),
            );
        }
        fields.fmt(out)
    }
}

/// A breach, for a person.
fn describe(breach: &AuditBreach) -> String {
    match breach {
        AuditBreach::Sum { expected, found } if found < expected => {
            format!("{} no outcome", counted(expected - found, "row has", "rows have"))
        }
        AuditBreach::Sum { expected, found } => {
            format!(
                "{} for rows that were not read",
                counted(found - expected, "outcome is there", "outcomes are there")
            )
        }
        AuditBreach::Doubled { outcomes } => {
            format!("{} too many: rows with more than one", counted(*outcomes, "outcome", "outcomes"))
        }
        AuditBreach::Uncovered { outcomes } => {
            format!(
                "{} to rows that no recorded chunk covers",
                counted(*outcomes, "outcome belongs", "outcomes belong")
            )
        }
        AuditBreach::Unpredicted { transactions } => {
            format!("{} no prediction", counted(*transactions, "transaction has", "transactions have"))
        }
        AuditBreach::Unfounded { duplicates } => format!(
            "{} not stored",
            counted(
                *duplicates,
                "row is a duplicate of a transaction that is",
                "rows are duplicates of transactions that are"
            )
        ),
        AuditBreach::Credited { expected, found } => format!(
            "the chunks of the run count {}, but {} stored",
            counted(*expected, "stored row", "stored rows"),
            counted(*found, "is", "are")
        ),
        AuditBreach::Missing { chunks } => {
            format!("{} not recorded: publish again with `assay repair`", counted(*chunks, "chunk is", "chunks are"))
        }
        AuditBreach::Beyond { chunks } => {
            format!("{} beyond the end of the run", counted(*chunks, "recorded chunk lies", "recorded chunks lie"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;

    fn whole() -> Audit {
        Audit {
            run: example(),
            tally: Tally { predicted: 900, invalid: 60, failed: 30, duplicate: 10 },
            distinct_rows: 1_000,
            uncovered_rows: 0,
            unpredicted: 0,
            unfounded_duplicates: 0,
            credited: 900,
            chunks_recorded: 10,
            rows_covered: 1_000,
            chunks_beyond: 0,
            missing: Vec::new(),
            chunks_missing: 0,
        }
    }

    #[test]
    fn a_passed_audit_shows_the_counts() {
        let finding = AuditFinding::from(whole());
        assert_eq!(finding.exit(), Exit::Done);
        assert_eq!(
            finding.to_string(),
            "\
run batch_20260111_100000_3f9a1c (complete): audit passed
  source     s3://transactions/2026.csv
  rows read  1,000
  outcomes   1,000 = 900 predicted + 60 invalid + 30 failed + 10 duplicate
  chunks     10 of 10 recorded
"
        );
    }

    #[test]
    fn a_failed_audit_names_each_breach() {
        let finding = AuditFinding::from(Audit {
            tally: Tally { predicted: 899, invalid: 60, failed: 30, duplicate: 0 },
            distinct_rows: 988,
            uncovered_rows: 2,
            unpredicted: 1,
            unfounded_duplicates: 2,
            chunks_recorded: 7,
            missing: vec![(6, 7), (9, 9)],
            chunks_missing: 3,
            chunks_beyond: 1,
            ..whole()
        });
        assert_eq!(finding.exit(), Exit::FailedRows);
        assert_eq!(
            finding.to_string(),
            "\
run batch_20260111_100000_3f9a1c (complete): AUDIT FAILED
  source     s3://transactions/2026.csv
  rows read  1,000
  outcomes   989 = 899 predicted + 60 invalid + 30 failed + 0 duplicate
  chunks     7 of 10 recorded; missing (3): chunks 6-7, 9
  breach     11 rows have no outcome
  breach     1 outcome too many: rows with more than one
  breach     2 outcomes belong to rows that no recorded chunk covers
  breach     1 transaction has no prediction
  breach     2 rows are duplicates of transactions that are not stored
  breach     3 chunks are not recorded: publish again with `assay repair`
  breach     1 recorded chunk lies beyond the end of the run
"
        );
    }

    #[test]
    fn an_unfinished_run_is_audited_by_its_recorded_rows() {
        let run = Run { state: RunState::Loading, sealed: None, ..example() };
        let tally = Tally { predicted: 300, ..Tally::default() };
        let finding = AuditFinding::from(Audit {
            run,
            tally,
            distinct_rows: 300,
            credited: 300,
            chunks_recorded: 3,
            rows_covered: 300,
            missing: vec![(2, 2)],
            chunks_missing: 1,
            ..whole()
        });
        assert_eq!(
            finding.to_string(),
            "\
run batch_20260111_100000_3f9a1c (loading): not finished; audit passed for the recorded rows
  source         s3://transactions/2026.csv
  rows recorded  300
  outcomes       300 = 300 predicted + 0 invalid + 0 failed + 0 duplicate
  chunks         3 recorded so far; missing: chunk 2
"
        );
        assert_eq!(finding.exit(), Exit::Done);
        let unknown = AuditFinding { unknown_because: Some("AMQP_URL is not set".to_owned()), ..finding };
        assert!(
            unknown.to_string().ends_with("not known whether they are in a queue: AMQP_URL is not set\n"),
            "{unknown}"
        );
        assert_eq!(unknown.exit(), Exit::Done);
        let lost = AuditFinding { chunks_stranded: 1, unknown_because: None, ..unknown };
        let text = lost.to_string();
        assert!(
            text.contains("CHUNKS ARE LOST") && text.contains("lost           1 missing chunk is in no queue"),
            "{text}"
        );
        assert_eq!(lost.exit(), Exit::FailedRows);
    }

    #[test]
    fn its_json_is_pinned() {
        let audit = Audit { missing: vec![(7, 9)], chunks_missing: 3, chunks_recorded: 7, unpredicted: 1, ..whole() };
        crate::output::pin_json("audit", &AuditFinding::from(audit));
    }
}

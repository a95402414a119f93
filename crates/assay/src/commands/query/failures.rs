//! `assay failures`: failed transactions by class, and dead letters by outcome.

use std::collections::BTreeMap;
use std::fmt;

use assay_store::{DeadLetterRecord, FailedRecord, FailedRowSelection, RunFilter, Store};
use assay_transaction::{Exit, FailureClass, RunId, RunState, Timestamp, mask_card_numbers};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use uuid::Uuid;

use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::commands::ledger::since::SinceArgument;
use crate::commands::query::status::MAX_LETTERS;
use crate::error::CommandError;
use crate::output::{Table, grouped, moment, one_line, print};

/// The default of `--since`: a month, as most jobs run daily.
const PERIOD: &str = "31d";
/// Most runs that are shown.
const MAX_RUNS: u32 = 1_000;
/// Failed transactions of a query, which include their payload.
const PAGE: u32 = 100;
/// Longest reason that is shown as text.
const REASON: usize = 200;

/// List transactions that could not be scored or stored
///
/// Shows failed transactions of a run, or of all runs of the last 31 days, by class, with the first of each; and dead letters:
/// `booked` (their rows are failed, class dead_lettered), `known` (recorded before), `unreadable` and `refused` (they keep
/// their run from being complete until `assay repair`).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay failures
  assay failures --since 7d
  assay failures batch_20260111_100000_3f9a1c
  assay failures batch_20260111_100000_3f9a1c --class rejected --limit 50")]
pub(crate) struct FailuresArguments {
    /// The run: its name, a source that it loaded, or `latest` [default: every run since --since]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Only runs that began after this: a span such as 12h or 7d, or a day or time in UTC, such as 2026-01-11
    #[arg(long, value_name = "WHEN", default_value = PERIOD, conflicts_with = "run")]
    since: SinceArgument,
    /// Only this class; may be repeated
    #[arg(long = "class", value_name = "CLASS", value_parser = classes(), value_delimiter = ',')]
    classes: Vec<String>,
    /// Transactions to show of each class
    #[arg(long, default_value_t = 1, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// The values of `--class`.
pub(crate) fn classes() -> PossibleValuesParser {
    PossibleValuesParser::new(FailureClass::ALL.iter().map(FailureClass::code))
}

/// Lists failures.
pub(crate) async fn failures(arguments: &FailuresArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("failures").await?;
    let runs = if let Some(run) = &arguments.run {
        vec![resolve_run(&*store, run).await?.0]
    } else {
        let seconds = Some(arguments.since.seconds());
        store.list_runs(&RunFilter { seconds, has_failed: true, ..RunFilter::default() }, 0, MAX_RUNS).await?
    };
    let run_id = arguments.run.as_ref().and_then(|_| runs.first()).map(|run| run.run_id.clone());
    let mut failures = FailureReport { runs: Vec::new(), dead_letters: Vec::new() };
    for run in runs {
        let selection = FailedRowSelection { classes: arguments.classes.clone(), rows: Vec::new() };
        let mut classes = Vec::new();
        for (class, count) in store.count_failed(&run.run_id, &selection).await? {
            let first = first_of_class(&*store, &run.run_id, &class, arguments.limit).await?;
            classes.push(ClassFailures { class, count, first });
        }
        if run_id.is_some() || !classes.is_empty() {
            failures.runs.push(RunFailures {
                run_id: run.run_id,
                source: run.source.location,
                state: run.state,
                classes,
            });
        }
    }
    failures.dead_letters = by_outcome(store.dead_letters(run_id.as_ref(), MAX_LETTERS).await?);
    store.close().await;
    print(&failures, arguments.json)?;
    Ok(Exit::Done)
}

/// The first transactions of a class, in row order.
async fn first_of_class(
    store: &dyn Store,
    run_id: &RunId,
    class: &str,
    limit: u32,
) -> Result<Vec<FailedRowLine>, CommandError> {
    let selection = FailedRowSelection { classes: vec![class.to_owned()], rows: Vec::new() };
    let (mut rows, mut from) = (Vec::<FailedRowLine>::new(), 0);
    loop {
        let missing = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(limit));
        if missing == 0 {
            return Ok(rows);
        }
        let page = store.failed_rows(run_id, &selection, from, missing.min(PAGE)).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        from = last.row + 1;
        rows.extend(page.into_iter().map(FailedRowLine::from));
    }
}

/// Dead letters by outcome, with the latest of each.
fn by_outcome(letters: Vec<DeadLetterRecord>) -> Vec<DeadLetterGroup> {
    let mut outcomes = BTreeMap::<&'static str, DeadLetterGroup>::new();
    for record in letters {
        let outcome = crate::commands::query::status::outcome_name(record.letter.outcome);
        let resolved = u64::from(record.resolved_at.is_some());
        let letters = outcomes.entry(outcome).or_insert_with(|| DeadLetterGroup {
            outcome,
            count: 0,
            resolved: 0,
            latest: LatestLetter {
                id: record.id,
                received_at: record.received_at,
                queue: record.letter.queue,
                // Its name may hold anything.
                message_id: record.letter.message_id.map(|id| mask_card_numbers(&id).into_owned()),
                run_id: record.letter.run_id,
                reason: mask_card_numbers(&record.letter.reason).into_owned(),
            },
        });
        letters.count += 1;
        letters.resolved += resolved;
    }
    outcomes.into_values().collect()
}

/// Failed transactions and dead letters.
#[derive(Debug, Serialize)]
struct FailureReport {
    runs: Vec<RunFailures>,
    dead_letters: Vec<DeadLetterGroup>,
}

/// The failed transactions of a run.
#[derive(Debug, Serialize)]
struct RunFailures {
    run_id: RunId,
    source: String,
    state: RunState,
    classes: Vec<ClassFailures>,
}

#[derive(Debug, Serialize)]
struct ClassFailures {
    class: String,
    count: u64,
    first: Vec<FailedRowLine>,
}

#[derive(Debug, Serialize)]
struct FailedRowLine {
    row: u64,
    transaction_id: Uuid,
    attempts: u64,
    reason: String,
}

impl From<FailedRecord> for FailedRowLine {
    fn from(record: FailedRecord) -> Self {
        Self {
            row: record.row,
            transaction_id: record.transaction_id,
            attempts: record.attempts,
            reason: mask_card_numbers(&record.reason).into_owned(),
        }
    }
}

/// Dead letters of one outcome.
#[derive(Debug, Serialize)]
struct DeadLetterGroup {
    outcome: &'static str,
    count: u64,
    resolved: u64,
    latest: LatestLetter,
}

#[derive(Debug, Serialize)]
struct LatestLetter {
    id: u64,
    received_at: Timestamp,
    queue: String,
    message_id: Option<String>,
    run_id: Option<String>,
    reason: String,
}

impl fmt::Display for FailureReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(out, "run {} ({}), {}", run.run_id, run.state, one_line(&run.source, REASON))?;
            if run.classes.is_empty() {
                writeln!(out, "no transaction failed\n")?;
            } else {
                writeln!(out, "{}", class_table(&run.classes))?;
            }
        }
        if self.runs.is_empty() {
            writeln!(out, "no transaction of these runs failed\n")?;
        }
        if self.dead_letters.is_empty() {
            return writeln!(out, "there is no dead letter");
        }
        letter_table(&self.dead_letters).fmt(out)
    }
}

fn class_table(classes: &[ClassFailures]) -> Table {
    let mut table = Table::new(["class", ">count", ">row", "transaction", ">attempts", "reason"]);
    for ClassFailures { class, count, first } in classes {
        let (mut name, mut number) = (one_line(class, 40), grouped(*count));
        if first.is_empty() {
            table.add([name, number, String::new(), String::new(), String::new(), String::new()]);
            continue;
        }
        for row in first {
            table.add([
                std::mem::take(&mut name),
                std::mem::take(&mut number),
                row.row.to_string(),
                row.transaction_id.to_string(),
                row.attempts.to_string(),
                one_line(&row.reason, REASON),
            ]);
        }
    }
    table
}

fn letter_table(letters: &[DeadLetterGroup]) -> Table {
    let mut table = Table::new(["dead letters", ">count", ">resolved", "latest (UTC)", "queue", "message", "reason"]);
    for DeadLetterGroup { outcome, count, resolved, latest } in letters {
        table.add([
            (*outcome).to_owned(),
            grouped(*count),
            grouped(*resolved),
            moment(latest.received_at),
            one_line(&latest.queue, 40),
            latest.message_id.as_deref().map_or_else(|| "-".to_owned(), |id| one_line(id, 100)),
            one_line(&latest.reason, REASON),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::at;
    use assay_report::fixture::failed;
    use assay_store::{DeadLetter, DeadLetterOutcome};

    fn letter(id: u64, outcome: DeadLetterOutcome) -> DeadLetterRecord {
        DeadLetterRecord {
            id,
            letter: DeadLetter {
                queue: "transactions.batch".into(),
                message_id: (id > 1).then(|| format!("first/{id}")),
                message_type: None,
                run_id: Some("first".into()),
                reason: "not a readable assay.chunk.v1".into(),
                attempt: 0,
                body: Vec::new(),
                outcome,
            },
            received_at: at("10:00:00"),
            resolved_at: None,
        }
    }

    #[test]
    fn each_class_is_listed_with_its_first_rows() {
        let second = FailedRecord { row: 12, reason: "HTTP status 422: 4111111111111111".into(), ..failed() };
        let classes = vec![
            ClassFailures { class: "rejected".into(), count: 1_050, first: vec![failed().into(), second.into()] },
            ClassFailures { class: "suspect".into(), count: 2, first: Vec::new() },
        ];
        let run = RunFailures {
            run_id: "first".parse().unwrap(),
            source: "/data/a.csv".into(),
            state: RunState::Complete,
            classes,
        };
        let dead_letters = by_outcome(vec![
            letter(3, DeadLetterOutcome::Unreadable),
            letter(2, DeadLetterOutcome::Booked),
            letter(1, DeadLetterOutcome::Unreadable),
        ]);
        assert_eq!(
            FailureReport { runs: vec![run], dead_letters }.to_string(),
            "\
run first (complete), /data/a.csv
class     count  row  transaction                           attempts  reason
rejected  1,050    7  67e55044-10b1-426f-9247-bb680e5fe0c8         2  HTTP status 422
                  12  67e55044-10b1-426f-9247-bb680e5fe0c8         2  HTTP status 422: ************1111
suspect       2

dead letters  count  resolved  latest (UTC)         queue               message  reason
booked            1         0  2026-01-11 10:00:00  transactions.batch  first/2  not a readable assay.chunk.v1
unreadable        2         0  2026-01-11 10:00:00  transactions.batch  first/3  not a readable assay.chunk.v1
"
        );
    }

    #[test]
    fn no_failures_are_reported_as_such() {
        let nothing = FailureReport { runs: Vec::new(), dead_letters: Vec::new() };
        assert_eq!(nothing.to_string(), "no transaction of these runs failed\n\nthere is no dead letter\n");
    }

    #[test]
    fn its_json_is_pinned() {
        let classes = vec![ClassFailures { class: "rejected".into(), count: 1_050, first: vec![failed().into()] }];
        let run = RunFailures {
            run_id: "first".parse().unwrap(),
            source: "s3://transactions/2026.csv".into(),
            state: RunState::Complete,
            classes,
        };
        let dead_letters = by_outcome(vec![letter(2, DeadLetterOutcome::Booked)]);
        crate::output::pin_json("failures", &FailureReport { runs: vec![run], dead_letters });
    }
}

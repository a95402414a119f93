//! `assay row`: what became of row 4,711?
//!
//! `comparison` compares the recorded values with the source.

mod comparison;

use std::fmt;

use assay_queue::BrokerOptions;
use assay_report::{EarlierAttempt, QueueProbe, RowFate, is_tombstone};
use assay_source::{S3Options, Sources};
use assay_store::RowOutcome;
use assay_transaction::{Exit, RunId};
use clap::Args;
use serde::Serialize;

use self::comparison::SourceComparison;
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;
use crate::output::{grouped, one_line, print};

/// Longest location that is shown.
const SOURCE: usize = 2_000;

/// Show what became of one row
///
/// Rows count from 1, without the header; those of a live run as they arrive. A source stands for its latest run. If AMQP_URL
/// is set, the queues are shown for a row on its way. Card numbers are masked.
///
/// With --source, reads the same version of the source again, from its first row to this one, and compares every recorded
/// value with it.
///
/// Exits 0 when the row is found; 1 if it is lost although its run is finished, or differs from its source; 2 if there is no
/// such run; 4 if the source was replaced, is gone, or cannot be read twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay row batch_20260111_100000_3f9a1c 4711
  assay row s3://transactions/2026.csv 4711
  assay row examples/transactions.csv 4711 --json
  assay row examples/transactions.csv 4711 --source
  assay row live:streamer 4711")]
pub(crate) struct RowArguments {
    /// A run; s3://bucket/key or the path of a file, for the latest run of that source; or `latest`
    #[arg(value_name = "RUN_OR_SOURCE")]
    run_or_source: String,
    /// The row, from 1
    #[arg(value_name = "N")]
    row: u64,
    /// Read the row from its source again, and compare it with the recorded values
    #[arg(long)]
    source: bool,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    s3: S3Options,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
    #[command(flatten)]
    broker: BrokerOptions,
}

/// Shows the row.
pub(crate) async fn row(arguments: &RowArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("row").await?;
    let (run, is_latest) = resolve_run(&*store, &arguments.run_or_source).await?;
    if arguments.source && run.removal.is_some() {
        return Err(CommandError::RunRemoved(run.run_id, "compared with its source"));
    }
    let recorded = store.row(&run.run_id, arguments.row).await?;
    if arguments.source && matches!(&recorded, RowOutcome::Failed(record) if is_tombstone(record)) {
        return Err(CommandError::RowGone(arguments.row));
    }
    let comparison = if arguments.source {
        let (sources, startup) = (Sources::new(&arguments.s3)?, arguments.ledger.startup.startup_timeout);
        Some(comparison::compare_with_source(&sources, &run, arguments.row, &recorded, startup).await?)
    } else {
        None
    };
    let earlier = store.earlier_failures(&run.run_id, arguments.row).await?;
    let queues = async || {
        let probe = QueueProbe::connect(&arguments.broker, "row", arguments.ledger.startup.startup_timeout).await;
        let queues = probe.snapshot().await;
        probe.close().await;
        queues
    };
    let outcome = RowFate::of(&*store, &run, arguments.row, recorded, queues).await?;
    store.close().await;
    let report = RowReport {
        run_id: run.run_id,
        source: run.source.location,
        is_latest_of_source: is_latest,
        row: arguments.row,
        outcome,
        earlier: earlier.into_iter().map(EarlierAttempt::from).collect(),
        comparison,
    };
    print(&report, arguments.json)?;
    let differs = report.comparison.as_ref().is_some_and(|comparison| !comparison.is_same);
    Ok(if differs || matches!(report.outcome, RowFate::Lost) { Exit::FailedRows } else { Exit::Done })
}

/// What became of a row.
#[derive(Debug, Serialize)]
struct RowReport {
    run_id: RunId,
    source: String,
    is_latest_of_source: bool,
    row: u64,
    #[serde(flatten)]
    outcome: RowFate,
    /// Its failures before each replay.
    #[serde(rename = "failed_before", skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<EarlierAttempt>,
    /// The comparison with the source, if requested.
    #[serde(rename = "source_says", skip_serializing_if = "Option::is_none")]
    comparison: Option<SourceComparison>,
}

impl fmt::Display for RowReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latest = if self.is_latest_of_source { ", the latest run of that source" } else { "" };
        writeln!(out, "row {} of run {}{latest}", grouped(self.row), self.run_id)?;
        writeln!(out, "{}\n", one_line(&self.source, SOURCE))?;
        writeln!(out, "{}", self.outcome.headline(&self.run_id))?;
        if let RowFate::OnItsWay { queues: Some(queues), .. } = &self.outcome {
            write!(out, "\n{queues}")?;
        }
        let mut fields = self.outcome.fields();
        for earlier in &self.earlier {
            fields.add("failed before", earlier.to_string());
        }
        fields.fmt(out)?;
        self.comparison.as_ref().map_or(Ok(()), |comparison| comparison.fmt(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::StoredTransactionView;
    use assay_report::fixture::{at, erasure, example, failed, record};
    use assay_store::{EarlierFailure, InvalidRecord};
    use assay_transaction::RunRemoval;

    fn row_report(outcome: RowFate, earlier: Vec<EarlierAttempt>) -> RowReport {
        RowReport {
            run_id: "second".parse().unwrap(),
            source: "/data/a.csv".into(),
            is_latest_of_source: true,
            row: 4_711,
            outcome,
            earlier,
            comparison: None,
        }
    }

    fn report(outcome: RowFate) -> String {
        row_report(outcome, Vec::new()).to_string()
    }

    #[test]
    fn a_replayed_row_shows_its_earlier_failures() {
        let failure = EarlierFailure {
            replay: 2,
            class: "rejected".into(),
            reason: "HTTP status 422: 4111111111111111".into(),
            attempts: 8,
            replayed_at: at("10:00:00"),
        };
        let report = row_report(RowFate::Predicted { transaction: Box::new(record().into()) }, vec![failure.into()]);
        assert!(
            report.to_string().ends_with(
                "  failed before   rejected, after 8 attempts: HTTP status 422: ************1111; replay 2, \
                 2026-01-11 10:00:00 UTC\n"
            ),
            "{report}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["failed_before"][0]["replay"], &json["outcome"]), (&2.into(), &"predicted".into()));
    }

    #[test]
    fn a_removed_row() {
        let removal = RunRemoval { by: "ada".into(), reason: "wrong".into(), began_at: at("10:00:00"), ended_at: None };
        assert!(
            report(RowFate::Removed { removal: Some(removal) }).ends_with(
                "\n\nbeing removed by ada, 2026-01-11 10:00:00 UTC: wrong\nits content was deleted, and it cannot be replayed\n"
            )
        );
        assert!(report(RowFate::Removed { removal: None }).contains("\n\nremoved\nits content was deleted"));
    }

    #[test]
    fn a_purged_and_an_erased_row() {
        let by = " by ada, 2026-01-11 10:00:00 UTC: as asked\\u{1b}[2J (operation 7)\nits content was deleted, and it cannot be replayed\n";
        let operation = || Some(Box::new(erasure()));
        let erased = report(RowFate::Erased { operation: operation() });
        assert!(erased.ends_with(&format!("\n\nerased{by}")), "{erased}");
        let was = "purged; it was invalid: amount_scale".to_owned();
        let purged = report(RowFate::Purged { was, operation: operation() });
        assert!(purged.ends_with(&format!("\n\npurged{by}  was  purged; it was invalid: amount_scale\n")), "{purged}");
        let json = serde_json::to_value(RowFate::Erased { operation: operation() }).unwrap();
        assert_eq!((&json["outcome"], &json["operation"]["id"]), (&"erased".into(), &7.into()));
    }

    #[test]
    fn a_predicted_row() {
        assert_eq!(
            report(RowFate::Predicted { transaction: Box::new(record().into()) }),
            "\
row 4,711 of run second, the latest run of that source
/data/a.csv

predicted: fraud, score 0.9700, by model demo-1
  transaction     67e55044-10b1-426f-9247-bb680e5fe0c8
  external id     4711
  description     CB ************1111 EDF
  amount          -952.40
  timestamp       2023-11-28 06:35:12 UTC
  merchant        EDF
  operation type  refund
  side            debit
  card            ************1111
  scored at       2026-01-11 10:00:01 UTC
  scored by       http://ml-api:8000/predict, features file 0123456789abcdef
  reasons         amount +0.2500, R07 ************1111
  stored at       2026-01-11 10:00:02 UTC
"
        );
    }

    #[test]
    fn an_invalid_row() {
        let record = InvalidRecord {
            run_id: "second".parse().unwrap(),
            row: 4_711,
            line: 4_713,
            reason: "amount_scale".into(),
            message: "`amount` has more than 4 decimals: `1.00001`".into(),
            raw: b"7;4111111111111111;1.00001".to_vec(),
        };
        assert!(report(RowFate::invalid(&record, &example())).ends_with(
            "
invalid: amount_scale
  rule      `amount` has more than 4 decimals: `1.00001`
  line      4,713
  raw text  7;************1111;1.00001
"
        ));
    }

    #[test]
    fn a_failed_row() {
        assert!(report(RowFate::Failed(Box::new(failed().into()))).ends_with(
            "
failed: rejected
  reason          HTTP status 422
  attempts        2
  replayable      yes: assay replay first --rows 7
  transaction     67e55044-10b1-426f-9247-bb680e5fe0c8
  external id     4711
  description     CB ************1111 EDF
  amount          -952.40
  timestamp       2023-11-28 06:35:12 UTC
  operation type  refund
  side            debit
"
        ));
    }

    #[test]
    fn a_duplicate_names_the_row_that_stored_it() {
        let stored = StoredTransactionView::from(record());
        let transaction_id = record().transaction.id;
        let text = report(RowFate::Duplicate { transaction_id, of: Some(Box::new(stored)) });
        assert!(text.contains("\nduplicate: row 3 of run first stored this transaction\n  prediction "), "{text}");
    }

    #[test]
    fn rows_without_an_outcome() {
        let text = report(RowFate::NeverRead { why: "the source has 10 rows".into() });
        assert!(text.ends_with("\n\nnever read: the source has 10 rows\n"), "{text}");
        assert!(report(RowFate::Lost).contains("run `assay audit second`"));
        let json = serde_json::to_value(RowFate::NeverRead { why: String::new() }).unwrap();
        assert_eq!(json["outcome"], "never_read");
    }

    #[test]
    fn its_json_is_pinned() {
        let failure = EarlierFailure {
            replay: 2,
            class: "rejected".into(),
            reason: "HTTP status 422".into(),
            attempts: 8,
            replayed_at: at("10:00:00"),
        };
        let predicted = RowFate::Predicted { transaction: Box::new(record().into()) };
        crate::output::pin_json("row", &row_report(predicted, vec![failure.into()]));
        let failed = RowFate::Failed(Box::new(failed().into()));
        crate::output::pin_json("row failed", &row_report(failed, Vec::new()));
    }
}

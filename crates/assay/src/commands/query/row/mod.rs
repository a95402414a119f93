//! `assay row`: what became of row 4,711?
//!
//! `location` finds a row without an outcome; `comparison` compares the recorded values with the source.

mod comparison;
mod location;

use std::fmt;

use assay_queue::BrokerOptions;
use assay_source::{S3Options, Sources};
use assay_store::{EarlierFailure, FailedRecord, InvalidRecord, OperationRecord, RowOutcome, Store};
use assay_transaction::{Exit, FailureClass, Run, RunId, RunRemoval, mask_card_numbers};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use self::comparison::SourceComparison;
use self::location::RowLocation;
use crate::commands::change::remove::describe_removal;
use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::queues::{QueueProbe, QueueSnapshot};
use crate::commands::ledger::run_argument::resolve_run;
use crate::commands::ledger::tombstones::describe_operation;
use crate::commands::ledger::transactions::{FailedTransactionView, StoredTransactionView};
use crate::error::CommandError;
use crate::output::{FieldList, counted, grouped, moment, one_line, print};

/// Longest text of an invalid row that is shown.
const RAW: usize = 2_000;

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
    if arguments.source && matches!(&recorded, RowOutcome::Failed(record) if class_of(record).is_tombstone()) {
        return Err(CommandError::RowGone(arguments.row));
    }
    let comparison = if arguments.source {
        let (sources, startup) = (Sources::new(&arguments.s3)?, arguments.ledger.startup.startup_timeout);
        Some(comparison::compare_with_source(&sources, &run, arguments.row, &recorded, startup).await?)
    } else {
        None
    };
    let earlier = store.earlier_failures(&run.run_id, arguments.row).await?;
    let outcome = outcome(&*store, &run, recorded, arguments).await?;
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
    Ok(if differs || matches!(report.outcome, ShownOutcome::Lost) { Exit::FailedRows } else { Exit::Done })
}

async fn outcome(
    store: &dyn Store,
    run: &Run,
    recorded: RowOutcome,
    arguments: &RowArguments,
) -> Result<ShownOutcome, CommandError> {
    let row = arguments.row;
    Ok(match recorded {
        RowOutcome::Predicted(record) => ShownOutcome::Predicted { transaction: Box::new((*record).into()) },
        RowOutcome::Invalid(record) => ShownOutcome::invalid(&record, run),
        RowOutcome::Failed(record) if class_of(&record) == FailureClass::Removed => {
            ShownOutcome::Removed { removal: run.removal.clone() }
        }
        RowOutcome::Failed(record) if class_of(&record).is_tombstone() => {
            let operation = match record.operation {
                Some(operation) => store.operation(operation).await?.map(Box::new),
                None => None,
            };
            if class_of(&record) == FailureClass::Purged {
                ShownOutcome::Purged { was: record.reason, operation }
            } else {
                ShownOutcome::Erased { operation }
            }
        }
        RowOutcome::Failed(record) => ShownOutcome::Failed(Box::new(record.into())),
        RowOutcome::Duplicate { of, transaction_id } => {
            ShownOutcome::Duplicate { transaction_id, of: of.map(|record| Box::new((*record).into())) }
        }
        RowOutcome::Unrecorded => match location::locate(store, run, row).await? {
            RowLocation::Lost => ShownOutcome::Lost,
            RowLocation::NeverRead { why } => ShownOutcome::NeverRead { why },
            RowLocation::OnItsWay(stage) => {
                let startup = arguments.ledger.startup.startup_timeout;
                let probe = QueueProbe::connect(&arguments.broker, "row", startup).await;
                let queues = probe.snapshot().await;
                probe.close().await;
                ShownOutcome::OnItsWay { stage, queues }
            }
        },
    })
}

fn class_of(record: &FailedRecord) -> FailureClass {
    FailureClass::from(record.class.as_str())
}

/// What became of a row.
#[derive(Debug, Serialize)]
struct RowReport {
    run_id: RunId,
    source: String,
    is_latest_of_source: bool,
    row: u64,
    #[serde(flatten)]
    outcome: ShownOutcome,
    /// Its failures before each replay.
    #[serde(rename = "failed_before", skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<EarlierAttempt>,
    /// The comparison with the source, if requested.
    #[serde(rename = "source_says", skip_serializing_if = "Option::is_none")]
    comparison: Option<SourceComparison>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum ShownOutcome {
    Predicted {
        transaction: Box<StoredTransactionView>,
    },
    Invalid {
        reason: String,
        message: String,
        line: u64,
        /// Its text, masked.
        raw: String,
    },
    Failed(Box<FailedTransactionView>),
    /// Its content was deleted, with that of the run or alone.
    Removed {
        removal: Option<RunRemoval>,
    },
    /// Its content was deleted, as it was old.
    Purged {
        /// Says what it was.
        was: String,
        operation: Option<Box<OperationRecord>>,
    },
    /// Its content was deleted, as its id was erased.
    Erased {
        operation: Option<Box<OperationRecord>>,
    },
    Duplicate {
        transaction_id: Uuid,
        of: Option<Box<StoredTransactionView>>,
    },
    OnItsWay {
        #[serde(flatten)]
        stage: location::TransitStage,
        #[serde(skip_serializing_if = "Option::is_none")]
        queues: Option<QueueSnapshot>,
    },
    NeverRead {
        why: String,
    },
    Lost,
}

/// A failure before a replay.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct EarlierAttempt(EarlierFailure);

impl From<EarlierFailure> for EarlierAttempt {
    fn from(failure: EarlierFailure) -> Self {
        let reason = mask_card_numbers(&failure.reason).into_owned();
        Self(EarlierFailure { reason, ..failure })
    }
}

impl fmt::Display for EarlierAttempt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EarlierFailure { replay, class, reason, attempts, replayed_at } = &self.0;
        let attempts = counted(*attempts, "attempt", "attempts");
        let (class, reason, at) = (one_line(class, 40), one_line(reason, RAW), moment(*replayed_at));
        write!(out, "{class}, after {attempts}: {reason}; replay {replay}, {at} UTC")
    }
}

impl ShownOutcome {
    fn invalid(record: &InvalidRecord, run: &Run) -> Self {
        let text = raw_text(record, run);
        Self::Invalid {
            reason: record.reason.clone(),
            message: mask_card_numbers(&record.message).into_owned(),
            line: record.line,
            raw: mask_card_numbers(&text).into_owned(),
        }
    }
}

/// The text of an invalid row, decoded from the encoding of its source.
pub(crate) fn raw_text(record: &InvalidRecord, run: &Run) -> String {
    let decoded = run.settings.encoding_of_rows().decode(&record.raw);
    decoded.unwrap_or_else(|| String::from_utf8_lossy(&record.raw)).into_owned()
}

impl fmt::Display for RowReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latest = if self.is_latest_of_source { ", the latest run of that source" } else { "" };
        writeln!(out, "row {} of run {}{latest}", grouped(self.row), self.run_id)?;
        writeln!(out, "{}\n", one_line(&self.source, RAW))?;
        let mut fields = FieldList::default();
        match &self.outcome {
            ShownOutcome::Predicted { transaction } => {
                writeln!(out, "predicted: {}", transaction.prediction_line())?;
                transaction.show(&mut fields);
            }
            ShownOutcome::Invalid { reason, message, line, raw } => {
                writeln!(out, "invalid: {reason}")?;
                fields.add("rule", one_line(message, RAW));
                fields.add("line", grouped(*line));
                fields.add("raw text", one_line(raw, RAW));
            }
            ShownOutcome::Failed(unstored) => {
                writeln!(out, "failed: {}", unstored.class)?;
                unstored.show(&mut fields);
            }
            ShownOutcome::Removed { removal } => {
                let why = removal.as_ref().map_or_else(|| "removed".to_owned(), describe_removal);
                writeln!(out, "{why}\nits content was deleted, and it cannot be replayed")?;
            }
            ShownOutcome::Purged { was, operation } => {
                let by = operation.as_deref().map(describe_operation).unwrap_or_default();
                writeln!(out, "purged{by}\nits content was deleted, and it cannot be replayed")?;
                fields.add("was", one_line(was, RAW));
            }
            ShownOutcome::Erased { operation } => {
                let by = operation.as_deref().map(describe_operation).unwrap_or_default();
                writeln!(out, "erased{by}\nits content was deleted, and it cannot be replayed")?;
            }
            ShownOutcome::Duplicate { of: Some(of), .. } => {
                writeln!(out, "duplicate: row {} of run {} stored this transaction", grouped(of.row), of.run_id)?;
                fields.add("prediction", of.prediction_line());
                of.show(&mut fields);
            }
            ShownOutcome::Duplicate { of: None, transaction_id } => {
                writeln!(out, "duplicate: of transaction {transaction_id}, which was deleted")?;
            }
            ShownOutcome::OnItsWay { stage, queues } => {
                writeln!(out, "on its way: {stage}")?;
                if let Some(queues) = queues {
                    write!(out, "\n{queues}")?;
                }
            }
            ShownOutcome::NeverRead { why } => writeln!(out, "never read: {why}")?,
            ShownOutcome::Lost => {
                writeln!(out, "lost: its run is finished, but it has no outcome; run `assay audit {}`", self.run_id)?;
            }
        }
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
    use crate::commands::ledger::state::tests::{at, example};
    use crate::commands::ledger::tombstones::tests::erasure;
    use crate::commands::ledger::transactions::tests::{failed, record};

    fn row_report(outcome: ShownOutcome, earlier: Vec<EarlierAttempt>) -> RowReport {
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

    fn report(outcome: ShownOutcome) -> String {
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
        let report =
            row_report(ShownOutcome::Predicted { transaction: Box::new(record().into()) }, vec![failure.into()]);
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
            report(ShownOutcome::Removed { removal: Some(removal) }).ends_with(
                "\n\nbeing removed by ada, 2026-01-11 10:00:00 UTC: wrong\nits content was deleted, and it cannot be replayed\n"
            )
        );
        assert!(report(ShownOutcome::Removed { removal: None }).contains("\n\nremoved\nits content was deleted"));
    }

    #[test]
    fn a_purged_and_an_erased_row() {
        let by = " by ada, 2026-01-11 10:00:00 UTC: as asked\\u{1b}[2J (operation 7)\nits content was deleted, and it cannot be replayed\n";
        let operation = || Some(Box::new(erasure()));
        let erased = report(ShownOutcome::Erased { operation: operation() });
        assert!(erased.ends_with(&format!("\n\nerased{by}")), "{erased}");
        let was = "purged; it was invalid: amount_scale".to_owned();
        let purged = report(ShownOutcome::Purged { was, operation: operation() });
        assert!(purged.ends_with(&format!("\n\npurged{by}  was  purged; it was invalid: amount_scale\n")), "{purged}");
        let json = serde_json::to_value(ShownOutcome::Erased { operation: operation() }).unwrap();
        assert_eq!((&json["outcome"], &json["operation"]["id"]), (&"erased".into(), &7.into()));
    }

    #[test]
    fn a_predicted_row() {
        assert_eq!(
            report(ShownOutcome::Predicted { transaction: Box::new(record().into()) }),
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
        assert!(report(ShownOutcome::invalid(&record, &example())).ends_with(
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
        assert!(report(ShownOutcome::Failed(Box::new(failed().into()))).ends_with(
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
        let text = report(ShownOutcome::Duplicate { transaction_id, of: Some(Box::new(stored)) });
        assert!(text.contains("\nduplicate: row 3 of run first stored this transaction\n  prediction "), "{text}");
    }

    #[test]
    fn rows_without_an_outcome() {
        let text = report(ShownOutcome::NeverRead { why: "the source has 10 rows".into() });
        assert!(text.ends_with("\n\nnever read: the source has 10 rows\n"), "{text}");
        assert!(report(ShownOutcome::Lost).contains("run `assay audit second`"));
        let json = serde_json::to_value(ShownOutcome::NeverRead { why: String::new() }).unwrap();
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
        let predicted = ShownOutcome::Predicted { transaction: Box::new(record().into()) };
        crate::output::pin_json("row", &row_report(predicted, vec![failure.into()]));
        let failed = ShownOutcome::Failed(Box::new(failed().into()));
        crate::output::pin_json("row failed", &row_report(failed, Vec::new()));
    }
}

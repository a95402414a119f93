//! `assay row --source`: compares the recorded values of a row with its source.
//!
//! The loader reads the row again and applies its rules; each value is compared here. Card numbers are masked after the
//! comparison, for display.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use assay_loader::{LoadError, LoadProgress, RereadRow};
use assay_report::{raw_text, replayable_entry};
use assay_source::Sources;
use assay_store::{InvalidRecord, RowOutcome};
use assay_transaction::{Columns, Entry, Run, Transaction, mask_card_numbers};
use serde::Serialize;
use tracing::info;

use crate::commands::ledger::rows_read;
use crate::error::CommandError;
use crate::output::{Table, grouped, one_line};

/// Interval of progress in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Longest value that is shown.
const VALUE: usize = 200;

/// A row in its source, with the recorded values.
#[derive(Debug, Serialize)]
pub(super) struct SourceComparison {
    /// The first line of the row; none if the source has no such row.
    line: Option<u64>,
    /// Its text, masked.
    raw: Option<String>,
    /// Whether all recorded values equal the source.
    pub(super) is_same: bool,
    values: Vec<ValueComparison>,
}

/// One value.
#[derive(Debug, Serialize)]
struct ValueComparison {
    name: String,
    /// The text in the source, masked; none if no column holds it.
    source: Option<String>,
    /// The value by the rules, masked.
    read_as: Option<String>,
    /// The recorded value, masked.
    stored: Option<String>,
    /// Whether both are equal; none if no value is recorded.
    is_same: Option<bool>,
}

/// The record of a row.
#[derive(Debug)]
enum RecordedRow<'a> {
    Transaction(Transaction, Option<String>),
    Invalid(&'a InvalidRecord),
    /// Only the id is known, as of a duplicate whose original was deleted.
    Id(uuid::Uuid),
    Nothing,
}

/// Reads a row from the source of its run again, and compares it.
pub(super) async fn compare_with_source(
    sources: &Sources,
    run: &Run,
    row: u64,
    fate: &RowOutcome,
    startup: Duration,
) -> Result<SourceComparison, CommandError> {
    let progress = LoadProgress::default();
    let reread = tokio::select! {
        reread = assay_loader::reread_row(sources, run, row, startup, &progress) => reread?,
        never = log_progress(run, row, &progress) => match never {},
    };
    let columns =
        Columns::from_names(run.settings.header.clone(), run.settings.mapping.as_deref()).map_err(LoadError::from)?;
    Ok(compare(reread, &columns, run, &recorded(fate)))
}

/// Logs the progress of reading.
async fn log_progress(run: &Run, row: u64, progress: &LoadProgress) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let (read, location) = (grouped(progress.rows_read()), &run.source.location);
        info!("Reading {location} again: {read} of {} rows", grouped(row.min(rows_read(run))));
    }
}

fn recorded(fate: &RowOutcome) -> RecordedRow<'_> {
    match fate {
        RowOutcome::Predicted(record) | RowOutcome::Duplicate { of: Some(record), .. } => {
            RecordedRow::Transaction(record.transaction.clone(), record.external_id.clone())
        }
        RowOutcome::Duplicate { of: None, transaction_id } => RecordedRow::Id(*transaction_id),
        RowOutcome::Invalid(record) => RecordedRow::Invalid(record),
        RowOutcome::Failed(record) => {
            let kept =
                replayable_entry(record).and_then(|entry| Some((entry.transaction.decode().ok()?, entry.external_id)));
            kept.map_or(RecordedRow::Id(record.transaction_id), |(transaction, id)| {
                RecordedRow::Transaction(transaction, id)
            })
        }
        RowOutcome::Unrecorded => RecordedRow::Nothing,
    }
}

fn compare(reread: Option<RereadRow>, columns: &Columns, run: &Run, recorded: &RecordedRow<'_>) -> SourceComparison {
    let Some(row) = reread else {
        let is_same = matches!(recorded, RecordedRow::Nothing);
        return SourceComparison { line: None, raw: None, is_same, values: Vec::new() };
    };
    let texts = SourceTexts { row: &row, columns, header: &run.settings.header };
    let values = match (&row.judged, recorded) {
        (Ok(read), RecordedRow::Transaction(stored, external_id)) => match read.transaction.decode() {
            Ok(transaction) => transactions(&texts, read, &transaction, Some((stored, external_id.as_deref()))),
            Err(error) => vec![ValueComparison::outcome(error.to_string(), "a transaction".to_owned())],
        },
        (Ok(read), RecordedRow::Nothing) => {
            read.transaction.decode().map(|it| transactions(&texts, read, &it, None)).unwrap_or_default()
        }
        (Ok(read), RecordedRow::Id(id)) => {
            let read = read.transaction.id().map(|id| id.to_string()).unwrap_or_default();
            vec![ValueComparison::of("id", texts.of_field("id"), Some(read), Some(id.to_string()))]
        }
        (Ok(_), RecordedRow::Invalid(stored)) => {
            let stored = format!("invalid: {}: {}", stored.reason, stored.message);
            vec![ValueComparison::outcome("a transaction".to_owned(), stored)]
        }
        (Err(read), RecordedRow::Invalid(stored)) => {
            let raw = Some(raw_text(stored, run));
            vec![
                ValueComparison::of("reason", None, Some(read.reason.code().to_owned()), Some(stored.reason.clone())),
                ValueComparison::of("line", None, Some(read.line.to_string()), Some(stored.line.to_string())),
                ValueComparison::of("raw text", Some(row.raw.clone()), Some(row.raw.clone()), raw),
            ]
        }
        (Err(read), recorded) => {
            let read = format!("invalid: {}: {}", read.reason.code(), read.message);
            vec![match recorded {
                RecordedRow::Nothing => ValueComparison::unrecorded("outcome", None, Some(read)),
                _ => ValueComparison::outcome(read, "a transaction".to_owned()),
            }]
        }
    };
    let raw = Some(mask_card_numbers(&row.raw).into_owned());
    SourceComparison { line: Some(row.line), raw, is_same: values.iter().all(|it| it.is_same != Some(false)), values }
}

/// Each value of a transaction, with the stored one.
fn transactions(
    texts: &SourceTexts<'_>,
    entry: &Entry,
    read: &Transaction,
    stored: Option<(&Transaction, Option<&str>)>,
) -> Vec<ValueComparison> {
    let text = |value: &str| Some(value.to_owned());
    let mut values = Vec::new();
    let mut add = |name: &str, source: Option<String>, get: &dyn Fn(&Transaction) -> Option<String>| {
        values.push(match stored {
            Some((stored, _)) => ValueComparison::of(name, source, get(read), get(stored)),
            None => ValueComparison::unrecorded(name, source, get(read)),
        });
    };
    // A UUID is stored as it is. Any other id is the external id, and the UUID is derived from it.
    let id = texts.of_field("id");
    let (of_id, of_external) = if entry.external_id.is_none() { (id, None) } else { (None, id) };
    add("id", of_id, &|it| Some(it.id.to_string()));
    add("description", texts.of_field("description"), &|it| text(&it.description));
    // As numbers: a database pads with zeros.
    add("amount", texts.of_field("amount"), &|it| Some(it.amount.as_decimal().normalize().to_string()));
    add("timestamp", texts.of_field("timestamp"), &|it| Some(it.timestamp.to_string()));
    add("merchant", texts.of_field("merchant"), &|it| it.merchant.clone());
    add("operation_type", texts.of_field("operation_type"), &|it| text(&it.operation_type));
    add("side", texts.of_field("side"), &|it| text(&it.side));
    let names: BTreeSet<&String> =
        read.attributes.keys().chain(stored.iter().flat_map(|(stored, _)| stored.attributes.keys())).collect();
    for name in names {
        add(name, texts.of_attribute(name), &|it| it.attributes.get(name).cloned());
    }
    let (name, read) = ("external id", entry.external_id.clone());
    let external = match stored {
        Some((_, stored)) => ValueComparison::of(name, of_external, read, stored.map(str::to_owned)),
        None => ValueComparison::unrecorded(name, of_external, read),
    };
    values.insert(1, external);
    values
}

/// The texts of a row by field and attribute.
struct SourceTexts<'a> {
    row: &'a RereadRow,
    columns: &'a Columns,
    header: &'a [String],
}

impl SourceTexts<'_> {
    /// The text of the column of a field; of several columns, each with its name.
    fn of_field(&self, field: &str) -> Option<String> {
        let places = (0..self.header.len()).filter(|index| self.columns.fields_of(*index).contains(&field));
        self.joined(places, field)
    }

    fn of_attribute(&self, name: &str) -> Option<String> {
        let places = (0..self.header.len()).filter(|index| self.columns.attribute_of(*index) == Some(name));
        let extra = || self.row.extras.iter().find(|(extra, _)| extra == name).map(|(_, text)| text.clone());
        self.joined(places, name).or_else(extra)
    }

    fn joined(&self, places: impl Iterator<Item = usize>, name: &str) -> Option<String> {
        let text = |index: usize| self.row.fields.get(index).cloned();
        let places: Vec<usize> = places.collect();
        match places[..] {
            [] => None,
            [place] if self.header[place].eq_ignore_ascii_case(name) => text(place),
            _ => {
                let named = |place: usize| Some(format!("{}: {}", self.header[place], text(place)?));
                places.into_iter().map(named).collect::<Option<Vec<_>>>().map(|texts| texts.join("; "))
            }
        }
    }
}

impl ValueComparison {
    /// A value without a recorded one.
    fn unrecorded(name: &str, source: Option<String>, read: Option<String>) -> Self {
        let masked = |text: Option<String>| text.map(|text| mask_card_numbers(&text).into_owned());
        Self { name: name.to_owned(), source: masked(source), read_as: masked(read), stored: None, is_same: None }
    }

    /// A value with the recorded one.
    fn of(name: &str, source: Option<String>, read: Option<String>, stored: Option<String>) -> Self {
        let is_same = Some(stored == read);
        let stored = stored.map(|text| mask_card_numbers(&text).into_owned());
        Self { stored, is_same, ..Self::unrecorded(name, source, read) }
    }

    /// The outcome, if it differs.
    fn outcome(read: String, stored: String) -> Self {
        Self::of("outcome", None, Some(read), Some(stored))
    }
}

impl fmt::Display for SourceComparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(line), Some(raw)) = (self.line, &self.raw) else {
            return writeln!(out, "\nthe source has no such row");
        };
        writeln!(out, "\nin the source, line {}:\n  {}\n", grouped(line), one_line(raw, VALUE))?;
        let mut table = Table::new(["value", "in the source", "read as", "stored", "same"]);
        let shown = |text: &Option<String>| text.as_ref().map_or("–".to_owned(), |text| one_line(text, VALUE));
        for value in &self.values {
            let same = match value.is_same {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            let name = one_line(&value.name, 40);
            table.add([name, shown(&value.source), shown(&value.read_as), shown(&value.stored), same.to_owned()]);
        }
        write!(out, "{table}")?;
        let differing: Vec<&str> =
            self.values.iter().filter(|it| it.is_same == Some(false)).map(|it| it.name.as_str()).collect();
        let compared = self.values.iter().any(|it| it.is_same.is_some());
        match (compared, differing.is_empty()) {
            (false, _) => writeln!(out, "\nno recorded values to compare"),
            (true, true) => writeln!(out, "\nall recorded values equal the source"),
            (true, false) => writeln!(
                out,
                "\nrecorded values differ from the source: {}",
                differing.iter().map(|name| one_line(name, 40)).collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::{example, failed, record};
    use assay_transaction::{RejectReason, RejectedRow};

    const HEADER: [&str; 8] =
        ["id", "Description", "amount", "timestamp", "merchant", "operation_type", "side", "card"];

    /// The source of the row in `record`.
    fn reread_row() -> RereadRow {
        let fields = [
            "4711",
            "CB 4111111111111111 EDF",
            "-952,4",
            "28/11/2023 06:35:12",
            "EDF",
            "refund",
            "debit",
            "4111111111111111",
        ];
        let transaction = serde_json::to_value(record().transaction).unwrap();
        let entry = serde_json::json!({ "row": 3, "external_id": "4711", "transaction": transaction });
        RereadRow {
            line: 4,
            raw: fields.join(";"),
            fields: fields.map(str::to_owned).to_vec(),
            extras: Vec::new(),
            judged: Ok(serde_json::from_value(entry).unwrap()),
        }
    }

    fn run() -> Run {
        let mut run = example();
        run.settings.header = HEADER.map(str::to_owned).to_vec();
        run
    }

    fn comparison(reread: Option<RereadRow>, fate: &RowOutcome) -> SourceComparison {
        let run = run();
        let columns = Columns::from_names(run.settings.header.clone(), None).unwrap();
        compare(reread, &columns, &run, &recorded(fate))
    }

    fn differing(comparison: &SourceComparison) -> Vec<&str> {
        comparison.values.iter().filter(|it| it.is_same == Some(false)).map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn equal_values_are_reported_as_such() {
        let comparison = comparison(Some(reread_row()), &RowOutcome::Predicted(Box::new(record())));
        assert!(comparison.is_same);
        assert_eq!(
            comparison.to_string(),
            "
in the source, line 4:
  4711;CB ************1111 EDF;-952,4;28/11/2023 06:35:12;EDF;refund;debit;************1111

value           in the source            read as                               stored                                same
id              –                        67e55044-10b1-426f-9247-bb680e5fe0c8  67e55044-10b1-426f-9247-bb680e5fe0c8  yes
external id     4711                     4711                                  4711                                  yes
description     CB ************1111 EDF  CB ************1111 EDF               CB ************1111 EDF               yes
amount          -952,4                   -952.4                                -952.4                                yes
timestamp       28/11/2023 06:35:12      2023-11-28T06:35:12Z                  2023-11-28T06:35:12Z                  yes
merchant        EDF                      EDF                                   EDF                                   yes
operation_type  refund                   refund                                refund                                yes
side            debit                    debit                                 debit                                 yes
card            ************1111         ************1111                      ************1111                      yes

all recorded values equal the source
"
        );
        assert!(!serde_json::to_string(&comparison).unwrap().contains("4111111111111111"));
    }

    #[test]
    fn each_differing_value_is_named() {
        let mut changed = record();
        changed.transaction.description = "CB 4111111111111112 EDF".to_owned();
        changed.transaction.merchant = None;
        changed.transaction.attributes.insert("other".to_owned(), String::new());
        changed.external_id = Some("4712".to_owned());
        let fates = [
            RowOutcome::Predicted(Box::new(changed.clone())),
            RowOutcome::Duplicate { of: Some(Box::new(changed)), transaction_id: record().transaction.id },
        ];
        for fate in fates {
            let comparison = comparison(Some(reread_row()), &fate);
            assert!(!comparison.is_same);
            // Compared before it is masked.
            assert_eq!(differing(&comparison), ["external id", "description", "merchant", "other"]);
            assert!(
                comparison.to_string().ends_with("differ from the source: external id, description, merchant, other\n")
            );
        }
        let cases = [
            (RowOutcome::Failed(failed()), vec!["merchant", "card"]),
            (RowOutcome::Duplicate { of: None, transaction_id: record().transaction.id }, vec![]),
            (RowOutcome::Duplicate { of: None, transaction_id: uuid::Uuid::nil() }, vec!["id"]),
            (RowOutcome::Unrecorded, vec![]),
        ];
        for (fate, expected) in cases {
            let comparison = comparison(Some(reread_row()), &fate);
            assert_eq!(
                (differing(&comparison), comparison.is_same),
                (expected.clone(), expected.is_empty()),
                "{fate:?}"
            );
        }
    }

    fn rejected(reason: RejectReason) -> RereadRow {
        const RAW: &str = "7;4111111111111111;1.00001";
        let row = RejectedRow { row: 3, line: 4, reason, message: "`amount` is bad".to_owned(), raw: RAW.into() };
        RereadRow { line: 4, raw: RAW.to_owned(), fields: Vec::new(), extras: Vec::new(), judged: Err(row) }
    }

    #[test]
    fn an_invalid_row_is_compared_by_reason_line_and_text() {
        let stored = InvalidRecord {
            run_id: "first".parse().unwrap(),
            row: 3,
            line: 4,
            reason: "amount_scale".to_owned(),
            message: "`amount` has more than 4 decimals".to_owned(),
            raw: b"7;4111111111111111;1.00001".to_vec(),
        };
        let fate = |record: InvalidRecord| RowOutcome::Invalid(record);
        let same = comparison(Some(rejected(RejectReason::AmountScale)), &fate(stored.clone()));
        assert!(same.is_same, "{same}");
        assert!(!same.to_string().contains("4111111111111111"));
        let other = InvalidRecord { line: 5, raw: b"7;4111111111111111;1.00002".to_vec(), ..stored.clone() };
        let other = comparison(Some(rejected(RejectReason::AmountFormat)), &fate(other));
        assert_eq!(differing(&other), ["reason", "line", "raw text"]);
        // A transaction on one side only.
        assert_eq!(differing(&comparison(Some(reread_row()), &fate(stored))), ["outcome"]);
        let predicted = RowOutcome::Predicted(Box::new(record()));
        assert_eq!(differing(&comparison(Some(rejected(RejectReason::AmountScale)), &predicted)), ["outcome"]);
        assert!(comparison(Some(rejected(RejectReason::AmountScale)), &RowOutcome::Unrecorded).is_same);
    }

    #[test]
    fn a_row_that_the_source_lacks() {
        assert!(comparison(None, &RowOutcome::Unrecorded).is_same);
        let gone = comparison(None, &RowOutcome::Predicted(Box::new(record())));
        assert!(!gone.is_same);
        assert_eq!(gone.to_string(), "\nthe source has no such row\n");
    }
}

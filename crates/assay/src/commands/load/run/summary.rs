//! The outcomes of the rows of a run, counted in the database, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use assay_loader::{LoadSummary, LoadWarnings};
use assay_store::{PredictionCount, Store};
use assay_transaction::{RunId, RunState, Tally};
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{counted, grouped, list_counts, masked_labels, one_line, per_second};

/// Longest location or remark that is shown.
pub(super) const SHOWN_CHARACTERS: usize = 500;
/// Longest label that is shown, as a model may return anything.
const SHOWN_LABEL: usize = 60;

/// The outcomes of the rows of a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunSummary {
    pub(super) run_id: RunId,
    pub(super) source: String,
    pub(super) state: RunState,
    pub(super) already_loaded: bool,
    /// The loaded source, if this one is a copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) same_content_as: Option<String>,
    /// The requested name (`BATCH_RUN_ID`), if the run was begun with another.
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_name: Option<RunId>,
    pub(super) rows_read: u64,
    #[serde(flatten)]
    pub(super) tally: Tally,
    invalid_by_reason: BTreeMap<String, u64>,
    failed_by_class: BTreeMap<String, u64>,
    predictions: Vec<PredictionCount>,
    seconds: f64,
    rows_per_second: u64,
    #[serde(flatten)]
    pub(super) warnings: LoadWarnings,
}

impl RunSummary {
    /// Counts the rows of a run.
    pub(crate) async fn collect(
        store: &dyn Store,
        ended: &LoadSummary,
        elapsed: Duration,
    ) -> Result<Self, CommandError> {
        let run = &ended.run;
        let (tally, predictions) = store.recount(&run.run_id).await?;
        let rows_read = run.sealed.map_or(0, |sealed| sealed.rows_read);
        let mut summary = Self {
            run_id: run.run_id.clone(),
            source: ended.copy.clone().unwrap_or_else(|| run.source.location.clone()),
            state: run.state,
            already_loaded: ended.already_loaded,
            same_content_as: ended.copy.as_ref().map(|_| run.source.location.clone()),
            unused_name: ended.unused_name.clone(),
            rows_read,
            tally,
            invalid_by_reason: store.invalid_counts(&run.run_id).await?.into_iter().collect(),
            failed_by_class: store.failed_counts(&run.run_id).await?.into_iter().collect(),
            predictions: masked_labels(predictions),
            seconds: elapsed.as_secs_f64(),
            rows_per_second: 0,
            warnings: ended.warnings.clone(),
        };
        summary.rows_per_second = per_second(summary.rows_read_now(), elapsed);
        Ok(summary)
    }

    /// Rows that this command has read.
    pub(super) fn rows_read_now(&self) -> u64 {
        if self.already_loaded { 0 } else { self.rows_read }
    }

    /// Checks that every row of a finished run has an outcome.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if !self.state.is_finished() || self.tally.accounts_for(self.rows_read) {
            return Ok(());
        }
        Err(CommandError::RowAccounting { run_id: self.run_id.clone(), rows_read: self.rows_read, tally: self.tally })
    }
}

/// The summary of a single source: with its own fields, and in the form of several sources.
#[derive(Debug, Serialize)]
pub(super) struct SingleSource<'a> {
    #[serde(flatten)]
    summary: &'a RunSummary,
    sources: [&'a RunSummary; 1],
    broken: u64,
}

impl<'a> SingleSource<'a> {
    pub(super) fn new(summary: &'a RunSummary) -> Self {
        Self { summary, sources: [summary], broken: 0 }
    }
}

impl Display for SingleSource<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary.fmt(out)
    }
}

/// As a table.
impl Display for RunSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { predicted, invalid, failed, duplicate } = self.tally;
        let source = one_line(&self.source, SHOWN_CHARACTERS);
        writeln!(out, "\n{source}\nrun {}: {}\n", self.run_id, self.state)?;
        let rows = [
            ("rows read", self.rows_read, String::new()),
            ("  predicted", predicted, String::new()),
            ("  invalid", invalid, list_most_frequent(&self.invalid_by_reason)),
            ("  failed", failed, list_most_frequent(&self.failed_by_class)),
            ("  duplicate", duplicate, String::new()),
        ];
        for (name, count, detail) in rows {
            writeln!(out, "{}", format!("{name:<16}{:>12}  {detail}", grouped(count)).trim_end())?;
        }
        if !self.predictions.is_empty() {
            writeln!(out, "\n{:<16}{:>12}  {:>10}", "prediction", "count", "mean score")?;
        }
        for PredictionCount { prediction, count, mean_score } in &self.predictions {
            let score = mean_score.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}"));
            let label = one_line(prediction, SHOWN_LABEL);
            writeln!(out, "{label:<16}{:>12}  {score:>10}", grouped(*count))?;
        }
        if self.already_loaded {
            let copy = self.same_content_as.as_ref().map(|location| {
                let location = one_line(location, SHOWN_CHARACTERS);
                if *location == self.source {
                    " (same content)".to_owned()
                } else {
                    format!(", as {location} (same content)")
                }
            });
            let copy = copy.unwrap_or_default();
            let run_id = &self.run_id;
            writeln!(
                out,
                "\nloaded before, by run {run_id}{copy}: nothing was read, scored or stored; --force loads it again"
            )?;
        } else {
            let rate = grouped(self.rows_per_second);
            writeln!(out, "\ntook {:.1} s, {rate} rows a second", self.seconds)?;
        }
        if let Some(name) = &self.unused_name {
            writeln!(out, "BATCH_RUN_ID={name} is not used: the source has run {}", self.run_id)?;
        }
        if failed > 0 {
            let (rows, run_id) = (counted(failed, "row", "rows"), &self.run_id);
            writeln!(out, "{rows} failed: `assay failures {run_id}` shows why, `assay replay {run_id}` tries again")?;
        }
        self.warnings.lines().iter().try_for_each(|line| writeln!(out, "\n{}", one_line(line, SHOWN_CHARACTERS)))
    }
}

/// As [`list_counts`], the most frequent first.
fn list_most_frequent(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    list_counts(&counts)
}

#[cfg(test)]
pub(super) use tests::example;

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::commands::load::run) fn example() -> RunSummary {
        RunSummary {
            run_id: "batch_20260111_100000_3f9a1c".parse().unwrap(),
            source: "s3://transactions/2026.csv".into(),
            state: RunState::Complete,
            already_loaded: false,
            same_content_as: None,
            unused_name: None,
            rows_read: 1_000_000,
            tally: Tally { predicted: 999_000, invalid: 900, failed: 0, duplicate: 100 },
            invalid_by_reason: [("id_empty".to_owned(), 300), ("amount_scale".to_owned(), 600)].into(),
            failed_by_class: BTreeMap::new(),
            predictions: vec![
                PredictionCount { prediction: "fraud".into(), count: 25_000, mean_score: Some(0.91234) },
                PredictionCount { prediction: "Rent".into(), count: 974_000, mean_score: None },
            ],
            seconds: 20.04,
            rows_per_second: 49_900,
            warnings: LoadWarnings::default(),
        }
    }

    #[test]
    fn names_of_models_and_files_neither_show_a_card_nor_move_the_cursor() {
        let hostile = "4111 1111 1111 1111\u{1b}[2J\r\nFAKE";
        let counts = || vec![PredictionCount { prediction: hostile.into(), count: 1, mean_score: None }];
        let summary = RunSummary { source: hostile.into(), predictions: counts(), ..example() };
        let text = summary.to_string();
        assert!(text.matches("FAKE").count() == 2, "{text}");
        assert!(!text.contains("1111 1111") && !text.contains('\u{1b}') && !text.contains('\r'), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("FAKE")), "{text}");
        assert!(!masked_labels(counts())[0].prediction.contains("1111 1111"));
    }

    #[test]
    fn reads_as_a_table() {
        let expected = "
s3://transactions/2026.csv
run batch_20260111_100000_3f9a1c: complete

rows read          1,000,000
  predicted          999,000
  invalid                900  amount_scale 600, id_empty 300
  failed                   0
  duplicate              100

prediction             count  mean score
fraud                 25,000      0.9123
Rent                 974,000           -

took 20.0 s, 49,900 rows a second
";
        assert_eq!(example().to_string(), expected);
    }

    #[test]
    fn ends_with_remarks() {
        let copy = Some("s3://transactions/2026.csv".to_owned());
        let copy = RunSummary { source: "copy.csv".into(), already_loaded: true, same_content_as: copy, ..example() };
        let end = "\nloaded before, by run batch_20260111_100000_3f9a1c, as s3://transactions/2026.csv (same content): nothing was read, scored or stored; --force loads \
                   it again\n";
        assert!(copy.to_string().ends_with(end), "{copy}");
        let tally = Tally { predicted: 999_997, failed: 3, ..Tally::default() };
        let before =
            RunSummary { tally, already_loaded: true, unused_name: Some("january".parse().unwrap()), ..example() };
        let end = "; --force loads it again\n\
            BATCH_RUN_ID=january is not used: the source has run batch_20260111_100000_3f9a1c\n\
            3 rows failed: `assay failures batch_20260111_100000_3f9a1c` shows why, `assay replay \
            batch_20260111_100000_3f9a1c` tries again\n";
        assert!(before.to_string().ends_with(end), "{before}");
        let warnings = LoadWarnings { ambiguous_hours: 2, zone: "Europe/Paris".into(), ..LoadWarnings::default() };
        let remarked = RunSummary { warnings, ..example() };
        let text = remarked.to_string();
        assert!(text.contains("rows a second\n\n2 rows have a local time that comes twice in Europe/Paris"), "{text}");
        assert!(serde_json::to_string(&remarked).unwrap().ends_with(r#""ambiguous_hours":2}"#));
    }

    #[test]
    fn json_of_one_source_has_the_form_of_several() {
        let json = serde_json::to_value(SingleSource::new(&example())).unwrap();
        assert_eq!(json["sources"][0]["run_id"], "batch_20260111_100000_3f9a1c");
        for field in ["run_id", "state", "rows_read", "predicted", "seconds", "predictions"] {
            assert_eq!(json[field], json["sources"][0][field], "{field}");
            assert!(!json[field].is_null(), "{field}");
        }
        assert_eq!(json["broken"], 0);
    }

    #[test]
    fn the_row_accounting_is_checked() {
        assert!(example().check().is_ok());
        let broken = RunSummary { rows_read: 1_000_001, ..example() };
        assert!(broken.check().unwrap_err().to_string().contains("1000001 rows were read, but 1000000"));
    }

    #[test]
    fn its_json_is_pinned() {
        crate::output::pin_json("run", &SingleSource::new(&example()));
    }
}

//! The outcomes of several sources, as text and as JSON.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::time::Duration;

use assay_loader::SourceResult;
use assay_store::Store;
use assay_transaction::Tally;
use serde::Serialize;

use super::summary::{RunSummary, SHOWN_CHARACTERS};
use crate::error::CommandError;
use crate::output::{Table, counted, grouped, one_line, per_second};

/// The outcomes of several sources.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SourcesSummary {
    sources: Vec<SourceLine>,
    broken: u64,
    rows_read: u64,
    #[serde(flatten)]
    tally: Tally,
    seconds: f64,
    rows_per_second: u64,
}

/// The outcome of a source.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum SourceLine {
    Loaded(Box<RunSummary>),
    Broken { source: String, error: String },
}

impl SourcesSummary {
    /// Counts the rows of all runs.
    pub(crate) async fn collect(
        store: &dyn Store,
        ended: &[SourceResult],
        elapsed: Duration,
    ) -> Result<Self, CommandError> {
        let mut sources = Vec::with_capacity(ended.len());
        for SourceResult { name, ended } in ended {
            sources.push(match ended {
                Ok(ended) => SourceLine::Loaded(Box::new(RunSummary::collect(store, ended, elapsed).await?)),
                Err(error) => SourceLine::Broken { source: name.clone(), error: error.to_string() },
            });
        }
        Ok(Self::new(sources, elapsed))
    }

    fn new(sources: Vec<SourceLine>, elapsed: Duration) -> Self {
        let (mut broken, mut rows_read, mut rows_read_now, mut tally) = (0, 0, 0, Tally::default());
        let mut counted = HashSet::new();
        for source in &sources {
            match source {
                // Copies share one run, whose rows count once.
                SourceLine::Loaded(summary) if !counted.insert(&summary.run_id) => {}
                SourceLine::Loaded(summary) => {
                    rows_read += summary.rows_read;
                    rows_read_now += summary.rows_read_now();
                    tally.predicted += summary.tally.predicted;
                    tally.invalid += summary.tally.invalid;
                    tally.failed += summary.tally.failed;
                    tally.duplicate += summary.tally.duplicate;
                }
                SourceLine::Broken { .. } => broken += 1,
            }
        }
        let (seconds, rows_per_second) = (elapsed.as_secs_f64(), per_second(rows_read_now, elapsed));
        Self { sources, broken, rows_read, tally, seconds, rows_per_second }
    }

    /// The run, if there is only one source, and it was loaded.
    pub(super) fn single(&self) -> Option<&RunSummary> {
        if let [SourceLine::Loaded(summary)] = &self.sources[..] { Some(summary) } else { None }
    }

    /// Checks the row accounting of each run.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        self.sources.iter().try_for_each(|source| match source {
            SourceLine::Loaded(summary) => summary.check(),
            SourceLine::Broken { .. } => Ok(()),
        })
    }
}

/// As a table.
impl Display for SourcesSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(["run", "state", ">rows read", ">predicted", ">invalid", ">failed", ">duplicate", "source"]);
        let counts = |rows_read: u64, tally: Tally| {
            [rows_read, tally.predicted, tally.invalid, tally.failed, tally.duplicate].map(grouped)
        };
        for line in &self.sources {
            let (run, state, counts, source) = match line {
                SourceLine::Loaded(summary) => {
                    let before = match (summary.already_loaded, &summary.same_content_as) {
                        (true, Some(_)) => ", copy",
                        (true, None) => ", before",
                        (false, _) => "",
                    };
                    let state = format!("{}{before}", summary.state);
                    (summary.run_id.to_string(), state, counts(summary.rows_read, summary.tally), &summary.source)
                }
                SourceLine::Broken { source, .. } => {
                    ("-".to_owned(), "broken".to_owned(), [""; 5].map(str::to_owned), source)
                }
            };
            let [rows_read, predicted, invalid, failed, duplicate] = counts;
            let source = one_line(source, SHOWN_CHARACTERS);
            table.add([run, state, rows_read, predicted, invalid, failed, duplicate, source]);
        }
        let [rows_read, predicted, invalid, failed, duplicate] = counts(self.rows_read, self.tally);
        let all = counted(self.sources.len() as u64, "source", "sources");
        table.add(["all".to_owned(), String::new(), rows_read, predicted, invalid, failed, duplicate, all]);
        write!(out, "\n{table}\n")?;
        for line in &self.sources {
            if let SourceLine::Broken { source, error } = line {
                // The error may begin with the name of its source.
                let named = if error.contains(source.as_str()) { error.clone() } else { format!("{source}: {error}") };
                writeln!(out, "{}", one_line(&named, SHOWN_CHARACTERS))?;
            }
        }
        writeln!(out, "took {:.1} s, {} rows a second", self.seconds, grouped(self.rows_per_second))?;
        for line in &self.sources {
            let SourceLine::Loaded(summary) = line else { continue };
            if summary.tally.failed > 0 {
                let (rows, run_id) = (counted(summary.tally.failed, "row", "rows"), &summary.run_id);
                writeln!(out, "{rows} of run {run_id} failed: `assay failures {run_id}` shows why")?;
            }
            for remark in summary.warnings.lines() {
                writeln!(out, "{}", one_line(&format!("{}: {remark}", summary.source), SHOWN_CHARACTERS))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::load::run::summary::example;

    #[test]
    fn reads_as_a_table_with_errors_below() {
        let loaded = SourceLine::Loaded(Box::new(example()));
        let mut before = example();
        before.already_loaded = true;
        before.run_id = "batch_20260110_100000_3f9a1c".parse().unwrap();
        let mut copy = example();
        (copy.already_loaded, copy.same_content_as) = (true, Some(copy.source));
        copy.source = "s3://transactions/copy.csv".into();
        let copy = SourceLine::Loaded(Box::new(copy));
        let before = SourceLine::Loaded(Box::new(before));
        let broken = SourceLine::Broken { source: "s3://transactions/none.csv".into(), error: "no such object".into() };
        let several = SourcesSummary::new(vec![loaded, before, copy, broken], Duration::from_secs(20));
        let expected = "
run                           state             rows read  predicted  invalid  failed  duplicate  source
batch_20260111_100000_3f9a1c  complete          1,000,000    999,000      900       0        100  s3://transactions/2026.csv
batch_20260110_100000_3f9a1c  complete, before  1,000,000    999,000      900       0        100  s3://transactions/2026.csv
batch_20260111_100000_3f9a1c  complete, copy    1,000,000    999,000      900       0        100  s3://transactions/copy.csv
-                             broken                                                              s3://transactions/none.csv
all                                             2,000,000  1,998,000    1,800       0        200  4 sources

s3://transactions/none.csv: no such object
took 20.0 s, 50,000 rows a second
";
        assert_eq!(several.to_string(), expected);
        assert!(several.check().is_ok());
    }

    #[test]
    fn its_json_is_pinned() {
        let loaded = SourceLine::Loaded(Box::new(example()));
        let broken = SourceLine::Broken { source: "s3://transactions/none.csv".into(), error: "no such object".into() };
        let several = SourcesSummary::new(vec![loaded, broken], Duration::from_secs(20));
        crate::output::pin_json("run SEVERAL", &several);
    }
}

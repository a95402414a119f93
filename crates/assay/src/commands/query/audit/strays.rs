//! Rows without a run, for `assay audit --all`.

use std::fmt;

use assay_store::{StrayRun, Strays};
use serde_json::{Value, json};

use crate::output::{FieldList, counted, grouped, one_line};

/// Rows without a run, and predictions without a transaction.
pub(super) struct StrayFindings(pub(super) Strays);

impl StrayFindings {
    /// Whether everything belongs to a run.
    pub(super) fn is_empty(&self) -> bool {
        let Strays { runs, predictions, .. } = self.0;
        runs == 0 && predictions == 0
    }

    /// The end of the summary of all runs; empty if nothing was found.
    pub(super) fn summary(&self) -> String {
        let Strays { runs, predictions, .. } = self.0;
        let of_runs = (runs > 0).then(|| {
            let have = if runs == 1 { "has" } else { "have" };
            format!("; {} not in the ledger {have} rows", counted(runs, "run that is", "runs that are"))
        });
        let of_predictions = (predictions > 0)
            .then(|| format!("; {} no transaction", counted(predictions, "prediction has", "predictions have")));
        [of_runs, of_predictions].into_iter().flatten().collect()
    }

    /// In the form of the results of runs.
    pub(super) fn json(&self) -> impl Iterator<Item = Value> {
        let of_run = |StrayRun { run_id, chunks, transactions, invalid, failed }: &StrayRun| {
            let breach = json!({
                "breach": "no_run", "chunks": chunks, "transactions": transactions, "invalid": invalid, "failed": failed,
            });
            json!({ "run_id": run_id, "holds": false, "breaches": [breach] })
        };
        let predictions = (self.0.predictions > 0).then(|| {
            let breach = json!({ "breach": "no_transaction", "predictions": self.0.predictions });
            json!({ "run_id": null, "holds": false, "breaches": [breach] })
        });
        self.0.named.iter().map(of_run).chain(predictions)
    }
}

impl fmt::Display for StrayFindings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StrayRun { run_id, chunks, transactions, invalid, failed } in &self.0.named {
            writeln!(out, "run {}: NOT IN THE LEDGER", one_line(run_id, 100))?;
            let mut fields = FieldList::default();
            let chunks = counted(*chunks, "chunk", "chunks");
            let (transactions, invalid, failed) = (grouped(*transactions), grouped(*invalid), grouped(*failed));
            fields.add(
                "breach",
                format!("rows of an unknown run: {transactions} transactions, {invalid} invalid, {failed} failed, in {chunks}"),
            );
            writeln!(out, "{fields}")?;
        }
        let named = self.0.named.len() as u64;
        if self.0.runs > named {
            writeln!(out, "and {} more that are not in the ledger\n", counted(self.0.runs - named, "run", "runs"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_run_are_named() {
        let stray = StrayRun { run_id: "a\nb".to_owned(), chunks: 1, transactions: 1_000, invalid: 2, failed: 3 };
        let findings = StrayFindings(Strays { runs: 2, named: vec![stray], predictions: 1 });
        assert_eq!(
            findings.to_string(),
            "run a\\nb: NOT IN THE LEDGER\n  breach  rows of an unknown run: 1,000 transactions, 2 invalid, 3 failed, in \
             1 chunk\n\nand 1 run more that are not in the ledger\n\n"
        );
        assert_eq!(
            findings.summary(),
            "; 2 runs that are not in the ledger have rows; 1 prediction has no transaction"
        );
        let json: Vec<_> = findings.json().collect();
        assert_eq!((&json[0]["run_id"], &json[0]["breaches"][0]["transactions"]), (&json!("a\nb"), &json!(1_000)));
        assert_eq!(json[1]["breaches"][0], json!({ "breach": "no_transaction", "predictions": 1 }));
        assert!(!findings.is_empty());

        let nothing = StrayFindings(Strays::default());
        assert!(nothing.is_empty() && nothing.summary().is_empty() && nothing.to_string().is_empty());
        assert_eq!(nothing.json().count(), 0);
    }
}

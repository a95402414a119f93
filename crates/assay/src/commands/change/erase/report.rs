//! What an erasure found and took: counts, and lines of the lists.

use std::collections::BTreeMap;
use std::fmt;

use assay_store::ErasureCounts;
use assay_transaction::RunId;
use serde::Serialize;

use super::search::Found;
use crate::output::{FieldList, counted, grouped, ranges};

/// Most lines and runs that are named.
const NAMED: usize = 20;

/// The result of an erasure.
#[derive(Debug, Serialize)]
pub(super) struct ErasureReport {
    is_dry_run: bool,
    /// The number in the table of operations.
    operation: Option<u64>,
    ids: u64,
    rows: u64,
    erased: ErasureCounts,
    /// Lines of the list of ids that were found nowhere.
    unknown_id_lines: Vec<u64>,
    /// Lines of the list of rows whose row is not recorded, or holds nothing.
    unknown_row_lines: Vec<u64>,
    /// Invalid rows whose ids cannot be read, by run.
    unreadable_rows: BTreeMap<RunId, u64>,
    /// Runs that may still bring rows.
    unfinished_runs: Vec<RunId>,
}

impl ErasureReport {
    pub(super) fn new(
        (ids, rows): (usize, usize),
        found: &Found,
        planned: ErasureCounts,
        unfinished_runs: Vec<RunId>,
    ) -> Self {
        Self {
            is_dry_run: true,
            operation: None,
            ids: ids as u64,
            rows: rows as u64,
            erased: planned,
            unknown_id_lines: found.unknown_ids.clone(),
            unknown_row_lines: found.unknown_rows.clone(),
            unreadable_rows: found.unreadable.clone(),
            unfinished_runs,
        }
    }

    pub(super) fn done(&mut self, operation: u64, erased: ErasureCounts) {
        (self.is_dry_run, self.operation, self.erased) = (false, Some(operation), erased);
    }

    /// `2 transactions, 1 failed row, …`.
    pub(super) fn question(&self) -> String {
        let ErasureCounts { transactions, failed, duplicates, invalid, history, dead_letters, live_messages } =
            self.erased;
        [
            counted(transactions, "transaction", "transactions"),
            counted(failed, "failed row", "failed rows"),
            counted(duplicates, "duplicate", "duplicates"),
            counted(invalid, "invalid row", "invalid rows"),
            counted(history, "replaced content", "replaced contents"),
            counted(dead_letters, "dead letter", "dead letters"),
            counted(live_messages, "name of a live message", "names of live messages"),
        ]
        .into_iter()
        .filter(|count| !count.starts_with("0 "))
        .reduce(|list, count| format!("{list}, {count}"))
        .unwrap_or_else(|| "nothing that is stored, and refuse these ids from now on".to_owned())
    }
}

/// `3, 7-9, …`.
fn lines(lines: &[u64]) -> String {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for line in lines {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => found.push((*line, *line)),
        }
    }
    let more = if found.len() > NAMED { ", …" } else { "" };
    found.truncate(NAMED);
    format!(
        "{}: {} {}{more}",
        grouped(lines.len() as u64),
        if lines.len() == 1 { "line" } else { "lines" },
        ranges(&found)
    )
}

impl fmt::Display for ErasureReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Some(operation) => writeln!(out, "erased, operation {operation}")?,
            None => writeln!(out, "an erasure would take:")?,
        }
        let counts = self.erased;
        let mut fields = FieldList::default();
        fields.add("transactions", grouped(counts.transactions));
        fields.add("failed rows", grouped(counts.failed));
        fields.add("duplicates", grouped(counts.duplicates));
        fields.add("invalid rows", grouped(counts.invalid));
        fields.add("replaced contents", grouped(counts.history));
        fields.add("dead letters", grouped(counts.dead_letters));
        if !self.is_dry_run {
            fields.add("live messages", grouped(counts.live_messages));
        }
        if !self.unknown_id_lines.is_empty() {
            fields.add("ids found nowhere", lines(&self.unknown_id_lines));
        }
        if !self.unknown_row_lines.is_empty() {
            fields.add("rows without content", lines(&self.unknown_row_lines));
        }
        for (run_id, count) in self.unreadable_rows.iter().take(NAMED) {
            let rows = counted(*count, "invalid row", "invalid rows");
            fields.add(
                "not readable",
                format!("{rows} of run {run_id}: see `assay invalid {run_id}`, and name rows with --rows"),
            );
        }
        for run_id in self.unfinished_runs.iter().take(NAMED) {
            fields.add("not finished", format!("run {run_id}: repeat the erasure when it is, for its invalid rows"));
        }
        let left = self.unreadable_rows.len().saturating_sub(NAMED) + self.unfinished_runs.len().saturating_sub(NAMED);
        if left > 0 {
            fields.add("further runs", format!("{}: --json names them", grouped(left as u64)));
        }
        fields.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ErasureReport {
        let found = Found {
            unknown_ids: vec![3, 7, 8, 9],
            unreadable: [("nightly".parse().unwrap(), 2)].into(),
            ..Found::default()
        };
        let planned = ErasureCounts { transactions: 2, invalid: 1, ..ErasureCounts::default() };
        ErasureReport::new((6, 0), &found, planned, vec!["live".parse().unwrap()])
    }

    #[test]
    fn names_lines_and_runs_and_no_id() {
        let mut report = report();
        assert_eq!(report.question(), "2 transactions, 1 invalid row");
        assert!(report.to_string().starts_with("an erasure would take:\n  transactions       2\n"));
        report.done(7, ErasureCounts { live_messages: 1, ..report.erased });
        assert_eq!(
            report.to_string(),
            "\
erased, operation 7
  transactions       2
  failed rows        0
  duplicates         0
  invalid rows       1
  replaced contents  0
  dead letters       0
  live messages      1
  ids found nowhere  4: lines 3, 7-9
  not readable       2 invalid rows of run nightly: see `assay invalid nightly`, and name rows with --rows
  not finished       run live: repeat the erasure when it is, for its invalid rows
"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["operation"], &json["erased"]["transactions"]), (&7.into(), &2.into()));
    }

    #[test]
    fn nothing_found_is_said() {
        let report = ErasureReport::new((1, 0), &Found::default(), ErasureCounts::default(), Vec::new());
        assert!(report.question().starts_with("nothing that is stored"));
    }
}

//! The plan and the result of a replay.

use std::fmt;

use assay_store::{FailedRowSelection, ReplayCounts};
use assay_transaction::{Exit, FailureClass, Run, RunId};
use serde::Serialize;
use serde_json::{Value, json};

use super::publish::SentParts;
use crate::output::{FieldList, Table, counted, grouped};

/// What a replay sends.
#[derive(Debug, Serialize)]
pub(super) struct ReplayPlan {
    run_id: RunId,
    pub(super) rows_selected: u64,
    selected: Vec<(String, u64)>,
    /// Selected rows whose content was removed.
    #[serde(skip_serializing_if = "is_none")]
    rows_removed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl ReplayPlan {
    pub(super) fn new(run: &Run, selected: Vec<(String, u64)>) -> Self {
        let is_removed = |(class, _): &(String, u64)| FailureClass::from(class.as_str()).is_tombstone();
        let (removed, selected): (Vec<_>, Vec<_>) = selected.into_iter().partition(is_removed);
        let sum = |counts: &[(String, u64)]| counts.iter().map(|(_, count)| count).sum();
        let (rows_selected, rows_removed) = (sum(&selected), sum(&removed));
        Self { run_id: run.run_id.clone(), rows_selected, selected, rows_removed }
    }

    /// The selection and its number of rows, for the table of operations.
    pub(super) fn details(&self, selection: &FailedRowSelection) -> Value {
        let mut details = json!({ "rows_selected": self.rows_selected });
        if !selection.classes.is_empty() {
            details["classes"] = json!(selection.classes);
        }
        if !selection.rows.is_empty() {
            details["rows"] = json!(selection.rows);
        }
        details
    }
}

/// The result of a replay.
#[derive(Debug, Serialize)]
pub(super) struct ReplayReport {
    #[serde(flatten)]
    pub(super) plan: ReplayPlan,
    pub(super) is_dry_run: bool,
    #[serde(flatten)]
    pub(super) replayed: Option<ReplaySummary>,
}

/// What was sent and, if it was waited for, the outcomes.
#[derive(Debug, Serialize)]
pub(super) struct ReplaySummary {
    replay: u64,
    rows_sent: u64,
    parts_sent: u64,
    /// Rows that could not be sent.
    rows_unreadable: u64,
    #[serde(flatten)]
    outcome: Option<ReplayOutcome>,
}

#[derive(Debug, Serialize)]
struct ReplayOutcome {
    stored: u64,
    failed: u64,
    gone: u64,
    /// Rows of dead-lettered parts, which stay failed.
    given_up: u64,
    parts_given_up: u64,
}

impl ReplaySummary {
    /// `waited` holds the sum of the parts, and how many were dead-lettered.
    pub(super) fn new(replay: u64, sent: SentParts, waited: Option<(ReplayCounts, u64)>) -> Self {
        let outcome = waited.map(|(ReplayCounts { stored, failed, gone, is_new: _ }, parts_given_up)| ReplayOutcome {
            stored,
            failed,
            gone,
            given_up: sent.rows.saturating_sub(stored + failed + gone),
            parts_given_up,
        });
        let SentParts { rows, parts, unreadable } = sent;
        Self { replay, rows_sent: rows, parts_sent: parts, rows_unreadable: unreadable, outcome }
    }
}

impl ReplayReport {
    /// Failed if rows are known to be failed still.
    pub(super) fn exit(&self) -> Exit {
        let is_successful = self.replayed.as_ref().is_none_or(|replayed| {
            replayed.rows_unreadable == 0
                && replayed.outcome.as_ref().is_none_or(|outcome| outcome.failed + outcome.given_up == 0)
        });
        if is_successful { Exit::Done } else { Exit::FailedRows }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplayPlan { run_id, rows_selected, selected, rows_removed } = &self.plan;
        if *rows_removed > 0 {
            let rows = counted(*rows_removed, "row was", "rows were");
            writeln!(out, "{rows} removed, and cannot be sent")?;
        }
        if *rows_selected == 0 {
            return writeln!(out, "no failed transaction of run {run_id} is selected: nothing to replay");
        }
        let Some(replayed) = &self.replayed else {
            writeln!(out, "of run {run_id} would be sent again:\n")?;
            let mut table = Table::new(["class", ">rows"]);
            for (class, count) in selected {
                table.add([class.clone(), grouped(*count)]);
            }
            table.add(["all".to_owned(), grouped(*rows_selected)]);
            return write!(out, "{table}\nnothing was sent (--dry-run)\n");
        };
        writeln!(out, "replay {} of run {run_id}", replayed.replay)?;
        let mut fields = FieldList::default();
        let parts = counted(replayed.parts_sent, "part", "parts");
        fields.add("rows sent", format!("{}, in {parts}", grouped(replayed.rows_sent)));
        if replayed.rows_unreadable > 0 {
            fields.add("not readable", grouped(replayed.rows_unreadable));
        }
        if let Some(outcome) = &replayed.outcome {
            fields.add("stored", grouped(outcome.stored));
            fields.add("failed again", grouped(outcome.failed));
            fields.add("no longer failed", grouped(outcome.gone));
            if outcome.parts_given_up > 0 {
                let parts = counted(outcome.parts_given_up, "part", "parts");
                fields.add("dead letters", format!("{}, in {parts}: failed as before", grouped(outcome.given_up)));
            }
            return fields.fmt(out);
        }
        writeln!(out, "{fields}sent to predictors and writers: `assay status {run_id}` shows the outcomes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;

    fn plan(selected: &[(&str, u64)]) -> ReplayPlan {
        let selected: Vec<_> = selected.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect();
        ReplayPlan::new(&Run { run_id: "first".parse().unwrap(), ..example() }, selected)
    }

    fn report(waited: Option<(ReplayCounts, u64)>) -> ReplayReport {
        let sent = SentParts { rows: 1_070, parts: 11, unreadable: 0 };
        let plan = plan(&[("rejected", 1_050), ("suspect", 20)]);
        ReplayReport { plan, is_dry_run: false, replayed: Some(ReplaySummary::new(2, sent, waited)) }
    }

    #[test]
    fn a_dry_run_shows_what_would_be_sent() {
        let dry = ReplayReport { is_dry_run: true, replayed: None, ..report(None) };
        assert_eq!(
            dry.to_string(),
            "\
of run first would be sent again:

class      rows
rejected  1,050
suspect      20
all       1,070

nothing was sent (--dry-run)
"
        );
        assert_eq!(dry.exit(), Exit::Done);
        let nothing = ReplayReport { plan: plan(&[]), is_dry_run: false, replayed: None };
        assert_eq!(nothing.to_string(), "no failed transaction of run first is selected: nothing to replay\n");
    }

    #[test]
    fn removed_rows_are_skipped() {
        let removed = ReplayReport { plan: plan(&[("removed", 1_000)]), is_dry_run: false, replayed: None };
        assert_eq!(
            removed.to_string(),
            "1,000 rows were removed, and cannot be sent\n\
             no failed transaction of run first is selected: nothing to replay\n"
        );
        assert_eq!(plan(&[("removed", 2), ("purged", 1), ("erased", 1), ("rejected", 3)]).rows_selected, 3);
    }

    #[test]
    fn the_outcomes_are_shown() {
        let exchanged = ReplayCounts { is_new: false, stored: 1_060, failed: 0, gone: 10 };
        let well = report(Some((exchanged, 0)));
        assert_eq!(
            well.to_string(),
            "\
replay 2 of run first
  rows sent         1,070, in 11 parts
  stored            1,060
  failed again      0
  no longer failed  10
"
        );
        assert_eq!(well.exit(), Exit::Done);
        let again = report(Some((ReplayCounts { failed: 1, stored: 969, gone: 0, is_new: false }, 1)));
        assert!(again.to_string().ends_with("  dead letters      100, in 1 part: failed as before\n"), "{again}");
        assert_eq!(again.exit(), Exit::FailedRows);
    }

    #[test]
    fn with_a_fleet_the_outcomes_are_not_known_yet() {
        let sent = report(None);
        assert!(
            sent.to_string()
                .ends_with("in 11 parts\nsent to predictors and writers: `assay status first` shows the outcomes\n")
        );
        assert_eq!(sent.exit(), Exit::Done);
        let json = serde_json::to_value(&sent).unwrap();
        assert_eq!((&json["replay"], &json["rows_sent"], json.get("stored")), (&2.into(), &1_070.into(), None));
    }

    #[test]
    fn the_selection_is_recorded_in_operations() {
        let selection = FailedRowSelection { classes: vec!["rejected".into()], rows: vec![(1, 10)] };
        let details = plan(&[("rejected", 3)]).details(&selection);
        assert_eq!(details, json!({ "rows_selected": 3, "classes": ["rejected"], "rows": [[1, 10]] }));
        assert_eq!(plan(&[("rejected", 3)]).details(&FailedRowSelection::default()), json!({ "rows_selected": 3 }));
    }

    #[test]
    fn its_json_is_pinned() {
        let exchanged = ReplayCounts { is_new: false, stored: 1_060, failed: 8, gone: 2 };
        crate::output::pin_json("replay", &report(Some((exchanged, 0))));
    }
}

//! What became of rows whose content is gone, as commands show it.

use assay_store::{OperationRecord, Tombstones};

use crate::output::{FieldList, counted, moment, one_line};

/// Adds a line for each operation that took content of a run.
pub(crate) fn show(tombstones: &[Tombstones], fields: &mut FieldList) {
    for Tombstones { class, rows, operation } in tombstones {
        let rows = counted(*rows, "row", "rows");
        let by = operation.as_ref().map(describe_operation).unwrap_or_default();
        fields.add(one_line(class, 40), format!("{rows}{by}"));
    }
}

/// ` by ada, 2026-01-11 10:00:00 UTC: retention (operation 7)`.
pub(crate) fn describe_operation(operation: &OperationRecord) -> String {
    let (by, at) = (one_line(&operation.operator, 40), moment(operation.done_at));
    let reason = operation.reason.as_deref().map(|reason| format!(": {}", one_line(reason, 500))).unwrap_or_default();
    format!(" by {by}, {at} UTC{reason} (operation {})", operation.id)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::commands::ledger::state::tests::at;

    pub(crate) fn erasure() -> OperationRecord {
        OperationRecord {
            id: 7,
            operator: "ada".into(),
            action: "erase".into(),
            run_id: None,
            reason: Some("as asked\u{1b}[2J".into()),
            details: None,
            done_at: at("10:00:00"),
        }
    }

    #[test]
    fn a_line_says_who_took_how_many_when_and_why() {
        let mut fields = FieldList::default();
        show(&[Tombstones { class: "erased".into(), rows: 2, operation: Some(erasure()) }], &mut fields);
        show(&[Tombstones { class: "purged".into(), rows: 1, operation: None }], &mut fields);
        assert_eq!(
            fields.to_string(),
            "  erased  2 rows by ada, 2026-01-11 10:00:00 UTC: as asked\\u{1b}[2J (operation 7)\n  purged  1 row\n"
        );
    }
}

//! What became of rows whose content is gone, as it is shown.

use assay_store::{OperationRecord, Tombstones};
use assay_transaction::RunRemoval;

use crate::{FieldList, counted, moment, one_line};

/// Adds a line for each operation that took content of a run.
pub fn show_tombstones(tombstones: &[Tombstones], fields: &mut FieldList) {
    for Tombstones { class, rows, operation } in tombstones {
        let rows = counted(*rows, "row", "rows");
        let by = operation.as_ref().map(describe_operation).unwrap_or_default();
        fields.add(one_line(class, 40), format!("{rows}{by}"));
    }
}

/// ` by ada, 2026-01-11 10:00:00 UTC: retention (operation 7)`.
pub fn describe_operation(operation: &OperationRecord) -> String {
    let (by, at) = (one_line(&operation.operator, 40), moment(operation.done_at));
    let reason = operation.reason.as_deref().map(|reason| format!(": {}", one_line(reason, 500))).unwrap_or_default();
    format!(" by {by}, {at} UTC{reason} (operation {})", operation.id)
}

/// `removed by ada, 2026-01-11 10:00:00 UTC: the wrong file`, or `being removed by …`.
pub fn describe_removal(removal: &RunRemoval) -> String {
    let RunRemoval { by, reason, began_at, ended_at } = removal;
    let (word, at) = ended_at.map_or(("being removed", began_at), |_| ("removed", began_at));
    format!("{word} by {}, {} UTC: {}", one_line(by, 40), moment(*at), one_line(reason, 500))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::erasure;

    #[test]
    fn a_line_says_who_took_how_many_when_and_why() {
        let mut fields = FieldList::default();
        show_tombstones(&[Tombstones { class: "erased".into(), rows: 2, operation: Some(erasure()) }], &mut fields);
        show_tombstones(&[Tombstones { class: "purged".into(), rows: 1, operation: None }], &mut fields);
        assert_eq!(
            fields.to_string(),
            "  erased  2 rows by ada, 2026-01-11 10:00:00 UTC: as asked\\u{1b}[2J (operation 7)\n  purged  1 row\n"
        );
    }
}

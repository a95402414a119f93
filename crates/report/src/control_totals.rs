//! The control totals of a run: what was expected of its source, and what was read.

use std::fmt;

use assay_transaction::{AmountSum, Run};
use serde::Serialize;

use crate::grouped;

/// Expected and actual totals of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlTotals {
    rows_expected: Option<u64>,
    amount_expected: Option<AmountSum>,
    rows_read: Option<u64>,
    amount_read: Option<AmountSum>,
    /// Known once the source is read completely.
    differ: Option<bool>,
}

impl ControlTotals {
    /// The totals of a run, if any were expected. A stopped run is not compared.
    pub fn of(run: &Run) -> Option<Self> {
        let expected = run.settings.expected;
        let sealed = run.sealed.filter(|_| run.stop.is_none());
        (!expected.is_nothing()).then(|| Self {
            rows_expected: expected.rows,
            amount_expected: expected.amount,
            rows_read: sealed.map(|sealed| sealed.rows_read),
            amount_read: sealed.and_then(|sealed| sealed.amount),
            differ: sealed.map(|sealed| expected.differences(sealed).is_some()),
        })
    }

    /// Whether the totals are known to differ.
    pub fn differ(&self) -> bool {
        self.differ == Some(true)
    }
}

impl fmt::Display for ControlTotals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differ() {
            out.write_str("THEY DIFFER: ")?;
        }
        let rows = self.rows_expected.map(|rows| {
            let read = self.rows_read.map(|rows| format!(", {} read", grouped(rows))).unwrap_or_default();
            format!("{} rows expected{read}", grouped(rows))
        });
        let amount = self.amount_expected.map(|amount| {
            let read = self.amount_read.map(|amount| format!(", {amount} read")).unwrap_or_default();
            format!("an amount of {amount} expected{read}")
        });
        out.write_str(&rows.into_iter().chain(amount).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::example;
    use assay_transaction::{ExpectedTotals, RunSettings, SealedTotals};

    fn shown(expected: ExpectedTotals, sealed: Option<SealedTotals>) -> Option<(String, bool)> {
        let settings = RunSettings { expected, ..RunSettings::example() };
        ControlTotals::of(&Run { settings, sealed, ..example() }).map(|totals| (totals.to_string(), totals.differ()))
    }

    #[test]
    fn both_sides_are_shown_once_known() {
        let expected = ExpectedTotals { rows: Some(5_000), amount: "12.5".parse().ok() };
        let read =
            |rows_read, amount: &str| Some(SealedTotals { rows_read, chunks_total: 50, amount: amount.parse().ok() });
        let cases = [
            (None, "5,000 rows expected; an amount of 12.5000 expected", false),
            (
                read(5_000, "12.50"),
                "5,000 rows expected, 5,000 read; an amount of 12.5000 expected, 12.5000 read",
                false,
            ),
            (
                read(4_999, "12.50"),
                "THEY DIFFER: 5,000 rows expected, 4,999 read; an amount of 12.5000 expected, 12.5000 read",
                true,
            ),
        ];
        for (sealed, text, differ) in cases {
            assert_eq!(shown(expected, sealed), Some((text.to_owned(), differ)));
        }
        assert_eq!(shown(ExpectedTotals::default(), read(1, "1")), None);
    }
}

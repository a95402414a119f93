//! Which runs and which failed transactions an operator selects, and how the SQL takes that.

use std::fmt::Write as _;

use assay_transaction::RunState;

use crate::StoreError;
use crate::values::{signed, storable, to_json};

/// Selects runs. A field that is not set selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFilter {
    /// Begun within this many seconds.
    pub seconds: Option<f64>,
    /// Part of a location, in any case; with `*` (any text) or `?` (any character), a pattern for all of it.
    pub source: Option<String>,
    /// Only runs with failed transactions.
    pub has_failed: bool,
    /// States of the ledger.
    pub states: Vec<RunState>,
}

impl RunFilter {
    /// The states as JSON, each a list of its own; none for all.
    pub(crate) fn states_json(&self) -> Result<Option<String>, StoreError> {
        let states: Vec<_> = self.states.iter().map(|state| [state.as_str()]).collect();
        if states.is_empty() { Ok(None) } else { to_json(&states).map(Some) }
    }

    /// The source as a LIKE pattern with the escape character `!`.
    pub(crate) fn pattern(&self) -> Option<String> {
        let source = self.source.as_deref()?.to_lowercase();
        let is_whole = source.contains(['*', '?']);
        let mut pattern = String::new();
        for character in source.chars() {
            // Writing to a string cannot fail.
            let _ = match character {
                '*' => pattern.write_char('%'),
                '?' => pattern.write_char('_'),
                '%' | '_' | '!' => write!(pattern, "!{character}"),
                other => pattern.write_char(other),
            };
        }
        Some(if is_whole { pattern } else { format!("%{pattern}%") })
    }
}

/// Selects failed transactions of a run. A field that is not set selects all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedRowSelection {
    /// Classes, by their codes.
    pub classes: Vec<String>,
    /// Ranges of row numbers, inclusive.
    pub rows: Vec<(u64, u64)>,
}

/// Reads a row, `12`, or a range of rows, `1-10`.
pub fn parse_row_range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || "expected a row or a range of rows, such as 4711 or 1-100".to_owned();
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first == 0 || first > last { Err(wrong()) } else { Ok((first, last)) }
}

/// A selection from a row on, as SQL takes it. The lists are JSON, each element a list of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The first row.
    pub(crate) first: i64,
    /// The last row.
    pub(crate) last: i64,
    /// None for all.
    pub(crate) classes: Option<String>,
    /// None for all.
    pub(crate) ranges: Option<String>,
}

impl Filter {
    pub(crate) fn new(selection: &FailedRowSelection, from_row: u64) -> Result<Self, StoreError> {
        let FailedRowSelection { classes, rows } = selection;
        let first = rows.iter().map(|range| range.0).min().unwrap_or_default().max(from_row);
        let last = rows.iter().map(|range| range.1).max().unwrap_or(u64::MAX);
        let classes: Vec<_> = classes.iter().map(|class| [storable(class.into())]).collect();
        let ranges: Vec<_> = rows.iter().map(|range| [signed(range.0), signed(range.1)]).collect();
        let classes = if classes.is_empty() { None } else { Some(to_json(&classes)?) };
        let ranges = if ranges.is_empty() { None } else { Some(to_json(&ranges)?) };
        Ok(Self { first: signed(first), last: signed(last), classes, ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_becomes_a_pattern() {
        for (source, pattern) in
            [("day_1", "%day!_1%"), ("s3://bank/*/A?.csv", "s3://bank/%/a_.csv"), ("50%!", "%50!%!!%")]
        {
            let filter = RunFilter { source: Some(source.into()), ..RunFilter::default() };
            assert_eq!(filter.pattern().as_deref(), Some(pattern), "{source}");
        }
        assert_eq!(RunFilter::default().pattern(), None);
    }

    #[test]
    fn what_is_not_set_leaves_all() {
        let all = Filter::new(&FailedRowSelection::default(), 7).unwrap();
        assert_eq!(all, Filter { first: 7, last: i64::MAX, classes: None, ranges: None });
        let some = FailedRowSelection { classes: vec!["a\"b".into(), "c\0".into()], rows: vec![(5, 9), (20, 20)] };
        let some = Filter::new(&some, 1).unwrap();
        assert_eq!((some.first, some.last), (5, 20));
        assert_eq!(some.classes.unwrap(), "[[\"a\\\"b\"],[\"c\u{fffd}\"]]");
        assert_eq!(some.ranges.unwrap(), "[[5,9],[20,20]]");
    }

    #[test]
    fn rows_are_numbers_and_ranges() {
        assert_eq!(parse_row_range("4711"), Ok((4_711, 4_711)));
        assert_eq!(parse_row_range("1-10"), Ok((1, 10)));
        for wrong in ["", "0", "0-5", "10-1", "a", "1-", "-1", "1-2-3"] {
            assert!(parse_row_range(wrong).unwrap_err().contains("such as 4711 or 1-100"), "{wrong}");
        }
    }
}

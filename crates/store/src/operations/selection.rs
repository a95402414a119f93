//! Which failed transactions an operator means, as the databases take it. No I/O.

use crate::write::transaction::signed;
use crate::write::validate::storable;
use crate::{Selection, StoreError};

/// A selection, from some row on. The lists are JSON, each element a list of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The first row that can be one of them.
    pub(crate) first: i64,
    /// The last.
    pub(crate) last: i64,
    /// None for all.
    pub(crate) classes: Option<String>,
    /// None for all.
    pub(crate) ranges: Option<String>,
}

impl Filter {
    pub(crate) fn new(selection: &Selection, from_row: u64) -> Result<Self, StoreError> {
        let Selection { classes, rows } = selection;
        let first = rows.iter().map(|range| range.0).min().unwrap_or_default().max(from_row);
        let last = rows.iter().map(|range| range.1).max().unwrap_or(u64::MAX);
        let classes: Vec<_> = classes.iter().map(|class| [storable(class.into())]).collect();
        let ranges: Vec<_> = rows.iter().map(|range| [signed(range.0), signed(range.1)]).collect();
        let refused = |error: serde_json::Error| StoreError::data(error.to_string());
        let json = |is_empty, json: serde_json::Result<String>| {
            if is_empty { Ok(None) } else { json.map(Some).map_err(refused) }
        };
        Ok(Self {
            first: signed(first),
            last: signed(last),
            classes: json(classes.is_empty(), serde_json::to_string(&classes))?,
            ranges: json(ranges.is_empty(), serde_json::to_string(&ranges))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_leaves_all() {
        let all = Filter::new(&Selection::default(), 7).unwrap();
        assert_eq!(all, Filter { first: 7, last: i64::MAX, classes: None, ranges: None });
        let some = Selection { classes: vec!["a\"b".into(), "c\0".into()], rows: vec![(5, 9), (20, 20)] };
        let some = Filter::new(&some, 1).unwrap();
        assert_eq!((some.first, some.last), (5, 20));
        assert_eq!(some.classes.unwrap(), "[[\"a\\\"b\"],[\"c\u{fffd}\"]]");
        assert_eq!(some.ranges.unwrap(), "[[5,9],[20,20]]");
    }
}

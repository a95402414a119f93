//! Field counts of the rows below a header: whether a delimiter fits them, and whether rows end with an extra one.

use assay_transaction::{DecidedBy, Decision, DecisionSubject, FieldAccess as _, HeaderRowFinder};

use crate::decode::batch::SourceRow;
use crate::detect::head::Head;
use crate::detect::{format_count, nearly_all};
use crate::{CsvReader, SourceError};

/// Rows per batch.
const BATCH: usize = 1_000;

/// Counts of rows by their number of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowShapes {
    all: usize,
    /// As many fields as the header.
    equal: usize,
    /// Of these, rows whose last field is empty.
    ends_empty: usize,
    /// One more field, which is empty.
    one_more: usize,
    /// One field fewer.
    one_fewer: usize,
}

impl RowShapes {
    /// Counts the complete rows of a head, without repeated headers.
    pub(crate) async fn of(
        mut reader: CsvReader,
        head: &Head,
        columns: usize,
        headers: Option<&HeaderRowFinder<'_>>,
    ) -> Result<Self, SourceError> {
        let mut shape = Self::default();
        while let Some(batch) = reader.next_batch(BATCH).await? {
            let is_row = |row: &SourceRow<'_>| row.malformed.is_none() && head.has_whole(row);
            let is_header = |row: &SourceRow<'_>| headers.is_some_and(|headers| headers.find(&row.fields).is_some());
            for row in batch.rows().filter(|row| is_row(row) && !is_header(row)) {
                let count = row.fields.count();
                let last = count.checked_sub(1).and_then(|last| row.fields.get(last));
                let ends_empty = last.is_some_and(|field| field.trim_ascii().is_empty());
                shape.add(count, ends_empty, columns);
            }
        }
        Ok(shape)
    }

    fn add(&mut self, count: usize, ends_empty: bool, columns: usize) {
        self.all += 1;
        if count == columns {
            self.equal += 1;
            self.ends_empty += usize::from(ends_empty);
        } else if count == columns + 1 && ends_empty {
            self.one_more += 1;
        } else if count + 1 == columns {
            self.one_fewer += 1;
        }
    }

    /// Whether the header may belong to the rows: most have as many fields, or one more or fewer.
    pub(crate) fn may_fit(self) -> bool {
        (self.equal + self.one_more + self.one_fewer) * 2 >= self.all
    }

    /// Whether nearly all rows have as many fields as the header.
    pub(crate) fn fits(self) -> bool {
        nearly_all(self.equal, self.all)
    }

    /// Whether rows repeat the header's trailing delimiter. Other shapes are ignored.
    pub(crate) fn repeats_header_delimiter(self) -> bool {
        nearly_all(self.equal, self.equal + self.one_fewer)
    }

    /// Whether rows end with a delimiter that the header lacks. A majority suffices: it shifts no values, and rows
    /// without it are still read, or rejected if their last field is empty. Rows with surplus values or missing ones
    /// are ignored, but if they are the majority, the header may lack a name.
    pub(crate) fn has_trailing_delimiter(self) -> bool {
        let telling = self.equal + self.one_more;
        self.one_more * 2 > telling && telling * 2 >= self.all
    }

    /// Whether the header's empty last name is not a column: no row has a value there.
    pub(crate) fn is_last_column_empty(self) -> bool {
        let telling = self.equal + self.one_fewer;
        let is_uniform = nearly_all(self.equal, telling) || nearly_all(self.one_fewer, telling);
        self.ends_empty == self.equal && (telling == 0 || is_uniform)
    }

    /// The decision about trailing delimiters.
    pub(crate) fn decision(self, is_of_header: bool, is_of_rows: bool) -> Decision {
        let ends = if is_of_header { self.equal } else { self.one_more };
        let rows = format!("{} of {} rows end with a delimiter", format_count(ends), format_count(self.all));
        let (value, evidence) = match (is_of_header, is_of_rows) {
            (true, true) => ("ignored", format!("the header and {rows}")),
            (true, false) => {
                ("ignored in the header", "its last name is empty, and no row has a value there".to_owned())
            }
            (false, _) => ("ignored in rows", format!("{rows}, and the header does not")),
        };
        Decision {
            what: DecisionSubject::TrailingDelimiter,
            value: value.to_owned(),
            by: DecidedBy::Recognised,
            evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rows: &[(usize, bool)]) -> RowShapes {
        let mut shape = RowShapes::default();
        for (count, ends_empty) in rows {
            shape.add(*count, *ends_empty, 7);
        }
        shape
    }

    #[test]
    fn a_trailing_delimiter_needs_a_majority_of_rows() {
        let (plain, empty, more, surplus) = ((7, false), (7, true), (8, true), (8, false));
        let cases = [
            (vec![], false, true),
            (vec![plain; 5], false, false),
            (vec![more; 5], true, true),
            (vec![more, more, surplus, more, more], true, true),
            (vec![more, plain], false, false),
            (vec![more, more, empty], true, true),
            (vec![more, surplus, surplus, surplus], false, true),
            (vec![empty; 3], false, true),
            (vec![empty, plain], false, false),
            (vec![(6, false); 3], false, true),
            (vec![(6, false), empty], false, false),
        ];
        for (rows, one_more, empty_last) in cases {
            let shape = shape(&rows);
            assert_eq!(
                (shape.has_trailing_delimiter(), shape.is_last_column_empty()),
                (one_more, empty_last),
                "{rows:?}"
            );
        }
    }
}

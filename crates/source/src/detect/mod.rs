//! Detects what the user has not set: format, encoding, header, delimiter, decimal mark and timestamp format, each with
//! its evidence.
//!
//! One rule for all: a reading is accepted if it fits nearly all of the sample and the sample proves it, with values
//! that no other reading fits. A few values that only another reading fits are slips and cost their rows. If nothing is
//! proven and the readings differ, the source is rejected: [`UndecidedFormat`] shows both readings, the place and shape
//! of a value, and the setting that decides. A value that the user has set is never questioned.

pub(crate) mod amounts;
pub(crate) mod encoding;
pub(crate) mod format_options;
pub(crate) mod head;
pub(crate) mod header;
pub(crate) mod inspect;
mod mapping_file;
pub(crate) mod other_formats;
pub(crate) mod timestamps;
mod undecided;

use std::fmt;

use assay_transaction::{DecidedBy, shape};

pub use undecided::UndecidedFormat;

/// A detected value, and how it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detected<T> {
    pub(crate) value: T,
    pub(crate) by: DecidedBy,
    /// The evidence, for the user.
    pub(crate) evidence: String,
}

/// A text of the sample. It displays its shape and row only, as evidence is logged.
#[derive(Debug, Clone)]
pub(crate) struct SampleText {
    pub(crate) row: u64,
    pub(crate) text: String,
}

impl fmt::Display for SampleText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in row {}", shape(&self.text), self.row)
    }
}

#[cfg(test)]
impl SampleText {
    /// Texts of consecutive rows.
    fn rows<T: ToString>(texts: &[T]) -> Vec<Self> {
        texts.iter().zip(1..).map(|(text, row)| Self { row, text: text.to_string() }).collect()
    }
}

/// Whether a reading fits nine in ten.
pub(crate) fn nearly_all(count: usize, of: usize) -> bool {
    count > 0 && count * 10 >= of * 9
}

/// Whether these are more than slips: above one in a thousand.
pub(crate) fn is_more_than_slips(count: usize, of: usize) -> bool {
    count * 1_000 > of
}

/// A number with thousands separators.
pub(crate) fn format_count(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with its noun.
pub(crate) fn format_count_of(count: usize, one: &str, several: &str) -> String {
    format!("{} {}", format_count(count), if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_all_are_nine_in_ten_and_a_slip_is_one_in_a_thousand() {
        for (count, of, expected) in [(0, 0, false), (9, 10, true), (89, 100, false), (1, 1, true)] {
            assert_eq!(nearly_all(count, of), expected, "{count} of {of}");
        }
        for (count, of, expected) in [(0, 5, false), (1, 999, true), (1, 1_000, false), (2, 1_000, true)] {
            assert_eq!(is_more_than_slips(count, of), expected, "{count} of {of}");
        }
    }

    #[test]
    fn numbers_have_thousands_separators() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(format_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(format_count_of(1, "line", "lines"), "1 line");
    }
}

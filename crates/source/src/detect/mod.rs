//! What a source does not say is recognised here: its encoding, its header and delimiter, the decimal mark of its amounts and
//! the form of its timestamps, each in a file with its evidence.
//!
//! One rule holds for all of them. A reading is recognised where it fits nearly all of the sample, and the sample proves it
//! against every other reading: it holds values that only this one fits. A few values that only another one fits are slips, and
//! cost their rows. Where nothing is proven, and the readings differ, the source is refused: [`UndecidedFormat`] shows both readings and the
//! place and the shape of a value of the source, and names the setting that decides. Nothing that is set is ever questioned.

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

/// What was recognised, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detected<T> {
    pub(crate) value: T,
    pub(crate) by: DecidedBy,
    /// What proves it, for a person.
    pub(crate) evidence: String,
}

/// A text of the sample that something is recognised by. It shows its shape and its row: evidence ends in logs.
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
    /// Texts of rows from the first one on.
    fn rows<T: ToString>(texts: &[T]) -> Vec<Self> {
        texts.iter().zip(1..).map(|(text, row)| Self { row, text: text.to_string() }).collect()
    }
}

/// Whether a reading fits so many that the others are exceptions: nine in ten.
pub(crate) fn nearly_all(count: usize, of: usize) -> bool {
    count > 0 && count * 10 >= of * 9
}

/// Whether so many are more than a slip: above one in a thousand.
pub(crate) fn is_more_than_slips(count: usize, of: usize) -> bool {
    count * 1_000 > of
}

/// A number with its thousands apart.
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

/// So many of something.
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
    fn numbers_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(format_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(format_count_of(1, "line", "lines"), "1 line");
    }
}

//! Rejected rows, and their counts by reason: if nearly all rows share one reason, the source is read wrongly, and a
//! setting is named.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::value::redact::shape;
use crate::value::text::masked;
use crate::{RawText, RejectReason};

/// A few rows, in a source of any size: another file's header, a total, a line of text.
const FEW: u64 = 2;
/// In large sources, one row of so many counts as few.
const ONE_OF: u64 = 10;

/// Most bytes kept of a rejected row: 64 KiB.
pub const MAX_RAW_KEPT: usize = 64 * 1024;

/// The rule a row broke, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub reason: RejectReason,
    /// For readers who may see the row, stored next to it: names the column and quotes the start of the value with card
    /// numbers masked.
    pub message: String,
    /// The parts of the message taken from the row.
    values: Vec<Range<usize>>,
    /// Whether the value fits only another reading than the recognised one: the other decimal mark, or another order of
    /// day, month and year.
    pub other_reading: bool,
}

impl Rejection {
    /// A rejection that holds for every reading. The message must contain nothing of the row.
    pub fn new(reason: RejectReason, message: String) -> Self {
        Self { reason, message, values: Vec::new(), other_reading: false }
    }

    pub(crate) fn of_value(field: &str, value: &str, reason: RejectReason, error: &dyn fmt::Display) -> Self {
        let mut rejection = Self::new(reason, format!("{field} {error}: "));
        rejection.push_value(value);
        rejection
    }

    pub(crate) fn push_words(&mut self, words: &str) {
        self.message.push_str(words);
    }

    /// Appends a value of the row to the message, between backticks.
    pub(crate) fn push_value(&mut self, value: &str) {
        self.push_shown(&masked(value));
    }

    /// Appends a value as written.
    pub(crate) fn push_shown(&mut self, written: &str) {
        let start = self.message.len();
        self.message.push_str(written);
        self.values.push(start..self.message.len());
    }

    /// The message with values replaced by their shapes: for logs, and for messages about a source as a whole.
    pub fn without_values(&self) -> String {
        let (mut message, mut end) = (String::with_capacity(self.message.len()), 0);
        for value in &self.values {
            message.push_str(&self.message[end..value.start]);
            message.push_str(&shape(self.message[value.clone()].trim_matches('`')));
            end = value.end;
        }
        message.push_str(&self.message[end..]);
        message
    }
}

/// A rejected row, as recorded in `invalid_transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// 1-based over data rows.
    pub row: u64,
    /// The physical line the row starts at, 1-based.
    pub line: u64,
    /// The stable code.
    pub reason: RejectReason,
    /// For a person.
    pub message: String,
    /// The row's own bytes, at most [`MAX_RAW_KEPT`].
    pub raw: RawText,
}

/// The number of rows rejected by reason, each with the first message, without row contents.
#[derive(Debug, Clone, Default)]
pub struct RejectionCounts {
    by_reason: HashMap<RejectReason, (u64, String)>,
}

/// The reason for which all or nearly all rows of a source were rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrevailingReason {
    /// The reason.
    pub reason: RejectReason,
    /// The number of rows rejected for it.
    pub rejected: u64,
    /// The number of rows in total.
    pub rows: u64,
    /// The first message, with the shape of its value.
    pub example: String,
    /// The setting that may read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<&'static str>,
}

impl RejectionCounts {
    /// Counts a row.
    pub fn add(&mut self, rejection: &Rejection) {
        match self.by_reason.get_mut(&rejection.reason) {
            Some((count, _)) => *count += 1,
            None => drop(self.by_reason.insert(rejection.reason.clone(), (1, rejection.without_values()))),
        }
    }

    /// The most frequent reason among so many rows; none if no row was rejected.
    pub fn most_frequent(&self, rows: u64) -> Option<PrevailingReason> {
        // A tie is always resolved alike.
        let most = self.by_reason.iter().max_by_key(|(reason, (count, _))| (*count, std::cmp::Reverse(reason.code())));
        let (reason, (rejected, example)) = most?;
        let (reason, setting) = (reason.clone(), reason.setting());
        Some(PrevailingReason { reason, rejected: *rejected, rows, example: example.clone(), setting })
    }

    /// The reason of all rows, or of all but a few: at most two, or a tenth of them, and fewer than it has.
    pub fn prevailing(&self, rows: u64) -> Option<PrevailingReason> {
        self.most_frequent(rows).filter(|most| {
            let others = rows.saturating_sub(most.rejected);
            others < most.rejected && others <= FEW.max(rows / ONE_OF)
        })
    }
}

/// For a person, in one line.
impl fmt::Display for PrevailingReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, rejected, rows, example, setting } = self;
        write!(formatter, "{rejected} of {rows} rows are invalid for one reason, {reason}: {example}")?;
        match setting {
            // The example may name it already.
            Some(setting) if !example.contains(&setting[..]) => write!(formatter, "; check {setting}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejections(counts: &[(RejectReason, u64)]) -> RejectionCounts {
        let mut rejections = RejectionCounts::default();
        for (reason, count) in counts {
            for number in 0..*count {
                rejections.add(&Rejection::new(reason.clone(), format!("message {number}")));
            }
        }
        rejections
    }

    /// Counts by reason, all rows, and the expected prevailing reason.
    type Case<'a> = (&'a [(RejectReason, u64)], u64, Option<RejectReason>);

    #[test]
    fn a_reason_prevails_where_all_but_a_few_have_it() {
        use RejectReason::{AmountFormat, SideEmpty, TimestampFormat};
        let cases: &[Case<'_>] = &[
            (&[], 0, None),
            (&[], 5, None),
            (&[(AmountFormat, 1)], 1, Some(AmountFormat)),
            (&[(AmountFormat, 1)], 2, None),
            (&[(AmountFormat, 2)], 3, Some(AmountFormat)),
            (&[(AmountFormat, 2)], 4, None),
            (&[(AmountFormat, 3)], 5, Some(AmountFormat)),
            (&[(AmountFormat, 4)], 7, None),
            (&[(AmountFormat, 90), (SideEmpty, 10)], 100, Some(AmountFormat)),
            (&[(AmountFormat, 89), (SideEmpty, 10)], 100, None),
            (&[(SideEmpty, 5), (TimestampFormat, 95)], 100, Some(TimestampFormat)),
        ];
        for (counts, rows, expected) in cases {
            let prevailing = rejections(counts).prevailing(*rows);
            assert_eq!(prevailing.map(|found| found.reason).as_ref(), expected.as_ref(), "{counts:?} of {rows}");
        }
    }

    #[test]
    fn it_shows_the_first_and_names_the_setting() {
        let most = rejections(&[(RejectReason::TimestampFormat, 3)]).most_frequent(3).unwrap();
        assert_eq!(
            most.to_string(),
            "3 of 3 rows are invalid for one reason, timestamp_format: message 0; check TIMESTAMP_FORMAT"
        );
        let said = PrevailingReason { example: "message 0; set TIMESTAMP_FORMAT".to_owned(), ..most };
        assert!(said.to_string().ends_with(": message 0; set TIMESTAMP_FORMAT"), "{said}");
        let most = rejections(&[(RejectReason::NulByte, 3)]).most_frequent(4).unwrap();
        assert_eq!(most.to_string(), "3 of 4 rows are invalid for one reason, nul_byte: message 0");
    }
}

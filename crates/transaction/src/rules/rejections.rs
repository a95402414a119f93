//! Why the rows of a source are rejected, counted: where it is one reason for nearly all of them, they are read in the wrong way,
//! and a setting is named.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::{RejectReason, Rejection};

/// A few rows, however few there are in all: the header of another file, a total, a line of text.
const FEW: u64 = 2;
/// The share of rows that are a few, where there are many: one of so many.
const ONE_OF: u64 = 10;

/// How many rows were rejected, by reason, each with the first message, without what its row holds.
#[derive(Debug, Clone, Default)]
pub struct Rejections {
    by_reason: HashMap<RejectReason, (u64, String)>,
}

/// A reason that all rows of a source were rejected for, or all but a few.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prevailing {
    /// The reason.
    pub reason: RejectReason,
    /// How many rows were rejected for it.
    pub rejected: u64,
    /// Of how many.
    pub rows: u64,
    /// What was said of the first of them, with the shape of its value.
    pub example: String,
    /// The setting that may read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<&'static str>,
}

impl Rejections {
    /// Counts a row.
    pub fn add(&mut self, rejection: &Rejection) {
        match self.by_reason.get_mut(&rejection.reason) {
            Some((count, _)) => *count += 1,
            None => drop(self.by_reason.insert(rejection.reason.clone(), (1, rejection.without_values()))),
        }
    }

    /// The reason that is the most frequent among so many rows; none where none was rejected.
    pub fn most_frequent(&self, rows: u64) -> Option<Prevailing> {
        // Of two that are as frequent, the same one each time.
        let most = self.by_reason.iter().max_by_key(|(reason, (count, _))| (*count, std::cmp::Reverse(reason.code())));
        let (reason, (rejected, example)) = most?;
        let (reason, setting) = (reason.clone(), reason.setting());
        Some(Prevailing { reason, rejected: *rejected, rows, example: example.clone(), setting })
    }

    /// The reason of all of so many rows, or of all but a few: not more than two, or a tenth of them, and fewer than it has.
    pub fn prevailing(&self, rows: u64) -> Option<Prevailing> {
        self.most_frequent(rows).filter(|most| {
            let others = rows.saturating_sub(most.rejected);
            others < most.rejected && others <= FEW.max(rows / ONE_OF)
        })
    }
}

/// For a person, in one line.
impl fmt::Display for Prevailing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, rejected, rows, example, setting } = self;
        write!(formatter, "{rejected} of {rows} rows are invalid for one reason, {reason}: {example}")?;
        match setting {
            // The message of the example may say so itself.
            Some(setting) if !example.contains(&setting[..]) => write!(formatter, "; look at {setting}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejections(counts: &[(RejectReason, u64)]) -> Rejections {
        let mut rejections = Rejections::default();
        for (reason, count) in counts {
            for number in 0..*count {
                rejections.add(&Rejection::new(reason.clone(), format!("message {number}")));
            }
        }
        rejections
    }

    /// Rows by reason, all rows, and the reason that prevails.
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
            "3 of 3 rows are invalid for one reason, timestamp_format: message 0; look at TIMESTAMP_FORMAT"
        );
        let said = Prevailing { example: "message 0; set TIMESTAMP_FORMAT".to_owned(), ..most };
        assert!(said.to_string().ends_with(": message 0; set TIMESTAMP_FORMAT"), "{said}");
        let most = rejections(&[(RejectReason::NulByte, 3)]).most_frequent(4).unwrap();
        assert_eq!(most.to_string(), "3 of 4 rows are invalid for one reason, nul_byte: message 0");
    }
}

//! Error budgets: how many rows may be invalid or fail before a run is aborted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share is a number from 0 to 1, such as 0.01")]
pub struct ParseRatioError;

/// A share of rows, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ratio(u32);

impl Ratio {
    const WHOLE: u32 = 1_000_000;

    /// 0.001.
    pub const THOUSANDTH: Self = Self(Self::WHOLE / 1_000);
    /// 0.25.
    pub const QUARTER: Self = Self(Self::WHOLE / 4);

    /// This share of `all`, rounded down.
    pub fn of(self, all: usize) -> usize {
        usize::try_from(all as u128 * u128::from(self.0) / u128::from(Self::WHOLE)).unwrap_or(all)
    }

    /// Whether `part` of `all` is more than this share.
    pub fn is_exceeded_by(self, part: u64, all: u64) -> bool {
        u128::from(part) * u128::from(Self::WHOLE) > u128::from(all) * u128::from(self.0)
    }
}

impl FromStr for Ratio {
    type Err = ParseRatioError;

    fn from_str(text: &str) -> Result<Self, ParseRatioError> {
        let share: f64 = text.parse().map_err(|_| ParseRatioError)?;
        if !(0.0..=1.0).contains(&share) {
            return Err(ParseRatioError);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
        let millionths = (share * f64::from(Self::WHOLE)).round() as u32;
        Ok(Self(millionths))
    }
}

/// As written, to six decimals.
impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", f64::from(self.0) / f64::from(Self::WHOLE))
    }
}

/// The error budgets of a run; without one, the run is never aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budgets {
    /// The share of rows read that may be invalid: `MAX_INVALID_RATIO`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_invalid: Option<Ratio>,
    /// The share of recorded rows that may have failed: `MAX_FAILED_RATIO`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<Ratio>,
}

impl Budgets {
    /// Rows needed before a share of them is meaningful.
    pub const MIN_ROWS: u64 = 1_000;

    /// Why a run must be aborted after so many rows were read; none within its budget. At the end of the source any
    /// number of rows is enough.
    pub fn exceeded_by_invalid(self, invalid: u64, rows_read: u64, is_end: bool) -> Option<String> {
        let limit = self.max_invalid.filter(|limit| limit.is_exceeded_by(invalid, rows_read))?;
        (is_end || rows_read >= Self::MIN_ROWS)
            .then(|| format!("{invalid} of {rows_read} rows are invalid, more than MAX_INVALID_RATIO={limit} allows"))
    }

    /// Whether rows that fit only another reading show that the recognised one is wrong, or that the source mixes two:
    /// more than a thousandth. It waits for enough rows, as budgets do.
    pub fn is_misread(other_reading: u64, rows_read: u64, is_end: bool) -> bool {
        (is_end || rows_read >= Self::MIN_ROWS) && Ratio::THOUSANDTH.is_exceeded_by(other_reading, rows_read)
    }

    /// Why a run must be aborted after so many recorded rows failed; none within its budget.
    pub fn exceeded_by_failed(self, failed: u64, rows_recorded: u64) -> Option<String> {
        let limit = self.max_failed.filter(|limit| limit.is_exceeded_by(failed, rows_recorded))?;
        (rows_recorded >= Self::MIN_ROWS)
            .then(|| format!("{failed} of {rows_recorded} rows failed, more than MAX_FAILED_RATIO={limit} allows"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact_to_the_row() {
        let share: Ratio = "0.01".parse().unwrap();
        assert!(!share.is_exceeded_by(10, 1_000) && share.is_exceeded_by(11, 1_000));
        assert!("0".parse::<Ratio>().unwrap().is_exceeded_by(1, u64::MAX));
        assert!(!"1".parse::<Ratio>().unwrap().is_exceeded_by(u64::MAX, u64::MAX));
        assert_eq!(share.to_string(), "0.01");
        for wrong in ["", "1%", "-0.1", "1.1", "NaN"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_budget_waits_for_enough_rows_or_the_end() {
        let budgets = Budgets { max_invalid: Some("0.1".parse().unwrap()), max_failed: Some("0.1".parse().unwrap()) };
        assert_eq!(budgets.exceeded_by_invalid(500, 999, false), None);
        assert!(budgets.exceeded_by_invalid(500, 999, true).unwrap().contains("MAX_INVALID_RATIO=0.1"));
        assert!(budgets.exceeded_by_invalid(500, 1_000, false).is_some());
        assert_eq!(budgets.exceeded_by_failed(500, 999), None);
        assert!(budgets.exceeded_by_failed(101, 1_000).unwrap().contains("101 of 1000 rows failed"));
        assert_eq!(Budgets::default().exceeded_by_invalid(1_000, 1_000, true), None);
    }

    #[test]
    fn more_than_a_thousandth_of_another_reading_is_too_much() {
        let cases = [
            (0, 0, true, false),
            (0, 5_000, true, false),
            (1, 1, false, false),
            (1, 1, true, true),
            (1, 999, false, false),
            (1, 999, true, true),
            (1, 1_000, true, false),
            (2, 1_000, false, true),
            (5, 5_000, false, false),
            (6, 5_000, false, true),
        ];
        for (other, rows, is_end, expected) in cases {
            assert_eq!(Budgets::is_misread(other, rows, is_end), expected, "{other} of {rows}");
        }
    }
}

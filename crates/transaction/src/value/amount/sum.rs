//! The exact sum of a run's amounts, compared with a bank's control total.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::amount::{DecimalNumber, DigitLimits};
use crate::{Amount, AmountError, AmountNotation, DecimalMark, ReadingRules};

/// Decimals of a sum, as many as any amount has: the scale of `NUMERIC(20,4)`.
const SCALE: u32 = 4;
/// Ten to the power of `SCALE`.
const UNIT: i128 = 10_000;
/// The digits of `NUMERIC(38,4)`.
const SUM_LIMITS: DigitLimits = DigitLimits { integer: 34, scale: SCALE as usize };

/// A sum of amounts, never rounded, written with four decimals.
///
/// It saturates after 10^17 amounts of the largest size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AmountSum(i128);

impl AmountSum {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// Parses a sum as the amounts of its source are parsed.
    pub fn read(text: &str, notation: &AmountNotation) -> Result<Self, AmountError> {
        let DecimalNumber { negative, units, scale } = notation.number(text, SUM_LIMITS)?;
        let factor = 10_i128.pow(SCALE.saturating_sub(u32::try_from(scale).unwrap_or(SCALE)));
        Ok(Self(if negative { -units } else { units } * factor))
    }

    /// Adds an amount.
    pub fn add(&mut self, amount: Amount) {
        let decimal = amount.as_decimal();
        // No amount has more decimals, or as many as 10^32 units.
        let factor = 10_i128.pow(SCALE.saturating_sub(decimal.scale()));
        self.0 = self.0.saturating_add(decimal.mantissa().saturating_mul(factor));
    }
}

impl fmt::Display for AmountSum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        write!(formatter, "{sign}{}.{:04}", units / UNIT.unsigned_abs(), units % UNIT.unsigned_abs())
    }
}

/// Parses amounts with a decimal point: `-1234.50`, `1,234.50`.
impl FromStr for AmountSum {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::read(text, &AmountNotation::new(ReadingRules::Second, Some(DecimalMark::Point), &[]))
    }
}

impl Serialize for AmountSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AmountSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format_args!("sum {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(amounts: &[&str]) -> AmountSum {
        let mut sum = AmountSum::default();
        for amount in amounts {
            sum.add(amount.parse().unwrap());
        }
        sum
    }

    #[test]
    fn adds_to_the_last_digit() {
        assert_eq!(sum(&[]).to_string(), "0.0000");
        assert_eq!(sum(&["0.1", "0.2", "-0.0001"]).to_string(), "0.2999");
        assert_eq!(sum(&["-952.40", "2.4"]).to_string(), "-950.0000");
        assert_eq!(sum(&["9999999999999999.9999"; 3]).to_string(), "29999999999999999.9997");
        assert_eq!(sum(&["-0.5"]), "-.5".parse().unwrap());
        assert_eq!(sum(&["-1234.5"]), "(1,234.500000)".parse().unwrap());
        let comma = AmountNotation::new(ReadingRules::Second, Some(DecimalMark::Comma), &["€".to_owned()]);
        assert_eq!(sum(&["-1234.5"]), AmountSum::read("-1.234,50 €", &comma).unwrap());
    }

    #[test]
    fn invalid_sums_are_rejected() {
        let long = "1".repeat(35);
        for (text, expected) in [
            ("", AmountError::Format),
            ("-", AmountError::Format),
            ("1,5", AmountError::Format),
            ("1e", AmountError::Format),
            ("0.00001", AmountError::Scale),
            (long.as_str(), AmountError::Range),
        ] {
            assert_eq!(text.parse::<AmountSum>(), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn its_own_text_reads_back(units in -10_i128.pow(37)..10_i128.pow(37)) {
            let sum = AmountSum(units);
            prop_assert_eq!(sum.to_string().parse::<AmountSum>().unwrap(), sum);
        }
    }
}

//! Exact decimal amounts. An amount is never a float between the source and the database.
//!
//! `digits` turns the digits of a number into a [`DecimalNumber`], exactly; `notation` parses the forms in which people and
//! programs write numbers; `sum` adds amounts up. Every decimal number of a source (amounts, sums, units, counts) is parsed here.

mod digits;
mod notation;
mod sum;
mod text;

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub(crate) use digits::{DecimalDigits, DecimalNumber, DigitLimits};
pub use notation::{AmountNotation, AmountReadings, amount_readings};
pub use sum::AmountSum;
pub(crate) use text::AmountText;

/// Most digits after the decimal mark: the scale of `NUMERIC(20,4)`.
pub(crate) const MAX_SCALE: usize = 4;
/// Most digits before the decimal mark: the rest of `NUMERIC(20,4)`.
pub(crate) const MAX_INTEGER_DIGITS: u32 = 16;

/// The character between units and fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecimalMark {
    /// `952.40`
    Point,
    /// `952,40`
    Comma,
}

impl DecimalMark {
    /// The mark itself.
    pub fn byte(self) -> u8 {
        match self {
            Self::Point => b'.',
            Self::Comma => b',',
        }
    }

    /// The opposite mark.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Point => Self::Comma,
            Self::Comma => Self::Point,
        }
    }
}

/// `point` or `comma`.
impl fmt::Display for DecimalMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Point => "point",
            Self::Comma => "comma",
        })
    }
}

/// An amount of money that fits `NUMERIC(20,4)`, with the digits of its source: `-952,40` stays `-952.40`.
///
/// Equality is numeric: `1.5` equals `1.50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// `NaN`, `inf` and the like.
    #[error("is not a finite number")]
    NotFinite,
    /// Anything else that is not a decimal number.
    #[error("is not a decimal number")]
    Format,
    /// More than four digits after the decimal mark; nothing is ever rounded.
    #[error("has more than {MAX_SCALE} decimals")]
    Scale,
    /// More than sixteen digits before the decimal mark.
    #[error("has more than {MAX_INTEGER_DIGITS} digits before the decimal mark")]
    Range,
    /// One amount with a decimal point and another with a decimal comma, where the source does not show which mark it uses.
    #[error("is one number with a decimal point and another with a decimal comma")]
    Mark,
}

impl Amount {
    /// Parses an amount as a source writes it. The plain form is tried first: nearly every row has it.
    pub fn read(text: &str, notation: &AmountNotation) -> Result<Self, AmountError> {
        if let Some(plain) = notation.mark() {
            match Self::parse(text.as_bytes(), plain) {
                Err(_) if notation.is_lenient() => {}
                read => return read,
            }
        }
        Self::try_from(notation.number(text, DigitLimits::AMOUNT)?)
    }

    /// Parses `[+-]digits[mark digits]`: no exponent, no thousands separators, no currency. Stored and sent amounts
    /// have this form.
    pub fn parse(text: &[u8], mark: DecimalMark) -> Result<Self, AmountError> {
        let digits = DecimalDigits::split(text, mark)?;
        let DecimalDigits { negative, fraction, .. } = digits;
        if fraction.len() > MAX_SCALE {
            return Err(AmountError::Scale);
        }
        let significant = digits.significant();
        if significant.len() > MAX_INTEGER_DIGITS as usize {
            return Err(AmountError::Range);
        }
        let units = significant.iter().chain(fraction).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        Self::from_digits(negative, units, fraction.len())
    }

    /// From a number of units, `10^scale` of which make one; it must fit `NUMERIC(20,4)`.
    pub(crate) fn from_digits(negative: bool, units: i128, scale: usize) -> Result<Self, AmountError> {
        let scale = u32::try_from(scale).map_err(|_| AmountError::Scale)?;
        let mut value = Decimal::try_from_i128_with_scale(units, scale).map_err(|_| AmountError::Range)?;
        value.set_sign_negative(negative && units != 0);
        Ok(Self(value))
    }

    /// Its digits, as they are displayed.
    pub(crate) fn text(self) -> AmountText {
        AmountText::of(self.0)
    }

    /// The amount as a decimal, for a database driver.
    pub fn as_decimal(self) -> Decimal {
        self.0
    }
}

impl TryFrom<DecimalNumber> for Amount {
    type Error = AmountError;

    fn try_from(DecimalNumber { negative, units, scale }: DecimalNumber) -> Result<Self, AmountError> {
        Self::from_digits(negative, units, scale)
    }
}

/// Parses an amount from a database. Fails only for what never fitted `NUMERIC(20,4)`.
impl TryFrom<Decimal> for Amount {
    type Error = AmountError;

    fn try_from(value: Decimal) -> Result<Self, AmountError> {
        Self::parse(value.to_string().as_bytes(), DecimalMark::Point)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text().as_str())
    }
}

/// A JSON number with exactly the source's digits, which a float could not guarantee. JSON only.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// From the text of a JSON number, or from a string. JSON only, and from borrowed text (`from_str`, `from_slice`).
impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
        Self::parse(text.as_bytes(), DecimalMark::Point)
            .map_err(|error| serde::de::Error::custom(format_args!("amount {error}")))
    }
}

/// From decimal text with a point, as SQLite stores it.
impl std::str::FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::parse(text.as_bytes(), DecimalMark::Point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_the_digits_of_the_source() {
        let cases = [
            ("-952,40", DecimalMark::Comma, "-952.40"),
            ("749.5", DecimalMark::Point, "749.5"),
            ("+7", DecimalMark::Point, "7"),
            ("007.50", DecimalMark::Point, "7.50"),
            (".5", DecimalMark::Point, "0.5"),
            ("-0.00", DecimalMark::Point, "0.00"),
            ("9999999999999999.9999", DecimalMark::Point, "9999999999999999.9999"),
            ("00000000000000000000001", DecimalMark::Point, "1"),
        ];
        for (text, mark, expected) in cases {
            assert_eq!(Amount::parse(text.as_bytes(), mark).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_amounts_are_rejected() {
        let cases = [
            ("", AmountError::Format),
            ("-", AmountError::Format),
            (".", AmountError::Format),
            ("1,234.50", AmountError::Format),
            ("1e3", AmountError::Format),
            ("12 €", AmountError::Format),
            ("1.00001", AmountError::Scale),
            ("10000000000000000", AmountError::Range),
            ("NaN", AmountError::NotFinite),
            ("-Infinity", AmountError::NotFinite),
            ("inf", AmountError::NotFinite),
        ];
        for (text, expected) in cases {
            assert_eq!(Amount::parse(text.as_bytes(), DecimalMark::Point), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn survives_json_to_the_digit(integer in 0_u64..10_000_000_000_000_000, fraction in "[0-9]{0,4}", negative: bool) {
            let mark = if fraction.is_empty() { "" } else { "." };
            let text = format!("{}{integer}{mark}{fraction}", if negative { "-" } else { "" });
            let amount = Amount::parse(text.as_bytes(), DecimalMark::Point).unwrap();
            let json = serde_json::to_string(&amount).unwrap();
            let back: Amount = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.to_string(), amount.to_string());
            if integer != 0 { prop_assert_eq!(json, text); }
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Amount::parse(&text, DecimalMark::Comma);
        }
    }

    #[test]
    fn a_decimal_of_the_database_becomes_an_amount() {
        let stored: Decimal = "12.3400".parse().unwrap();
        assert_eq!(Amount::try_from(stored).unwrap(), "12.34".parse().unwrap());
    }
}

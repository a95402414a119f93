//! The digits of a decimal number, and the exact number they make.

use super::{AmountError, DecimalMark, MAX_INTEGER_DIGITS, MAX_SCALE};

#[derive(Debug, Clone, Copy)]
pub(crate) struct DecimalDigits<'a> {
    pub(crate) negative: bool,
    /// Before the mark; grouping characters may stand between.
    pub(crate) integer: &'a [u8],
    /// After the mark; either part may be empty, but not both.
    pub(crate) fraction: &'a [u8],
    /// The power of ten to multiply by.
    pub(crate) exponent: i32,
}

/// A decimal number as a count of units, `10^scale` of which make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecimalNumber {
    pub(crate) negative: bool,
    pub(crate) units: i128,
    pub(crate) scale: usize,
}

/// Most digits before and after the mark. Together at most 38, so that the number fits 128 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DigitLimits {
    pub(crate) integer: usize,
    pub(crate) scale: usize,
}

impl DigitLimits {
    pub(crate) const AMOUNT: Self = Self { integer: MAX_INTEGER_DIGITS as usize, scale: MAX_SCALE };
}

impl<'a> DecimalDigits<'a> {
    /// Splits `[+-]digits[mark digits]`, of any length.
    pub(crate) fn split(text: &'a [u8], mark: DecimalMark) -> Result<Self, AmountError> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if is_not_finite(digits) {
            return Err(AmountError::NotFinite);
        }
        let (integer, fraction) = match digits.iter().position(|byte| *byte == mark.byte()) {
            Some(at) => (&digits[..at], &digits[at + 1..]),
            None => (digits, &[][..]),
        };
        if integer.is_empty() && fraction.is_empty() || !all_digits(integer) || !all_digits(fraction) {
            return Err(AmountError::Format);
        }
        Ok(Self { negative, integer, fraction, exponent: 0 })
    }

    /// The digits before the mark without leading zeros.
    pub(crate) fn significant(&self) -> &'a [u8] {
        let leading_zeros = self.integer.iter().take_while(|digit| **digit == b'0').count();
        &self.integer[leading_zeros..]
    }

    /// The exact number. Trailing zeros beyond the allowed scale are dropped, as they lose nothing.
    pub(crate) fn number(&self, limits: DigitLimits) -> Result<DecimalNumber, AmountError> {
        let digits = || self.integer.iter().filter(|byte| byte.is_ascii_digit()).chain(self.fraction);
        let length = |digits: usize| i64::try_from(digits).map_err(|_| AmountError::Range);
        let (most_integers, most_decimals) = (length(limits.integer)?, length(limits.scale)?);
        let mut scale = length(self.fraction.len())? - i64::from(self.exponent);
        let mut significant = length(digits().skip_while(|digit| **digit == b'0').count())?;
        if significant == 0 {
            let scale = usize::try_from(scale.clamp(0, most_decimals)).unwrap_or_default();
            return Ok(DecimalNumber { negative: false, units: 0, scale });
        }
        let zeros_at_end = length(digits().rev().take_while(|digit| **digit == b'0').count())?;
        let dropped = (scale - most_decimals).clamp(0, zeros_at_end);
        scale -= dropped;
        significant -= dropped;
        if scale > most_decimals {
            return Err(AmountError::Scale);
        }
        if significant - scale > most_integers {
            return Err(AmountError::Range);
        }
        let taken = usize::try_from(significant).map_err(|_| AmountError::Range)?;
        let appended = u32::try_from((-scale).max(0)).map_err(|_| AmountError::Range)?;
        let units = digits().skip_while(|digit| **digit == b'0').take(taken);
        let units = units.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0')) * 10_i128.pow(appended);
        Ok(DecimalNumber { negative: self.negative, units, scale: usize::try_from(scale).unwrap_or_default() })
    }
}

impl DecimalNumber {
    /// Whether both numbers are equal, whatever their trailing zeros.
    pub(crate) fn equals(self, other: Self) -> bool {
        let shortest = |Self { negative, mut units, mut scale }| {
            while scale > 0 && units % 10 == 0 {
                (units, scale) = (units / 10, scale - 1);
            }
            (negative, units, scale)
        };
        shortest(self) == shortest(other)
    }
}

pub(super) fn all_digits(part: &[u8]) -> bool {
    part.iter().all(u8::is_ascii_digit)
}

/// Whether the text is a spelling of infinity or "not a number" as spreadsheets and languages write it.
pub(super) fn is_not_finite(unsigned: &[u8]) -> bool {
    [&b"nan"[..], b"inf", b"infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word))
}

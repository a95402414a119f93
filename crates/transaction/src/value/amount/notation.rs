//! How people and programs write an amount: grouped in threes, signed before, behind or around, with an exponent, or
//! with a declared currency.
//!
//! A text is stripped from the outside: white space and invisible marks, one sign (`-`, `+`, U+2212, or parentheses), one
//! currency on either side. What remains must be digits, grouped or not, with at most one decimal mark, or with an exponent.

use super::digits::{DecimalDigits, DecimalNumber, DigitLimits, all_digits, is_not_finite};
use super::{Amount, AmountError, DecimalMark};
use crate::value::text::trimmed;
use crate::{ReadingRules, RunSettings};

/// What may separate groups of three digits, unless it is the decimal mark.
const GROUPING: [char; 8] = ['.', ',', '\'', '’', ' ', '\u{a0}', '\u{202f}', '\u{2009}'];
/// Most digits of an exponent, including leading zeros.
const MAX_EXPONENT_DIGITS: usize = 4;
/// Characters used for `-` in typography, word processors and other scripts: hyphen, non-breaking hyphen, en dash,
/// minus U+2212, small and full-width hyphen.
const MINUS: [char; 7] = ['-', '\u{2010}', '\u{2011}', '\u{2013}', '\u{2212}', '\u{fe63}', '\u{ff0d}'];

/// How the amounts of a source are written; built once per run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountNotation {
    rules: ReadingRules,
    /// None if the source does not show it.
    mark: Option<DecimalMark>,
    /// Whether amounts are numbers by the grammar of their source, which never groups digits.
    is_number: bool,
    /// Whether the mark is an unproven assumption; a text that contains the other mark and reads both ways is then rejected.
    is_presumed: bool,
    currencies: Vec<String>,
}

/// The amounts a text stands for with either decimal mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountReadings {
    /// With a decimal point.
    pub point: Option<Amount>,
    /// With a decimal comma.
    pub comma: Option<Amount>,
}

impl AmountReadings {
    /// The reading with this mark.
    pub fn by(self, mark: DecimalMark) -> Option<Amount> {
        match mark {
            DecimalMark::Point => self.point,
            DecimalMark::Comma => self.comma,
        }
    }

    /// Whether both marks give an amount, and the amounts differ.
    pub fn is_ambiguous(self) -> bool {
        self.point.zip(self.comma).is_some_and(|(point, comma)| point != comma)
    }
}

/// Parses a text with either decimal mark.
pub fn amount_readings(text: &str, currencies: &[String]) -> AmountReadings {
    let read = |mark| {
        let bare = BareNumber::of(text, currencies);
        bare.and_then(|bare| bare.digits(mark, true)?.number(DigitLimits::AMOUNT)).and_then(Amount::try_from).ok()
    };
    AmountReadings { point: read(DecimalMark::Point), comma: read(DecimalMark::Comma) }
}

impl AmountNotation {
    /// For this mark, if it is known, and these currencies.
    pub fn new(rules: ReadingRules, mark: Option<DecimalMark>, currencies: &[String]) -> Self {
        Self { rules, mark, is_number: false, is_presumed: false, currencies: currencies.to_vec() }
    }

    /// The notation of a run.
    pub fn of_run(settings: &RunSettings) -> Self {
        let is_unknown = settings.amounts.is_mark_unknown && settings.reading != ReadingRules::First;
        let mark = (!is_unknown).then_some(settings.dialect.decimal_mark);
        Self::new(settings.reading, mark, &settings.amounts.currencies)
    }

    /// For numbers by the grammar of their source, as in JSON and Parquet: their mark is a point.
    pub fn for_numbers() -> Self {
        let point = Self::new(ReadingRules::Second, Some(DecimalMark::Point), &[]);
        Self { is_number: true, ..point }
    }

    /// The same for a mark that is neither set nor proven by a sample.
    #[must_use]
    pub(crate) fn with_presumed_mark(self) -> Self {
        Self { is_presumed: true, ..self }
    }

    /// The mark, if known.
    pub fn mark(&self) -> Option<DecimalMark> {
        self.mark
    }

    /// Whether it is for numbers by the grammar of their source.
    pub(crate) fn is_of_numbers(&self) -> bool {
        self.is_number
    }

    pub(crate) fn currencies(&self) -> &[String] {
        &self.currencies
    }

    /// Whether forms other than the plain one are accepted.
    pub(super) fn is_lenient(&self) -> bool {
        self.rules != ReadingRules::First
    }

    pub(crate) fn number(&self, text: &str, limits: DigitLimits) -> Result<DecimalNumber, AmountError> {
        if let (ReadingRules::First, Some(mark)) = (self.rules, self.mark) {
            return parse_plain(text, mark, limits);
        }
        let bare = BareNumber::of(text, &self.currencies)?;
        let read = |mark| bare.digits(mark, !self.is_number).and_then(|digits| digits.number(limits));
        let Some(mark) = self.mark else {
            return match (read(DecimalMark::Point), read(DecimalMark::Comma)) {
                (Ok(point), Ok(comma)) if point.equals(comma) => Ok(point),
                (Ok(_), Ok(_)) => Err(AmountError::Mark),
                (Ok(number), Err(_)) | (Err(_), Ok(number)) => Ok(number),
                // Return the more specific error.
                (Err(AmountError::Format), Err(error)) | (Err(error), Err(_)) => Err(error),
            };
        };
        let number = read(mark)?;
        let other = mark.other();
        let is_doubtful = self.is_presumed
            && bare.inner.contains(char::from(other.byte()))
            && read(other).is_ok_and(|other| !other.equals(number));
        if is_doubtful { Err(AmountError::Mark) } else { Ok(number) }
    }
}

/// Parses the plain form; the first rules drop no trailing zeros.
fn parse_plain(text: &str, mark: DecimalMark, limits: DigitLimits) -> Result<DecimalNumber, AmountError> {
    let digits = DecimalDigits::split(text.as_bytes(), mark)?;
    if digits.significant().len() > limits.integer {
        return Err(AmountError::Range);
    }
    if digits.fraction.len() > limits.scale {
        return Err(AmountError::Scale);
    }
    digits.number(limits)
}

/// A number stripped of sign and currency.
#[derive(Debug, Clone, Copy)]
struct BareNumber<'a> {
    negative: bool,
    inner: &'a str,
}

impl<'a> BareNumber<'a> {
    fn of(text: &'a str, currencies: &[String]) -> Result<Self, AmountError> {
        let mut sign = None;
        // One currency per side, as in `$5.00 USD`.
        let mut has_currency = [false; 2];
        let mut inner = trimmed(text);
        loop {
            if let (None, Some((negative, rest))) = (sign, without_sign(inner)) {
                (sign, inner) = (Some(negative), trimmed(rest));
            } else if let Some((side, rest)) = without_currency(inner, currencies, has_currency) {
                has_currency[side] = true;
                inner = trimmed(rest);
            } else {
                break;
            }
        }
        if is_not_finite(inner.as_bytes()) {
            return Err(AmountError::NotFinite);
        }
        Ok(Self { negative: sign.unwrap_or_default(), inner })
    }

    /// The digits, if nothing else remains.
    fn digits(self, mark: DecimalMark, may_be_grouped: bool) -> Result<DecimalDigits<'a>, AmountError> {
        let (mantissa, exponent) = match self.inner.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(parse_exponent(exponent).ok_or(AmountError::Format)?)),
            None => (self.inner, None),
        };
        let (integer, fraction) = mantissa.split_once(char::from(mark.byte())).unwrap_or((mantissa, ""));
        let is_integer = all_digits(integer.as_bytes())
            || may_be_grouped && exponent.is_none() && is_grouped(integer, char::from(mark.byte()));
        if integer.is_empty() && fraction.is_empty() || !is_integer || !all_digits(fraction.as_bytes()) {
            return Err(AmountError::Format);
        }
        let (integer, fraction) = (integer.as_bytes(), fraction.as_bytes());
        Ok(DecimalDigits { negative: self.negative, integer, fraction, exponent: exponent.unwrap_or_default() })
    }
}

/// Whether the number is negative, and the rest; none if there is no sign. A sign after a decimal mark is not one:
/// `12,-` is a price without cents.
fn without_sign(text: &str) -> Option<(bool, &str)> {
    if let Some(rest) = text.strip_prefix('(') {
        return rest.strip_suffix(')').map(|rest| (true, rest));
    }
    let (minus, plus) = (MINUS, '+');
    let before = text.strip_prefix(minus).map(|rest| (true, rest)).or_else(|| Some((false, text.strip_prefix(plus)?)));
    before.or_else(|| {
        let behind =
            text.strip_suffix(minus).map(|rest| (true, rest)).or_else(|| Some((false, text.strip_suffix(plus)?)));
        behind.filter(|(_, rest)| !trimmed(rest).ends_with(['.', ',']))
    })
}

/// Strips the longest currency at either end, once per side; returns the side and the rest.
fn without_currency<'a>(text: &'a str, currencies: &[String], seen: [bool; 2]) -> Option<(usize, &'a str)> {
    let rests = currencies
        .iter()
        .map(String::as_str)
        .filter(|currency| !currency.is_empty())
        .flat_map(|currency| [text.strip_prefix(currency), text.strip_suffix(currency)].into_iter().enumerate());
    let rests = rests.filter_map(|(side, rest)| (!seen[side]).then_some((side, rest?)));
    rests.min_by_key(|(_, rest)| rest.len())
}

fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_bounded = (1..=MAX_EXPONENT_DIGITS).contains(&digits.len()) && all_digits(digits.as_bytes());
    is_bounded.then(|| text.parse().ok()).flatten()
}

/// Whether one to three digits, the first not a zero, are followed by groups of three with the same separator.
fn is_grouped(integer: &str, decimal_mark: char) -> bool {
    let Some(mark) = integer.chars().find(|character| !character.is_ascii_digit()) else { return false };
    if mark == decimal_mark || !GROUPING.contains(&mark) {
        return false;
    }
    let mut groups = integer.split(mark);
    let first = groups.next().unwrap_or_default();
    let is_first = (1..=3).contains(&first.len()) && all_digits(first.as_bytes()) && !first.starts_with('0');
    is_first && groups.all(|group| group.len() == 3 && all_digits(group.as_bytes()))
}

#[cfg(test)]
mod tests;

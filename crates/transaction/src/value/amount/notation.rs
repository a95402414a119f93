//! How people and programs write an amount: grouped in threes, with its sign before, behind or around it, with an exponent, and with
//! a currency where one is declared.
//!
//! A text is peeled from outside: white space and invisible marks, one sign (`-`, `+`, U+2212, or parentheses), one currency on
//! either side. What is left has to be digits, grouped or not, with at most one decimal mark, or with an exponent.

use super::digits::{DecimalDigits, DecimalNumber, DigitLimits, all_digits, is_not_finite};
use super::{Amount, AmountError, DecimalMark};
use crate::value::text::trimmed;
use crate::{ReadingRules, RunSettings};

/// What stands between groups of three digits, unless it is the decimal mark.
const GROUPING: [char; 8] = ['.', ',', '\'', '’', ' ', '\u{a0}', '\u{202f}', '\u{2009}'];
/// Most digits of an exponent, leading zeros among them.
const MAX_EXPONENT_DIGITS: usize = 4;
/// What typography, word processors and keyboards of other scripts have for `-`: a hyphen, one that does not break, a dash, the minus
/// U+2212, a small and a wide one.
const MINUS: [char; 7] = ['-', '\u{2010}', '\u{2011}', '\u{2013}', '\u{2212}', '\u{fe63}', '\u{ff0d}'];

/// How the amounts of a source are written; made once for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notation {
    rules: ReadingRules,
    /// None where nothing tells it.
    mark: Option<DecimalMark>,
    /// Whether it is a number by the grammar of its source, which never groups.
    is_number: bool,
    /// Whether nothing proves the mark: then a text with another one, which reads in two ways, is none.
    is_presumed: bool,
    currencies: Vec<String>,
}

/// What a text is with either decimal mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// With a decimal point.
    pub point: Option<Amount>,
    /// With a decimal comma.
    pub comma: Option<Amount>,
}

impl Readings {
    /// With one of both.
    pub fn by(self, mark: DecimalMark) -> Option<Amount> {
        match mark {
            DecimalMark::Point => self.point,
            DecimalMark::Comma => self.comma,
        }
    }

    /// Whether both marks read it, and differently.
    pub fn is_ambiguous(self) -> bool {
        self.point.zip(self.comma).is_some_and(|(point, comma)| point != comma)
    }
}

/// Reads a text with either decimal mark.
pub fn readings(text: &str, currencies: &[String]) -> Readings {
    let read = |mark| {
        let bare = BareNumber::of(text, currencies);
        bare.and_then(|bare| bare.digits(mark, true)?.number(DigitLimits::AMOUNT)).and_then(Amount::try_from).ok()
    };
    Readings { point: read(DecimalMark::Point), comma: read(DecimalMark::Comma) }
}

impl Notation {
    /// Amounts with this mark, where it is known, and these currencies.
    pub fn new(rules: ReadingRules, mark: Option<DecimalMark>, currencies: &[String]) -> Self {
        Self { rules, mark, is_number: false, is_presumed: false, currencies: currencies.to_vec() }
    }

    /// Those of a run.
    pub fn of_run(settings: &RunSettings) -> Self {
        let is_unknown = settings.amounts.is_mark_unknown && settings.reading != ReadingRules::First;
        let mark = (!is_unknown).then_some(settings.dialect.decimal_mark);
        Self::new(settings.reading, mark, &settings.amounts.currencies)
    }

    /// Those that are numbers by the grammar of their source, as in JSON and Parquet: their mark is a point.
    pub fn for_numbers() -> Self {
        let point = Self::new(ReadingRules::Second, Some(DecimalMark::Point), &[]);
        Self { is_number: true, ..point }
    }

    /// The same where nobody set the mark, and no sample proves it.
    #[must_use]
    pub(crate) fn with_presumed_mark(self) -> Self {
        Self { is_presumed: true, ..self }
    }

    /// The mark, where it is known.
    pub fn mark(&self) -> Option<DecimalMark> {
        self.mark
    }

    /// Whether it is one of numbers by the grammar of their source.
    pub(crate) fn is_of_numbers(&self) -> bool {
        self.is_number
    }

    /// The declared currencies.
    pub(crate) fn currencies(&self) -> &[String] {
        &self.currencies
    }

    /// Whether there are other forms than the plain one.
    pub(super) fn is_lenient(&self) -> bool {
        self.rules != ReadingRules::First
    }

    /// The number that a text is, exactly.
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
                // The one that says more than that it is none.
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

/// Reads the plain form, of which the first rules drop no zeros.
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

/// A number without what stands around its digits.
#[derive(Debug, Clone, Copy)]
struct BareNumber<'a> {
    negative: bool,
    inner: &'a str,
}

impl<'a> BareNumber<'a> {
    fn of(text: &'a str, currencies: &[String]) -> Result<Self, AmountError> {
        let mut sign = None;
        // A sign before and a code behind, as in `$5.00 USD`.
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

    /// The digits, where all that there is are some.
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

/// Whether it is negative, and what is left; none where there is no sign. What stands behind a mark is none: `12,-` is a price without
/// cents.
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

/// What is left without the longest currency that it begins or ends with, where there was none yet, and on which side it stood.
fn without_currency<'a>(text: &'a str, currencies: &[String], seen: [bool; 2]) -> Option<(usize, &'a str)> {
    let rests = currencies
        .iter()
        .map(String::as_str)
        .filter(|currency| !currency.is_empty())
        .flat_map(|currency| [text.strip_prefix(currency), text.strip_suffix(currency)].into_iter().enumerate());
    let rests = rests.filter_map(|(side, rest)| (!seen[side]).then_some((side, rest?)));
    rests.min_by_key(|(_, rest)| rest.len())
}

/// The exponent behind its `e`.
fn parse_exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_bounded = (1..=MAX_EXPONENT_DIGITS).contains(&digits.len()) && all_digits(digits.as_bytes());
    is_bounded.then(|| text.parse().ok()).flatten()
}

/// Whether one to three digits, of which the first is no zero, are followed by groups of three, with one mark before each.
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

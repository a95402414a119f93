//! Messages about unreadable amounts and timestamps: the rule that applied, where it came from, and the setting that
//! would change it.

use crate::value::text::trimmed;
use crate::{
    Amount, AmountError, AmountNotation, DecidedBy, DecimalMark, DecisionSubject, ReadingRules, RejectReason,
    Rejection, RunSettings, TimestampError, TimestampFormat, amount_readings,
};

/// Most characters of a possible currency.
const MAX_CURRENCY: usize = 4;
/// The hint for an amount with too many decimals.
const ROUNDING: &str = "set `decimals = \"round\"` in a mapping to have it rounded";

/// Where the rules of amounts and timestamps came from.
#[derive(Debug, Clone)]
pub(super) struct Explainer {
    reading: ReadingRules,
    mark_by: DecidedBy,
    timestamps: TimestampFormat,
    timestamps_by: DecidedBy,
    /// Other timestamp formats, if the format was recognised.
    rivals: Vec<TimestampFormat>,
    can_be_set: bool,
}

impl Explainer {
    pub(super) fn of_run(settings: &RunSettings) -> Self {
        let timestamps_by = settings.decided_by(DecisionSubject::Timestamps);
        let is_recognised = timestamps_by == DecidedBy::Recognised && settings.reading != ReadingRules::First;
        Self {
            reading: settings.reading,
            mark_by: settings.decided_by(DecisionSubject::DecimalMark),
            timestamps: settings.timestamps.clone(),
            timestamps_by,
            rivals: if is_recognised { settings.timestamps.rivals() } else { Vec::new() },
            can_be_set: true,
        }
    }

    pub(super) fn without_settings(self) -> Self {
        Self { can_be_set: false, ..self }
    }

    /// Where a rule came from, in words.
    fn origin(&self, by: DecidedBy) -> String {
        if self.can_be_set { format!(" ({by})") } else { String::new() }
    }

    fn hint(&self, rejection: &mut Rejection, hint: &str) {
        if self.can_be_set && !hint.is_empty() {
            rejection.push_words("; ");
            rejection.push_words(hint);
        }
    }

    pub(super) fn amount(&self, field: &str, text: &str, error: AmountError, notation: &AmountNotation) -> Rejection {
        let reason = RejectReason::from(error);
        if self.reading == ReadingRules::First {
            return Rejection::of_value(field, text, reason, &error);
        }
        if notation.is_of_numbers() {
            let mut rejection = Rejection::of_value(field, text, reason, &error);
            self.hint(&mut rejection, if error == AmountError::Scale { ROUNDING } else { "" });
            return rejection;
        }
        let either = amount_readings(text, notation.currencies());
        let other = notation.mark().map(DecimalMark::other).filter(|other| either.by(*other).is_some());
        let mut rejection = match (error, notation.mark(), either.point, either.comma) {
            (AmountError::Mark, _, Some(point), Some(comma)) => ambiguous_amount(reason, field, text, point, comma),
            (AmountError::Format, Some(mark), ..) => {
                let rule = format!("is not a number with a decimal {mark}{}", self.origin(self.mark_by));
                Rejection::of_value(field, text, reason, &rule)
            }
            _ => Rejection::of_value(field, text, reason, &error),
        };
        match (error, other) {
            (AmountError::Mark, _) => self.hint(&mut rejection, "set DECIMAL_MARK to the intended one"),
            (AmountError::Format, Some(other)) => {
                self.hint(&mut rejection, &format!("set DECIMAL_MARK if it is a {other}"));
            }
            (AmountError::Format, None) => {
                self.hint_at_currencies(&mut rejection, &currency_candidates(text, notation));
            }
            (AmountError::Scale, _) => self.hint(&mut rejection, ROUNDING),
            _ => (),
        }
        rejection.other_reading = self.mark_by == DecidedBy::Recognised && other.is_some();
        rejection
    }

    /// Adds that these may be its currency.
    fn hint_at_currencies(&self, rejection: &mut Rejection, currencies: &[&str]) {
        if currencies.is_empty() || !self.can_be_set {
            return;
        }
        rejection.push_words("; set CURRENCY if ");
        for (index, currency) in currencies.iter().enumerate() {
            rejection.push_words(if index == 0 { "" } else { " and " });
            rejection.push_value(currency);
        }
        rejection.push_words(if currencies.len() == 1 { " is its currency" } else { " are its currency" });
    }

    pub(super) fn timestamp(&self, field: &str, text: &str, error: TimestampError, is_mapped: bool) -> Rejection {
        let reason = RejectReason::from(error);
        if self.reading == ReadingRules::First {
            return Rejection::of_value(field, text, reason, &error);
        }
        let rule = match error {
            TimestampError::Pattern => {
                format!("is not a date and time by {}{}", self.timestamps, self.origin(self.timestamps_by))
            }
            TimestampError::Count { .. } if is_mapped => format!("{error} (set by the mapping)"),
            TimestampError::Format | TimestampError::Count { .. } => {
                format!("{error}{}", self.origin(self.timestamps_by))
            }
            TimestampError::Zone | TimestampError::Gap => error.to_string(),
        };
        let hint = match error {
            TimestampError::Format if is_count(text) => {
                "set TIMESTAMP_FORMAT to the unit it counts, such as epoch-milliseconds, or `unit` in a mapping"
            }
            TimestampError::Count { .. } if is_mapped => "check `unit` and `since` in the mapping",
            TimestampError::Format | TimestampError::Pattern | TimestampError::Count { .. } => "set TIMESTAMP_FORMAT",
            TimestampError::Zone => "set TIME_ZONE to the zone that uses this name, or write an offset such as +01:00",
            TimestampError::Gap => "set TIME_ZONE if it is in another zone",
        };
        let mut rejection = Rejection::of_value(field, text, reason, &rule);
        self.hint(&mut rejection, hint);
        rejection.other_reading = !is_mapped && self.rivals.iter().any(|rival| rival.reads_as_evidence(text).is_some());
        rejection
    }
}

/// The message of an amount with two readings.
fn ambiguous_amount(reason: RejectReason, field: &str, text: &str, point: Amount, comma: Amount) -> Rejection {
    let mut rejection = Rejection::new(reason, format!("{field} is "));
    rejection.push_shown(&point.to_string());
    rejection.push_words(" with a decimal point and ");
    rejection.push_shown(&comma.to_string());
    rejection.push_words(" with a decimal comma: ");
    rejection.push_value(text);
    rejection
}

fn is_count(text: &str) -> bool {
    let (integer, fraction) = text.split_once('.').unwrap_or((text, "0"));
    [integer, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The currencies that would make a text an amount: a sign or code before the digits, after them, or both.
fn currency_candidates<'a>(text: &'a str, notation: &AmountNotation) -> Vec<&'a str> {
    let is_symbol = |character: char| {
        character.is_alphabetic() || matches!(character, '$' | '¢' | '£' | '¤' | '¥' | '\u{20a0}'..='\u{20cf}')
    };
    let is_digit = |character: char| character.is_ascii_digit();
    let before = text.split(is_digit).next().unwrap_or_default();
    let behind = text.rsplit(is_digit).next().filter(|behind| behind.len() + before.len() < text.len());
    let found = [before, behind.unwrap_or_default()].map(|part| trimmed(part.trim_matches(|sign| !is_symbol(sign))));
    let found: Vec<&str> = found.into_iter().filter(|found| !found.is_empty()).collect();
    let is_short = |found: &str| found.chars().count() <= MAX_CURRENCY;
    // These mark debit and credit.
    let is_side =
        |found: &str| ["C", "D", "H", "S", "CR", "DR", "DB"].iter().any(|side| found.eq_ignore_ascii_case(side));
    let owned: Vec<String> = found.iter().map(ToString::to_string).collect();
    let read = |mark| amount_readings(text, &owned).by(mark).is_some();
    let is_read = notation.mark().map_or_else(|| read(DecimalMark::Point) || read(DecimalMark::Comma), read);
    if is_read && found.iter().all(|found| is_short(found) && !is_side(found)) { found } else { Vec::new() }
}

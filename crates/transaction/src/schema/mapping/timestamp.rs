//! The source of the timestamp: a date and time, or a count of units since some instant.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::DateTime;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Template;
use super::text::{CommonForms, NameOrTable, TextFrom};
use crate::value::amount::{AmountNotation, DecimalDigits, DecimalNumber, DigitLimits};
use crate::value::timestamp::{ALL_YEARS, LIKELY_YEARS};
use crate::{DecimalMark, ReadingRules, TimeZone, Timestamp, TimestampError};

/// Most digits before the decimal mark of a count, and most decimals that are read.
const MAX_DIGITS: usize = 18;
/// Most digits before the mark by the second rules, as nanoseconds have nineteen.
const MAX_INTEGER_DIGITS: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOrTable<TimestampTable>", into = "NameOrTable<TimestampTable>")]
pub(crate) struct TimestampFrom {
    pub(crate) text: TextFrom,
    /// For a count; without it the text is a date and time.
    pub(crate) time_count: Option<TimeCount>,
}

/// The unit of a count, and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeCount {
    unit: TimeUnit,
    since: CountOrigin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountOrigin {
    /// The start of 1970 in UTC.
    Epoch,
    /// Day 0 of spreadsheets, in any zone.
    Spreadsheets,
    At(Timestamp),
}

impl CountOrigin {
    fn micros(self) -> i64 {
        match self {
            Self::Epoch => 0,
            Self::Spreadsheets => -25_569 * 86_400_000_000,
            Self::At(since) => since.as_datetime().timestamp_micros(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TimeUnit {
    Days,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl TimeUnit {
    /// Microseconds, and the number of units they make.
    fn micros(self) -> (i128, i128) {
        match self {
            Self::Days => (86_400_000_000, 1),
            Self::Hours => (3_600_000_000, 1),
            Self::Minutes => (60_000_000, 1),
            Self::Seconds => (1_000_000, 1),
            Self::Milliseconds => (1_000, 1),
            Self::Microseconds => (1, 1),
            Self::Nanoseconds => (1, 1_000),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Days => "days",
            Self::Hours => "hours",
            Self::Minutes => "minutes",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }
}

impl TimeCount {
    /// Since 1970.
    pub(crate) const SECONDS: Self = Self { unit: TimeUnit::Seconds, since: CountOrigin::Epoch };
    pub(crate) const MILLISECONDS: Self = Self { unit: TimeUnit::Milliseconds, since: CountOrigin::Epoch };
    pub(crate) const MICROSECONDS: Self = Self { unit: TimeUnit::Microseconds, since: CountOrigin::Epoch };
    pub(crate) const NANOSECONDS: Self = Self { unit: TimeUnit::Nanoseconds, since: CountOrigin::Epoch };
    /// Since 30 December 1899, so that 1 March 1900 is day 61, as in every spreadsheet.
    pub(crate) const SERIAL_DAYS: Self = Self { unit: TimeUnit::Days, since: CountOrigin::Spreadsheets };

    /// The instant of a count, which may have decimals after a point or comma; finer than microseconds is truncated.
    pub(crate) fn read(self, text: &str, rules: ReadingRules) -> Result<Timestamp, TimestampError> {
        let micros = Self::count(text, rules).and_then(|count| self.micros(count, false));
        let instant = micros.and_then(DateTime::from_timestamp_micros);
        instant.and_then(|instant| Timestamp::within(&years(rules), instant)).ok_or_else(|| self.error(rules))
    }

    /// The microseconds since 1970 of a count, rounded half up: day fractions rarely end in decimal.
    pub(crate) fn nearest_micros(self, text: &str) -> Option<i64> {
        self.micros(Self::count(text, ReadingRules::Second)?, true)
    }

    /// The error for a text that is not a count within the allowed years.
    pub(crate) fn error(self, rules: ReadingRules) -> TimestampError {
        let (first, last) = years(rules).into_inner();
        TimestampError::Count { unit: self.unit.name(), first, last }
    }

    /// Counts are written by programs: a point is the decimal mark. A comma may be either a mark or a separator; if
    /// both readings are possible, the text is rejected.
    fn count(text: &str, rules: ReadingRules) -> Option<DecimalNumber> {
        let limits = DigitLimits { integer: MAX_DIGITS, scale: MAX_DIGITS };
        if rules == ReadingRules::First {
            let mark = if text.contains(',') { DecimalMark::Comma } else { DecimalMark::Point };
            let digits = DecimalDigits::split(text.as_bytes(), mark).ok()?;
            let fraction = &digits.fraction[..digits.fraction.len().min(MAX_DIGITS)];
            return DecimalDigits { fraction, ..digits }.number(limits).ok();
        }
        let limits = DigitLimits { integer: MAX_INTEGER_DIGITS, ..limits };
        let notation =
            if text.contains(',') { AmountNotation::new(rules, None, &[]) } else { AmountNotation::for_numbers() };
        notation.number(text, limits).ok()
    }

    fn micros(self, DecimalNumber { negative, units, scale }: DecimalNumber, rounds: bool) -> Option<i64> {
        let count = if negative { -units } else { units };
        let (micros, units) = self.unit.micros();
        let (elapsed, one) = (count.checked_mul(micros)?, 10_i128.checked_pow(u32::try_from(scale).ok()?)? * units);
        let elapsed = if rounds { elapsed.checked_add(one / 2)? } else { elapsed };
        i64::try_from(elapsed.div_euclid(one).checked_add(self.since.micros().into())?).ok()
    }
}

/// The allowed years of counts.
fn years(rules: ReadingRules) -> RangeInclusive<i32> {
    match rules {
        ReadingRules::First => ALL_YEARS,
        ReadingRules::Second => LIKELY_YEARS,
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimestampTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<TimeUnit>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "instant")]
    since: Option<Timestamp>,
}

/// A text, or TOML's own date and time, which arrives as a table with one text.
fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    struct InstantVisitor;

    impl<'de> Visitor<'de> for InstantVisitor {
        type Value = Timestamp;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a date and time such as 2023-01-01T00:00:00Z")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
            Timestamp::parse(text.as_bytes(), TimeZone::UTC).map_err(|error| E::custom(format_args!("`since` {error}")))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Timestamp, A::Error> {
            match table.next_entry::<String, String>()? {
                Some((_, text)) => self.visit_str(&text),
                None => Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self)),
            }
        }
    }

    deserializer.deserialize_any(InstantVisitor).map(Some)
}

impl TryFrom<NameOrTable<TimestampTable>> for TimestampFrom {
    type Error = String;

    fn try_from(written: NameOrTable<TimestampTable>) -> Result<Self, String> {
        let TimestampTable { constant, template, column, path, unit, since } = match written {
            NameOrTable::Name(column) => TimestampTable { column: Some(column), ..TimestampTable::default() },
            NameOrTable::Table(table) => table,
        };
        let text = TextFrom::try_from(CommonForms { constant, template, column, path })?;
        match (unit, since) {
            (Some(unit), since) => {
                let since = since.map_or(CountOrigin::Epoch, CountOrigin::At);
                Ok(Self { text, time_count: Some(TimeCount { unit, since }) })
            }
            (None, None) => Ok(Self { text, time_count: None }),
            (None, Some(_)) => Err("`since` needs a `unit`".to_owned()),
        }
    }
}

impl From<TimestampFrom> for NameOrTable<TimestampTable> {
    fn from(TimestampFrom { text, time_count }: TimestampFrom) -> Self {
        let unit = time_count.map(|time_count| time_count.unit);
        let since = time_count
            .and_then(|time_count| if let CountOrigin::At(since) = time_count.since { Some(since) } else { None });
        match text {
            TextFrom::Column(column) if time_count.is_none() => Self::Name(column),
            text => {
                let CommonForms { constant, template, column, path } = text.into();
                Self::Table(TimestampTable { constant, template, column, path, unit, since })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_count(json: &str) -> TimeCount {
        serde_json::from_str::<TimestampFrom>(json).unwrap().time_count.unwrap()
    }

    #[test]
    fn counts_from_1970_or_from_any_instant() {
        let since = r#"{"column":"t","unit":"hours","since":"2023-01-01T00:00:00+01:00"}"#;
        let cases = [
            (r#"{"column":"t","unit":"seconds"}"#, "1325376018", "2012-01-01T00:00:18Z"),
            (r#"{"column":"t","unit":"seconds"}"#, "1325376018.25", "2012-01-01T00:00:18.250000Z"),
            (r#"{"column":"t","unit":"seconds"}"#, "1325376018,2500009", "2012-01-01T00:00:18.250000Z"),
            (r#"{"column":"t","unit":"seconds"}"#, "-0.5", "1969-12-31T23:59:59.500000Z"),
            (r#"{"column":"t","unit":"milliseconds"}"#, "1325376018001", "2012-01-01T00:00:18.001000Z"),
            (r#"{"column":"t","unit":"microseconds"}"#, "1325376018000001", "2012-01-01T00:00:18.000001Z"),
            (since, "0", "2022-12-31T23:00:00Z"),
            (since, "25.5", "2023-01-02T00:30:00Z"),
            (r#"{"column":"t","unit":"days","since":"2023-01-01 00:00:00"}"#, "31", "2023-02-01T00:00:00Z"),
            (r#"{"column":"t","unit":"minutes","since":"2023-01-01 00:00:00"}"#, "-1", "2022-12-31T23:59:00Z"),
        ];
        for (from, text, expected) in cases {
            assert_eq!(
                time_count(from).read(text, ReadingRules::Second).unwrap().to_string(),
                expected,
                "{from} {text}"
            );
        }
    }

    #[test]
    fn invalid_counts_are_rejected() {
        let seconds = time_count(r#"{"column":"t","unit":"seconds"}"#);
        let error = |first, last| TimestampError::Count { unit: "seconds", first, last };
        for text in ["", "x", "2012-01-01", "99999999999999999999", "1325376018000001", "inf", "1e99"] {
            assert_eq!(seconds.read(text, ReadingRules::First), Err(error(0, 9999)), "{text}");
            assert_eq!(seconds.read(text, ReadingRules::Second), Err(error(1900, 2100)), "{text}");
        }
        // Milliseconds taken for seconds: the year 43969. Seconds taken for hours.
        for text in ["1325376018000", "132537601800", "-2208988801", "4133980800"] {
            assert_eq!(seconds.read(text, ReadingRules::Second), Err(error(1900, 2100)), "{text}");
        }
        assert_eq!(seconds.read("132537601800", ReadingRules::First).unwrap().to_string(), "6169-12-13T00:30:00Z");
        // The first rules take a comma for the decimal mark, whatever follows.
        assert_eq!(seconds.read("1,325", ReadingRules::First).unwrap().to_string(), "1970-01-01T00:00:01.325000Z");
        assert_eq!(seconds.read("1,325", ReadingRules::Second), Err(error(1900, 2100)));
        assert_eq!(seconds.read("1,325,376,018", ReadingRules::First), Err(error(0, 9999)));
        assert_eq!(seconds.read("1.325376018E9", ReadingRules::First), Err(error(0, 9999)));
        assert_eq!(seconds.read("1.325376018E9", ReadingRules::Second).unwrap().to_string(), "2012-01-01T00:00:18Z");
        let error = seconds.read("1325376018000", ReadingRules::First).unwrap_err().to_string();
        assert_eq!(error, "is not a number of seconds that gives a year from 0 to 9999");
    }
}

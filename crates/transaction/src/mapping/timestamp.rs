//! Where the timestamp comes from: a text that is a date and time, or a count of units since some instant.

use std::fmt;

use chrono::DateTime;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Template;
use super::text::{NameOr, TextFrom, Written};
use crate::amount::Digits;
use crate::{DecimalMark, TimeZone, Timestamp, TimestampError};

/// Most digits before the decimal mark of a count, and decimals that are looked at.
const MAX_DIGITS: usize = 18;

/// Where a timestamp comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOr<TimestampTable>", into = "NameOr<TimestampTable>")]
pub(crate) struct TimestampFrom {
    pub(crate) text: TextFrom,
    /// For a count; without it the text is a date and time.
    pub(crate) clock: Option<Clock>,
}

/// What a count counts, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    unit: TimeUnit,
    /// Else since 1970.
    since: Option<Timestamp>,
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
}

impl TimeUnit {
    fn micros(self) -> i128 {
        match self {
            Self::Days => 86_400_000_000,
            Self::Hours => 3_600_000_000,
            Self::Minutes => 60_000_000,
            Self::Seconds => 1_000_000,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1,
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
        }
    }
}

impl Clock {
    /// The instant of a count, which may have decimals after a point or a comma; what is finer than a microsecond is cut off.
    pub(crate) fn read(self, text: &[u8]) -> Result<Timestamp, TimestampError> {
        self.instant(text).ok_or(TimestampError::Count(self.unit.name()))
    }

    fn instant(self, text: &[u8]) -> Option<Timestamp> {
        let mark = if text.contains(&b',') { DecimalMark::Comma } else { DecimalMark::Point };
        let digits = Digits::split(text, mark).ok()?;
        let Digits { negative, fraction, .. } = digits;
        let integer = digits.significant();
        if integer.len() > MAX_DIGITS {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(MAX_DIGITS)];
        let count = integer.iter().chain(fraction).fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let count = if negative { -count } else { count };
        let elapsed =
            count.checked_mul(self.unit.micros())?.div_euclid(10_i128.pow(u32::try_from(fraction.len()).ok()?));
        let since = self.since.map_or(0, |since| since.as_datetime().timestamp_micros());
        let micros = i64::try_from(elapsed.checked_add(since.into())?).ok()?;
        Timestamp::within_years(DateTime::from_timestamp_micros(micros)?)
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

/// A text, or TOML's own form of a date and time, which comes as a table of one text.
fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    struct Written;

    impl<'de> Visitor<'de> for Written {
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

    deserializer.deserialize_any(Written).map(Some)
}

impl TryFrom<NameOr<TimestampTable>> for TimestampFrom {
    type Error = String;

    fn try_from(written: NameOr<TimestampTable>) -> Result<Self, String> {
        let TimestampTable { constant, template, column, path, unit, since } = match written {
            NameOr::Name(column) => TimestampTable { column: Some(column), ..TimestampTable::default() },
            NameOr::Table(table) => table,
        };
        let text = TextFrom::try_from(Written { constant, template, column, path })?;
        match (unit, since) {
            (Some(unit), since) => Ok(Self { text, clock: Some(Clock { unit, since }) }),
            (None, None) => Ok(Self { text, clock: None }),
            (None, Some(_)) => Err("`since` needs a `unit`".to_owned()),
        }
    }
}

impl From<TimestampFrom> for NameOr<TimestampTable> {
    fn from(TimestampFrom { text, clock }: TimestampFrom) -> Self {
        let (unit, since) = (clock.map(|clock| clock.unit), clock.and_then(|clock| clock.since));
        match text {
            TextFrom::Column(column) if clock.is_none() => Self::Name(column),
            text => {
                let Written { constant, template, column, path } = text.into();
                Self::Table(TimestampTable { constant, template, column, path, unit, since })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(json: &str) -> Clock {
        serde_json::from_str::<TimestampFrom>(json).unwrap().clock.unwrap()
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
            assert_eq!(clock(from).read(text.as_bytes()).unwrap().to_string(), expected, "{from} {text}");
        }
    }

    #[test]
    fn a_count_that_is_none_is_refused() {
        let seconds = clock(r#"{"column":"t","unit":"seconds"}"#);
        for text in ["", "x", "1e9", "2012-01-01", "1,325,376,018", "99999999999999999999", "1325376018000001", "inf"] {
            assert_eq!(seconds.read(text.as_bytes()), Err(TimestampError::Count("seconds")), "{text}");
        }
        let error = seconds.read(b"1325376018000").unwrap_err().to_string();
        assert_eq!(error, "is not a number of seconds that gives a year from 0 to 9999");
    }
}

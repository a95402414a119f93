//! How a source writes its timestamps: declared or recognised, and frozen with the run.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{LIKELY_YEARS, ParsedTimestamp, TimestampPattern, zone};
use crate::schema::mapping::TimeCount;
use crate::value::text::trimmed;
use crate::{ReadingRules, TimeZone, Timestamp, TimestampError};

/// How a source writes its timestamps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimestampFormat {
    /// `YYYY-MM-DD HH:MM:SS` and ISO 8601, as [`Timestamp::parse`] reads them, optionally with a zone name.
    #[default]
    Iso,
    /// A pattern.
    Pattern(TimestampPattern),
    /// Seconds since 1970 in UTC, optionally with a fraction.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// Microseconds since 1970.
    EpochMicroseconds,
    /// Nanoseconds since 1970.
    EpochNanoseconds,
    /// Days since 30 December 1899 with a fraction, as spreadsheets count them: a local time, to the nearest microsecond.
    SerialDays,
}

const NAMED: [(&str, TimestampFormat); 6] = [
    ("iso", TimestampFormat::Iso),
    ("epoch-seconds", TimestampFormat::EpochSeconds),
    ("epoch-milliseconds", TimestampFormat::EpochMilliseconds),
    ("epoch-microseconds", TimestampFormat::EpochMicroseconds),
    ("epoch-nanoseconds", TimestampFormat::EpochNanoseconds),
    ("serial-days", TimestampFormat::SerialDays),
];

/// The formats that count since 1970.
const EPOCHS: [TimestampFormat; 4] = [
    TimestampFormat::EpochSeconds,
    TimestampFormat::EpochMilliseconds,
    TimestampFormat::EpochMicroseconds,
    TimestampFormat::EpochNanoseconds,
];

impl TimestampFormat {
    /// Parses a timestamp by one version of the rules.
    pub fn parse(&self, text: &str, zone: TimeZone, rules: ReadingRules) -> Result<Timestamp, TimestampError> {
        self.read(text, zone, rules).map(|moment| moment.timestamp)
    }

    /// The same, with what is ambiguous about it.
    pub(crate) fn read(
        &self,
        text: &str,
        zone: TimeZone,
        rules: ReadingRules,
    ) -> Result<ParsedTimestamp, TimestampError> {
        match (self, rules) {
            (Self::Iso, ReadingRules::First) => {
                Timestamp::parse(text.as_bytes(), zone).map(ParsedTimestamp::unambiguous)
            }
            (Self::Iso, ReadingRules::Second) => Timestamp::read(text, zone),
            (Self::Pattern(pattern), ReadingRules::First) => {
                pattern.parse_first(text, zone).map(ParsedTimestamp::unambiguous)
            }
            (Self::Pattern(pattern), ReadingRules::Second) => pattern.read(text, zone),
            (Self::SerialDays, _) => serial_days(text, zone),
            (Self::EpochSeconds, _) => {
                TimeCount::SECONDS.read(text, ReadingRules::Second).map(ParsedTimestamp::unambiguous)
            }
            (Self::EpochMilliseconds, _) => {
                TimeCount::MILLISECONDS.read(text, ReadingRules::Second).map(ParsedTimestamp::unambiguous)
            }
            (Self::EpochMicroseconds, _) => {
                TimeCount::MICROSECONDS.read(text, ReadingRules::Second).map(ParsedTimestamp::unambiguous)
            }
            (Self::EpochNanoseconds, _) => {
                TimeCount::NANOSECONDS.read(text, ReadingRules::Second).map(ParsedTimestamp::unambiguous)
            }
        }
    }

    /// The timestamp, if the text proves this format: a date within the plausible years, as any digits might match some
    /// pattern. A zone name that only the run's own zone could explain is accepted.
    pub fn reads_as_evidence(&self, text: &str) -> Option<Timestamp> {
        let text = trimmed(text);
        let read = match (self, self.parse(text, TimeZone::UTC, ReadingRules::Second)) {
            (Self::Iso, Err(TimestampError::Zone)) => {
                let (local, _) =
                    text.rsplit_once(char::is_whitespace).filter(|(_, name)| zone::could_be_a_name(name))?;
                self.parse(local, TimeZone::UTC, ReadingRules::Second)
            }
            (Self::Pattern(pattern), Err(TimestampError::Zone)) => pattern.read_without_zone(text),
            (_, read) => read,
        };
        read.ok().filter(|timestamp| LIKELY_YEARS.contains(&timestamp.as_datetime().year()))
    }

    /// Other formats that the same texts might have: day, month and year in another order, or a year of two digits or
    /// four; or a count of another unit.
    pub fn rivals(&self) -> Vec<Self> {
        match self {
            Self::Pattern(pattern) => pattern.rivals().into_iter().map(Self::Pattern).collect(),
            Self::Iso | Self::SerialDays => Vec::new(),
            count => EPOCHS.into_iter().filter(|other| other != count).collect(),
        }
    }

    pub(crate) fn is_iso(&self) -> bool {
        *self == Self::Iso
    }
}

fn serial_days(text: &str, zone: TimeZone) -> Result<ParsedTimestamp, TimestampError> {
    let local = TimeCount::SERIAL_DAYS.nearest_micros(text).and_then(DateTime::from_timestamp_micros);
    let local = local.ok_or_else(|| TimeCount::SERIAL_DAYS.error(ReadingRules::Second))?;
    if !LIKELY_YEARS.contains(&local.year()) {
        return Err(TimeCount::SERIAL_DAYS.error(ReadingRules::Second));
    }
    Timestamp::from_local(local.naive_utc(), None, zone)
}

/// Parses `iso`, the name of a count, or a pattern.
impl FromStr for TimestampFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match named(text) {
            Some(format) => Ok(format),
            None => TimestampPattern::declared(text).map(Self::Pattern),
        }
    }
}

fn named(text: &str) -> Option<TimestampFormat> {
    NAMED.into_iter().find_map(|(name, format)| name.eq_ignore_ascii_case(text).then_some(format))
}

impl fmt::Display for TimestampFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => formatter.write_str(pattern.as_str()),
            named => formatter.write_str(NAMED.iter().find(|(_, format)| format == named).map_or("", |(name, _)| name)),
        }
    }
}

impl Serialize for TimestampFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Accepts whatever was allowed when the run started.
impl<'de> Deserialize<'de> for TimestampFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match named(&text) {
            Some(format) => Ok(format),
            None => TimestampPattern::frozen(&text).map(Self::Pattern).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests;

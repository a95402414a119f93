//! Timestamps: the forms a row may use, and the one form that is stored and sent.
//!
//! `format` holds the forms a source may be declared or recognised to use, `pattern` those made of `%d`, `%m` and the
//! like, and `zone` the meaning of time zone names.

mod format;
mod pattern;
mod zone;

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use format::TimestampFormat;
pub use pattern::TimestampPattern;
pub use zone::TimeZone;

/// The years ISO 8601 writes with four digits.
pub(crate) const ALL_YEARS: RangeInclusive<i32> = 0..=9999;
/// Plausible years of transactions: a count or a pattern that leads outside them is misread.
pub(crate) const LIKELY_YEARS: RangeInclusive<i32> = 1900..=2100;

/// An instant in UTC with microseconds, PostgreSQL's resolution; finer fractions are truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

/// Why a text is not a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not `YYYY-MM-DD HH:MM:SS` or ISO 8601, or no such day or time.
    #[error("is not a date and time like 2023-11-28 06:35:12 or 2023-11-28T06:35:12Z")]
    Format,
    /// Not what the declared or recognised pattern covers, or no such day or time.
    #[error("does not match the source's TIMESTAMP_FORMAT")]
    Pattern,
    /// A time zone name that is ambiguous or unknown.
    #[error("names an ambiguous or unknown time zone")]
    Zone,
    /// A local time that its zone's clock change skips.
    #[error("does not exist in its time zone: the clocks are set forward over it")]
    Gap,
    /// Not a count of units since some instant, or one that leads outside the allowed years.
    #[error("is not a number of {unit} that gives a year from {first} to {last}")]
    Count {
        /// What is counted.
        unit: &'static str,
        /// The first allowed year.
        first: i32,
        /// The last allowed year.
        last: i32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParsedTimestamp {
    pub(crate) timestamp: Timestamp,
    /// Whether it is a local time that occurs twice when the clocks are set back; the earlier instant is taken.
    pub(crate) is_ambiguous_hour: bool,
}

impl ParsedTimestamp {
    /// A timestamp without doubt.
    pub(crate) fn unambiguous(timestamp: Timestamp) -> Self {
        Self { timestamp, is_ambiguous_hour: false }
    }
}

impl Timestamp {
    /// Parses `YYYY-MM-DD HH:MM:SS` or `YYYY-MM-DDTHH:MM:SS`, an optional fraction, and an optional `Z`, `±HH:MM`, `±HHMM` or
    /// `±HH`. Without an offset the time is in `zone`; of a local time that occurs twice, the earlier instant is taken.
    pub fn parse(text: &[u8], zone: TimeZone) -> Result<Self, TimestampError> {
        let (local, rest) = parse_local(text).ok_or(TimestampError::Format)?;
        let offset = parse_offset(rest).ok_or(TimestampError::Format)?;
        Self::from_local(local, offset, zone).map(|moment| moment.timestamp)
    }

    /// Parses what [`Self::parse`] does, also without seconds, and also followed by an offset, a zone name, or both, as
    /// in `+01:00[Europe/Paris]` or `+0100 CET`.
    pub(crate) fn read(text: &str, zone: TimeZone) -> Result<ParsedTimestamp, TimestampError> {
        let found = parse_local(text.as_bytes()).or_else(|| parse_minutes(text.as_bytes()));
        let (local, rest) = found.ok_or(TimestampError::Format)?;
        if let Some(offset) = parse_offset(rest) {
            return Self::from_local(local, offset, zone);
        }
        let behind = text.get(text.len() - rest.len()..).unwrap_or_default().trim_start();
        let (written, name) = offset_and_name(behind).ok_or(TimestampError::Format)?;
        if name.is_some_and(|name| !zone::looks_like_a_name(name)) {
            return Err(TimestampError::Format);
        }
        let (offset, zone) = zone.resolve(local, written, name)?;
        Self::from_local(local, offset, zone)
    }

    /// From a local time at an offset in seconds east of UTC, or else in a zone.
    pub(crate) fn from_local(
        local: NaiveDateTime,
        seconds_east: Option<i32>,
        zone: TimeZone,
    ) -> Result<ParsedTimestamp, TimestampError> {
        let (seconds_east, is_ambiguous_hour) = match seconds_east {
            Some(seconds) => (seconds, false),
            None => zone.offset(local).ok_or(TimestampError::Gap)?,
        };
        let utc = match seconds_east {
            // Nearly every row.
            0 => local,
            seconds => local
                .checked_sub_signed(chrono::TimeDelta::seconds(i64::from(seconds)))
                .ok_or(TimestampError::Format)?,
        };
        // An offset can carry the last hours of 9999 into a five-digit year.
        let timestamp = Self::within(&ALL_YEARS, utc.and_utc()).ok_or(TimestampError::Format)?;
        Ok(ParsedTimestamp { timestamp, is_ambiguous_hour })
    }

    /// The instant, if it is within these years.
    pub(crate) fn within(years: &RangeInclusive<i32>, utc: DateTime<Utc>) -> Option<Self> {
        years.contains(&utc.naive_utc().year()).then_some(Self::from(utc))
    }

    /// As it is displayed.
    pub(crate) fn text(self) -> TimestampText {
        TimestampText::of(self.0)
    }

    /// The instant, for a database driver.
    pub fn as_datetime(self) -> DateTime<Utc> {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Truncates the instant to microseconds.
    fn from(instant: DateTime<Utc>) -> Self {
        let nanos = instant.timestamp_subsec_nanos();
        let is_whole = nanos.is_multiple_of(1_000);
        Self(if is_whole { instant } else { instant.with_nanosecond(nanos / 1_000 * 1_000).unwrap_or(instant) })
    }
}

/// The local date and time at the start of the text, and the rest.
fn parse_local(text: &[u8]) -> Option<(NaiveDateTime, &[u8])> {
    let (head, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| head[*at] != *byte) || !matches!(head[10], b' ' | b'T' | b't') {
        return None;
    }
    let date =
        NaiveDate::from_ymd_opt(i32::try_from(number(&head[..4])?).ok()?, number(&head[5..7])?, number(&head[8..10])?)?;
    let (nanos, rest) = match rest {
        [b'.' | b',', fraction @ ..] => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (digits, rest) = fraction.split_at(length);
            let micros =
                digits.iter().chain(b"000000").take(6).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            if !(1..=9).contains(&length) {
                return None;
            }
            (micros * 1_000, rest)
        }
        _ => (0, rest),
    };
    let time =
        NaiveTime::from_hms_nano_opt(number(&head[11..13])?, number(&head[14..16])?, number(&head[17..19])?, nanos)?;
    Some((date.and_time(time), rest))
}

/// The same for a time without seconds, as Java writes it if they are zero. `10:30-11:30` after a blank may be a time
/// span, so a `-` there is not an offset.
fn parse_minutes(text: &[u8]) -> Option<(NaiveDateTime, &[u8])> {
    let (head, rest) = text.split_at_checked(16)?;
    let is_more_of_a_time = rest.first().is_some_and(|byte| matches!(byte, b':' | b'.' | b',' | b'0'..=b'9'));
    if is_more_of_a_time || head[10] == b' ' && rest.first() == Some(&b'-') {
        return None;
    }
    let mut whole = *b"0000-00-00T00:00:00";
    whole[..16].copy_from_slice(head);
    let (local, _) = parse_local(&whole)?;
    Some((local, rest))
}

/// Seconds east of UTC; `Some(None)` if the text is empty, `None` if it is not an offset.
#[expect(clippy::option_option, reason = "absent and wrong are different results")]
fn parse_offset(text: &[u8]) -> Option<Option<i32>> {
    let (sign, digits) = match text {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(0)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (number(digits)?, 0),
        4 => (number(&digits[..2])?, number(&digits[2..])?),
        5 if digits[2] == b':' => (number(&digits[..2])?, number(&digits[3..])?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 {
        return None;
    }
    i32::try_from(hours * 3600 + minutes * 60).ok().map(|seconds| Some(sign * seconds))
}

/// The offset and the zone name after a time: either, or both as in `+01:00[Europe/Paris]` and `+0100 CET`.
fn offset_and_name(text: &str) -> Option<(Option<i32>, Option<&str>)> {
    if let Some((written, name)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        return Some((parse_offset(written.as_bytes())?, Some(name)));
    }
    let (first, second) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let name = Some(second.trim_start()).filter(|name| !name.is_empty());
    Some(parse_offset(first.as_bytes()).map_or((None, Some(text)), |offset| (offset, name)))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// `2023-11-28T06:35:12Z`, with a fraction of six digits if it is not zero.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(TimestampText::of(self.0).as_str())
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`, written digit by digit: every row needs one, and formatting six numbers is slow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimestampText {
    bytes: [u8; 27],
    length: usize,
}

impl TimestampText {
    fn of(instant: DateTime<Utc>) -> Self {
        let instant = instant.naive_utc();
        let mut text = Self { bytes: *b"0000-00-00T00:00:00.000000Z", length: 27 };
        // A `Timestamp` has a four-digit year.
        text.write_digits(0, 4, instant.year().unsigned_abs());
        text.write_digits(5, 2, instant.month());
        text.write_digits(8, 2, instant.day());
        text.write_digits(11, 2, instant.hour());
        text.write_digits(14, 2, instant.minute());
        text.write_digits(17, 2, instant.second());
        match instant.nanosecond() / 1_000 {
            0 => {
                text.bytes[19] = b'Z';
                text.length = 20;
            }
            micros => text.write_digits(20, 6, micros),
        }
        text
    }

    fn write_digits(&mut self, at: usize, digits: usize, mut number: u32) {
        for place in self.bytes[at..at + digits].iter_mut().rev() {
            *place += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn as_str(&self) -> &str {
        // Only ASCII digits and signs.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(TimestampText::of(self.0).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(text.as_bytes(), TimeZone::UTC)
            .map_err(|error| serde::de::Error::custom(format_args!("timestamp {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_documented_form() {
        let paris: TimeZone = "Europe/Paris".parse().unwrap();
        let cases = [
            ("2023-11-28 06:35:12", TimeZone::UTC, "2023-11-28T06:35:12Z"),
            ("2023-11-28T06:35:12", TimeZone::UTC, "2023-11-28T06:35:12Z"),
            ("2023-11-28T06:35:12Z", paris, "2023-11-28T06:35:12Z"),
            ("2023-11-28T06:35:12.5Z", paris, "2023-11-28T06:35:12.500000Z"),
            ("2023-11-28T06:35:12.1234567+01:00", paris, "2023-11-28T05:35:12.123456Z"),
            ("2023-11-28T06:35:12-0530", TimeZone::UTC, "2023-11-28T12:05:12Z"),
            ("2023-11-28 06:35:12+02", TimeZone::UTC, "2023-11-28T04:35:12Z"),
            ("2023-11-28 06:35:12", paris, "2023-11-28T05:35:12Z"),
            ("2023-07-01 06:35:12", paris, "2023-07-01T04:35:12Z"),
            // Occurs twice, at the end of summer time: the earlier instant.
            ("2023-10-29 02:30:00", paris, "2023-10-29T00:30:00Z"),
        ];
        for (text, zone, expected) in cases {
            assert_eq!(Timestamp::parse(text.as_bytes(), zone).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_timestamps_are_rejected() {
        let cases = [
            "",
            "2023-11-28",
            "28/11/2023 06:35",
            "2023-02-30 00:00:00",
            "2023-11-28 24:00:00",
            "2023-11-28 06:35:12.",
            "2023-11-28 06:35:12 Z",
            "2023-11-28T06:35:12+1",
            "2023-11-28T06:35:12+19:00",
            "2023-11-28T06:35:12.1234567890Z",
            "9999-12-31T23:59:59-05:00",
        ];
        for text in cases {
            assert_eq!(Timestamp::parse(text.as_bytes(), TimeZone::UTC), Err(TimestampError::Format), "{text}");
        }
        let paris = "Europe/Paris".parse().unwrap();
        assert_eq!(Timestamp::parse(b"2023-03-26 02:30:00", paris), Err(TimestampError::Gap));
    }

    proptest! {
        #[test]
        fn its_own_text_reads_back(micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
            let stamp = Timestamp::from(DateTime::from_timestamp_micros(micros).unwrap());
            prop_assert_eq!(Timestamp::parse(stamp.to_string().as_bytes(), TimeZone::UTC).unwrap(), stamp);
        }

        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = Timestamp::parse(&text, TimeZone::UTC);
        }
    }
}

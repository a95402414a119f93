//! Dates as other systems write them: a pattern such as `%d/%m/%Y %H:%M`, declared or recognised, frozen with the run.

use std::fmt;
use std::str::FromStr;

use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems};
use chrono::{Datelike as _, NaiveDateTime, NaiveTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{TimeZone, Timestamp, TimestampError};

/// The first year with four digits.
const FIRST_YEAR: i32 = 1000;

/// How a source writes its timestamps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimestampFormat {
    /// `YYYY-MM-DD HH:MM:SS` and ISO 8601, as [`Timestamp::parse`] reads them.
    #[default]
    Iso,
    /// A pattern.
    Pattern(Pattern),
}

/// A pattern of `%d`, `%m`, `%Y` and the like, as `strftime` has them. It has a whole date; a time that it lacks is midnight,
/// and an offset that it lacks is that of the run's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    items: Vec<Item<'static>>,
}

impl TimestampFormat {
    /// Reads a timestamp.
    pub fn parse(&self, text: &str, zone: TimeZone) -> Result<Timestamp, TimestampError> {
        match self {
            Self::Iso => Timestamp::parse(text.as_bytes(), zone),
            Self::Pattern(pattern) => pattern.parse(text, zone),
        }
    }

    pub(crate) fn is_iso(&self) -> bool {
        *self == Self::Iso
    }
}

impl Pattern {
    fn parse(&self, text: &str, zone: TimeZone) -> Result<Timestamp, TimestampError> {
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text, self.items.iter()).map_err(|_| TimestampError::Pattern)?;
        let date = parsed.to_naive_date().map_err(|_| TimestampError::Pattern)?;
        // `%Y` reads two digits as well, which would be a year of the Romans.
        if date.year() < FIRST_YEAR {
            return Err(TimestampError::Pattern);
        }
        // Without a time it is midnight; one that is there and impossible is none.
        let time = match parsed.to_naive_time() {
            Ok(time) => time,
            Err(_) if self.has_time() => return Err(TimestampError::Pattern),
            Err(_) => NaiveTime::MIN,
        };
        let local: NaiveDateTime = date.and_time(time);
        Timestamp::from_local(local, parsed.offset(), zone).map_err(|error| match error {
            TimestampError::Format => TimestampError::Pattern,
            other => other,
        })
    }

    fn has_time(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Numeric(Numeric::Hour | Numeric::Hour12, _)))
    }
}

/// Reads `iso` or a pattern.
impl FromStr for TimestampFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("iso") {
            return Ok(Self::Iso);
        }
        let unreadable = || format!("`{text}` is neither iso nor a pattern such as %d/%m/%Y %H:%M");
        let items = StrftimeItems::new(text).parse_to_owned().map_err(|_| unreadable())?;
        let has = |wanted: &[Numeric]| {
            items.iter().any(|item| matches!(item, Item::Numeric(numeric, _) if wanted.contains(numeric)))
        };
        let has_name =
            |wanted: &[Fixed]| items.iter().any(|item| matches!(item, Item::Fixed(fixed) if wanted.contains(fixed)));
        let has_month = has(&[Numeric::Month]) || has_name(&[Fixed::ShortMonthName, Fixed::LongMonthName]);
        let has_date = has(&[Numeric::Day]) && has_month && has(&[Numeric::Year, Numeric::YearMod100]);
        if !has_date {
            return Err(format!("{}: it needs a day (%d), a month (%m or %b) and a year (%Y or %y)", unreadable()));
        }
        let half_day = has_name(&[Fixed::LowerAmPm, Fixed::UpperAmPm]);
        if has(&[Numeric::Hour12]) != half_day {
            return Err(format!("{}: %I and %p go together", unreadable()));
        }
        if has(&[Numeric::Minute]) != (has(&[Numeric::Hour]) || has(&[Numeric::Hour12])) {
            return Err(format!("{}: hours and minutes go together", unreadable()));
        }
        Ok(Self::Pattern(Pattern { text: text.to_owned(), items }))
    }
}

impl fmt::Display for TimestampFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iso => formatter.write_str("iso"),
            Self::Pattern(pattern) => formatter.write_str(&pattern.text),
        }
    }
}

impl Serialize for TimestampFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimestampFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pattern: &str, text: &str) -> Result<String, TimestampError> {
        let format: TimestampFormat = pattern.parse().unwrap();
        assert_eq!(format.to_string(), pattern);
        format.parse(text, "Europe/Paris".parse().unwrap()).map(|timestamp| timestamp.to_string())
    }

    #[test]
    fn reads_what_other_systems_write() {
        let cases = [
            ("iso", "2023-11-28T06:35:12Z", "2023-11-28T06:35:12Z"),
            ("%d/%m/%Y %H:%M", "03/04/2024 10:30", "2024-04-03T08:30:00Z"),
            ("%m/%d/%Y %H:%M", "03/04/2024 10:30", "2024-03-04T09:30:00Z"),
            ("%d.%m.%Y", "5.1.2024", "2024-01-04T23:00:00Z"),
            ("%m/%d/%Y %I:%M:%S %p", "03/04/2024 10:30:05 PM", "2024-03-04T21:30:05Z"),
            ("%d-%b-%y %H:%M", "03-Apr-24 10:30", "2024-04-03T08:30:00Z"),
            ("%Y%m%d%H%M%S", "20240403103000", "2024-04-03T08:30:00Z"),
            ("%d/%m/%Y %H:%M:%S %z", "03/04/2024 10:30:00 +0000", "2024-04-03T10:30:00Z"),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(parse(pattern, text).as_deref(), Ok(expected), "{pattern} {text}");
        }
    }

    #[test]
    fn refuses_what_the_pattern_does_not_cover() {
        for text in [
            "",
            "13/13/2024 10:30",
            "31/02/2024 10:30",
            "03/04/2024",
            "03/04/2024 10:30:00",
            "03/04/2024 25:00",
            "03/04/24 10:30",
        ] {
            assert_eq!(parse("%d/%m/%Y %H:%M", text), Err(TimestampError::Pattern), "{text}");
        }
        assert_eq!(parse("%d/%m/%Y %H:%M", "31/03/2024 02:30"), Err(TimestampError::Gap));
    }

    #[test]
    fn a_pattern_that_is_no_date_says_so() {
        for (pattern, expected) in [
            ("%Q", "neither iso nor a pattern"),
            ("%H:%M", "needs a day"),
            ("%d/%m %H:%M", "and a year"),
            ("%d/%m/%Y %I:%M", "%I and %p"),
            ("%d/%m/%Y %H", "hours and minutes"),
        ] {
            let error = pattern.parse::<TimestampFormat>().unwrap_err();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }
}

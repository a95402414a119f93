//! Time zones: the run's own, and the meaning of zone names after a time.

use std::fmt;

use chrono::{MappedLocalTime, NaiveDateTime, Offset as _, TimeZone as _};
use chrono_tz::OffsetName as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::TimestampError;

const ZERO: [&str; 4] = ["UTC", "GMT", "UT", "Z"];
/// Abbreviations with one meaning, or with one defined by RFC 5322, in minutes east of UTC.
#[rustfmt::skip]
const ABBREVIATIONS: [(&str, i32); 26] = [
    ("EST", -5 * 60), ("EDT", -4 * 60), ("MST", -7 * 60), ("MDT", -6 * 60), ("PST", -8 * 60), ("PDT", -7 * 60),
    ("AKST", -9 * 60), ("AKDT", -8 * 60), ("HST", -10 * 60), ("WET", 0), ("WEST", 60), ("CET", 60), ("CEST", 2 * 60),
    ("EET", 2 * 60), ("EEST", 3 * 60), ("JST", 9 * 60), ("KST", 9 * 60), ("HKT", 8 * 60), ("SGT", 8 * 60), ("AEST", 10 * 60),
    ("AEDT", 11 * 60), ("ACST", 9 * 60 + 30), ("ACDT", 10 * 60 + 30), ("AWST", 8 * 60), ("NZST", 12 * 60), ("NZDT", 13 * 60),
];
/// The abbreviation whose offset differed for some years.
const MOSCOW: (&str, TimeZone) = ("MSK", TimeZone(chrono_tz::Europe::Moscow));

/// The zone of timestamps that name none: `UTC`, or any name of the IANA time zone database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZone(chrono_tz::Tz);

impl TimeZone {
    /// Coordinated universal time, the default.
    pub const UTC: Self = Self(chrono_tz::UTC);

    /// Seconds east of UTC at a local time, and whether the time occurs twice; the earlier offset is taken. None if the
    /// clocks skip it.
    pub(super) fn offset(self, local: NaiveDateTime) -> Option<(i32, bool)> {
        if self == Self::UTC {
            return Some((0, false));
        }
        match self.0.from_local_datetime(&local) {
            MappedLocalTime::Single(there) => Some((there.offset().fix().local_minus_utc(), false)),
            MappedLocalTime::Ambiguous(there, _) => Some((there.offset().fix().local_minus_utc(), true)),
            MappedLocalTime::None => None,
        }
    }

    /// The offset of a local time with a written offset, a zone name, or both; without an offset, the zone to use. A
    /// written offset counts unless the named zone never has it then: the hour that occurs twice has two.
    pub(super) fn resolve(
        self,
        local: NaiveDateTime,
        written: Option<i32>,
        name: Option<&str>,
    ) -> Result<(Option<i32>, Self), TimestampError> {
        let Some(name) = name else { return Ok((written, self)) };
        if let Some(region) = Self::region(name) {
            let is_there = |seconds| region.offsets(local).any(|offset| offset == seconds);
            return match written {
                Some(written) if !is_there(written) => Err(TimestampError::Zone),
                written => Ok((written, region)),
            };
        }
        match (written, self.named(name, local)) {
            (Some(written), Some(named)) if written != named => Err(TimestampError::Zone),
            (None, None) => Err(TimestampError::Zone),
            (written, named) => Ok((written.or(named), self)),
        }
    }

    /// The zone with this name in the database; only names with a slash count.
    fn region(name: &str) -> Option<Self> {
        name.contains('/').then(|| name.parse().ok()).flatten()
    }

    fn offsets(self, local: NaiveDateTime) -> impl Iterator<Item = i32> {
        let there = self.0.from_local_datetime(&local);
        [there.earliest(), there.latest()].into_iter().flatten().map(|there| there.offset().fix().local_minus_utc())
    }

    /// Seconds east of UTC for an abbreviation at a local time: as this zone uses it then, or else its one general
    /// meaning. The hour that occurs twice has a name for each time.
    pub(super) fn named(self, name: &str, local: NaiveDateTime) -> Option<i32> {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        if ZERO.into_iter().any(is) {
            return Some(0);
        }
        if let Some(offset) = self.called(name, local) {
            return Some(offset);
        }
        if let Some((_, minutes)) = ABBREVIATIONS.into_iter().find(|(other, _)| is(other)) {
            return Some(minutes * 60);
        }
        if is(MOSCOW.0) { MOSCOW.1.called(name, local) } else { None }
    }

    /// The offset of this zone at a local time, if it uses that abbreviation then.
    fn called(self, name: &str, local: NaiveDateTime) -> Option<i32> {
        let there = self.0.from_local_datetime(&local);
        let candidates = [there.earliest(), there.latest()].into_iter().flatten();
        let offsets = candidates.map(|candidate| *candidate.offset());
        let mut called =
            offsets.filter(|offset| offset.abbreviation().is_some_and(|own| own.eq_ignore_ascii_case(name)));
        called.next().map(|offset| offset.fix().local_minus_utc())
    }
}

/// Whether a text looks like a zone name: an abbreviation, or a name of the database.
pub(super) fn looks_like_a_name(text: &str) -> bool {
    let is_abbreviation = (3..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_known = ZERO.into_iter().any(|name| name.eq_ignore_ascii_case(text));
    is_known || is_abbreviation || text.contains('/') && text.bytes().all(is_name_byte)
}

/// Whether a text is written like a zone name: abbreviations are in capitals, which words of other languages are not.
pub(super) fn could_be_a_name(text: &str) -> bool {
    text.len() > 1 && (text.contains('/') || !text.bytes().any(|byte| byte.is_ascii_lowercase()))
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'+' | b'-' | b':')
}

impl std::str::FromStr for TimeZone {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        name.parse().map(Self).map_err(|_| format!("`{name}` is not an IANA time zone such as `UTC` or `Europe/Paris`"))
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.name())
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(zone: &str, name: &str, local: &str) -> Option<i32> {
        let zone: TimeZone = zone.parse().unwrap();
        let local = NaiveDateTime::parse_from_str(local, "%Y-%m-%d %H:%M").unwrap();
        zone.named(name, local).map(|seconds| seconds / 60)
    }

    #[test]
    fn a_name_is_resolved_or_unknown() {
        for (zone, name, local, expected) in [
            ("UTC", "UTC", "2024-03-15 10:00", Some(0)),
            ("Asia/Tokyo", "gmt", "2024-03-15 10:00", Some(0)),
            ("UTC", "EST", "2024-03-15 10:00", Some(-300)),
            ("UTC", "PDT", "2024-07-15 10:00", Some(-420)),
            ("UTC", "CEST", "2024-07-15 10:00", Some(120)),
            ("UTC", "MSK", "2024-07-15 10:00", Some(180)),
            // Moscow had permanent summer time then.
            ("UTC", "MSK", "2012-07-15 10:00", Some(240)),
            ("UTC", "CST", "2024-03-15 10:00", None),
            ("UTC", "IST", "2024-03-15 10:00", None),
            ("UTC", "BST", "2024-07-15 10:00", None),
            ("UTC", "XYZ", "2024-07-15 10:00", None),
            // The run's own zone decides, if it uses the name.
            ("America/Chicago", "CST", "2024-01-15 10:00", Some(-360)),
            ("America/Chicago", "CST", "2024-07-15 10:00", None),
            ("Asia/Shanghai", "CST", "2024-07-15 10:00", Some(480)),
            ("Asia/Kolkata", "IST", "2024-07-15 10:00", Some(330)),
            ("Europe/Dublin", "IST", "2024-07-15 10:00", Some(60)),
            ("Europe/London", "BST", "2024-07-15 10:00", Some(60)),
            // The hour that occurs twice has two names.
            ("Europe/Paris", "CEST", "2024-10-27 02:30", Some(120)),
            ("Europe/Paris", "CET", "2024-10-27 02:30", Some(60)),
        ] {
            assert_eq!(named(zone, name, local), expected, "{name} in {zone} at {local}");
        }
    }

    #[test]
    fn no_abbreviation_stands_twice() {
        let mut names: Vec<&str> = ABBREVIATIONS.iter().map(|(name, _)| *name).chain(ZERO).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ABBREVIATIONS.len() + ZERO.len());
    }

    #[test]
    fn an_unknown_zone_says_what_is_allowed() {
        let error = "Paris".parse::<TimeZone>().unwrap_err();
        assert!(error.contains("Europe/Paris"), "{error}");
    }
}

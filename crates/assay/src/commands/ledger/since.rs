//! The options `--since` and `--before`.

use std::str::FromStr;
use std::time::Duration;

use assay_transaction::{TimeZone, Timestamp, parse_duration};
use chrono::Utc;

/// A time, or a span before now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SinceArgument {
    Ago(Duration),
    At(Timestamp),
}

impl SinceArgument {
    /// That moment; none if it is still to come.
    pub(crate) fn moment(self) -> Option<Timestamp> {
        let now = Utc::now();
        match self {
            Self::Ago(duration) => chrono::Duration::from_std(duration).ok().map(|ago| (now - ago).into()),
            Self::At(at) => (at.as_datetime() <= now).then_some(at),
        }
    }

    /// Seconds from then to now.
    pub(crate) fn seconds(self) -> f64 {
        match self {
            Self::Ago(duration) => duration.as_secs_f64(),
            Self::At(at) => (Utc::now() - at.as_datetime()).to_std().unwrap_or_default().as_secs_f64(),
        }
    }
}

impl FromStr for SinceArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        if let Some(days) = days {
            return Ok(Self::Ago(Duration::from_hours(24 * u64::from(days))));
        }
        if let Ok(duration) = parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        let day = [text, " 00:00:00"].concat();
        let read = |text: &str| Timestamp::parse(text.as_bytes(), TimeZone::UTC);
        read(text).or_else(|_| read(&day)).map(Self::At).map_err(|_| {
            format!("`{text}` is neither a time span, such as 12h or 7d, nor a day or time in UTC, such as 2026-01-11")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::at;

    #[test]
    fn spans_days_and_times_are_accepted() {
        let hours = |hours| Ok(SinceArgument::Ago(Duration::from_hours(hours)));
        let cases = [
            ("12h", hours(12)),
            ("7d", hours(168)),
            ("2026-01-11", Ok(SinceArgument::At(at("00:00:00")))),
            ("2026-01-11 10:00:00", Ok(SinceArgument::At(at("10:00:00")))),
            ("2026-01-11T11:00:00+01:00", Ok(SinceArgument::At(at("10:00:00")))),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<SinceArgument>(), expected, "{text}");
        }
        for text in ["", "yesterday", "7", "d", "2026-13-01"] {
            assert!(text.parse::<SinceArgument>().unwrap_err().contains("such as 12h or 7d"), "{text}");
        }
        assert!(SinceArgument::At(at("10:00:00")).seconds() > 0.0);
        assert_eq!(SinceArgument::At(at("10:00:00")).moment(), Some(at("10:00:00")));
        assert!("7d".parse::<SinceArgument>().unwrap().moment().is_some());
        assert_eq!("2999-01-01".parse::<SinceArgument>().unwrap().moment(), None);
    }
}

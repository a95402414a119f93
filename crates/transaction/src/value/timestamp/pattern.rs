//! Date patterns such as `%d/%m/%Y %H:%M`, with the meaning users of `strftime` expect.
//!
//! `pieces` splits a pattern and reads each piece.

mod pieces;

use chrono::format::{Item, Numeric, Parsed, StrftimeItems};
use chrono::{DateTime, Datelike as _, NaiveDateTime, NaiveTime};

use self::pieces::{PatternPiece, PieceValues, complete, pieces};
use super::{LIKELY_YEARS, ParsedTimestamp, zone};
use crate::{TimeZone, Timestamp, TimestampError};

/// The first year with four digits.
const FIRST_YEAR: i32 = 1000;

/// A pattern of `%d`, `%m`, `%Y` and the like, as in `strftime`. It contains a whole date; a missing time is midnight,
/// and a missing offset is that of the run's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampPattern {
    text: String,
    /// For the first rules.
    first: Vec<Item<'static>>,
    /// For the second rules; empty if they reject it.
    pieces: Vec<PatternPiece>,
}

/// The parts of a timestamp matched by a pattern.
struct LocalDateTime<'a> {
    local: NaiveDateTime,
    offset: Option<i32>,
    zone: Option<&'a str>,
}

impl TimestampPattern {
    /// A declared pattern. Fails, with the reason, if it would not mean what it says.
    pub(super) fn declared(text: &str) -> Result<Self, String> {
        let unreadable = || {
            format!(
                "`{text}` is neither iso, epoch-seconds, epoch-milliseconds, epoch-microseconds, epoch-nanoseconds, serial-days nor a pattern such as %d/%m/%Y %H:%M"
            )
        };
        let pieces = pieces(text).map_err(|why| match why {
            Some(why) => format!("{}: {why}", unreadable()),
            None => unreadable(),
        })?;
        complete(&pieces).map_err(|why| format!("{}: {why}", unreadable()))?;
        let first = StrftimeItems::new(text).parse_to_owned().map_err(|_| unreadable())?;
        Ok(Self { text: text.to_owned(), first, pieces })
    }

    /// A pattern frozen with a run.
    pub(super) fn frozen(text: &str) -> Result<Self, String> {
        let first = StrftimeItems::new(text).parse_to_owned().map_err(|_| format!("`{text}` is not a date pattern"))?;
        Ok(Self { text: text.to_owned(), first, pieces: pieces(text).unwrap_or_default() })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Parses a timestamp by the first rules.
    pub(super) fn parse_first(&self, text: &str, zone: TimeZone) -> Result<Timestamp, TimestampError> {
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text, self.first.iter()).map_err(|_| TimestampError::Pattern)?;
        let has_time = self.first.iter().any(|item| matches!(item, Item::Numeric(Numeric::Hour | Numeric::Hour12, _)));
        let local = local(&parsed, has_time)?;
        let moment = Timestamp::from_local(local, parsed.offset(), zone).map_err(as_pattern_error)?;
        Ok(moment.timestamp)
    }

    /// Parses a timestamp by the second rules.
    pub(super) fn read(&self, text: &str, zone: TimeZone) -> Result<ParsedTimestamp, TimestampError> {
        let LocalDateTime { local, offset, zone: name } = self.parse_parts(text)?;
        let (offset, zone) = zone.resolve(local, offset, name)?;
        Timestamp::from_local(local, offset, zone).map_err(as_pattern_error)
    }

    /// The same ignoring the zone name, if it could be one.
    pub(super) fn read_without_zone(&self, text: &str) -> Result<Timestamp, TimestampError> {
        let LocalDateTime { local, offset, zone } = self.parse_parts(text)?;
        if zone.is_some_and(|name| !zone::could_be_a_name(name)) {
            return Err(TimestampError::Zone);
        }
        Timestamp::from_local(local, offset, TimeZone::UTC).map(|moment| moment.timestamp).map_err(as_pattern_error)
    }

    fn parse_parts<'a>(&self, text: &'a str) -> Result<LocalDateTime<'a>, TimestampError> {
        if self.pieces.is_empty() {
            return Err(TimestampError::Pattern);
        }
        let mut values = PieceValues::default();
        let rest = self.pieces.iter().try_fold(text, |rest, piece| piece.read(rest, &mut values));
        if rest != Some("") {
            return Err(TimestampError::Pattern);
        }
        let PieceValues { mut parsed, offset, zone } = values;
        if let Some(seconds) = parsed.timestamp() {
            let nanoseconds = parsed.nanosecond().unwrap_or_default();
            let instant = DateTime::from_timestamp(seconds, nanoseconds).ok_or(TimestampError::Pattern)?;
            let is_likely = LIKELY_YEARS.contains(&instant.year());
            return if is_likely {
                Ok(LocalDateTime { local: instant.naive_utc(), offset: Some(0), zone: None })
            } else {
                Err(TimestampError::Pattern)
            };
        }
        // `chrono` reads 69 as 2069, POSIX as 1969.
        if (parsed.year(), parsed.year_mod_100()) == (None, Some(69)) {
            parsed.set_year(1969).map_err(|_| TimestampError::Pattern)?;
        }
        // A second 60 means the next second in some places, and the same in others.
        if parsed.second() == Some(60) {
            return Err(TimestampError::Pattern);
        }
        let local = local(&parsed, parsed.hour_mod_12().is_some())?;
        Ok(LocalDateTime { local, offset, zone })
    }

    /// The pattern with day, month and year in every other usual order, and with two or four digits of the year. Month
    /// names are unambiguous.
    pub(super) fn rivals(&self) -> Vec<Self> {
        let Some(parts) = DateParts::of(&self.text) else { return Vec::new() };
        let orders =
            [["d", "m", "y"], ["m", "d", "y"], ["y", "m", "d"], ["d", "m", "Y"], ["m", "d", "Y"], ["Y", "m", "d"]];
        let others = orders.iter().filter(|order| **order != parts.order);
        others.filter_map(|order| Self::declared(&parts.written(order)).ok()).collect()
    }
}

/// A pattern split around its day, month and year.
struct DateParts<'a> {
    order: [&'static str; 3],
    between: [&'a str; 4],
}

impl<'a> DateParts<'a> {
    /// None unless the pattern has each of them once, in digits.
    fn of(text: &'a str) -> Option<Self> {
        let mut between = Vec::with_capacity(4);
        let (mut seen, mut from, mut at) = (Vec::with_capacity(3), 0, 0);
        while let Some(values) = text[at..].find('%') {
            let start = at + values;
            let mut end = start + 1;
            while matches!(text.as_bytes().get(end), Some(b'-' | b'_' | b'0')) {
                end += 1;
            }
            let letter = text[end..].chars().next()?;
            end += letter.len_utf8();
            let part = match letter {
                'd' | 'e' => Some("d"),
                'm' => Some("m"),
                'y' => Some("y"),
                'Y' => Some("Y"),
                'b' | 'B' | 'h' | 'j' | 'D' | 'F' | 's' => return None,
                _ => None,
            };
            if let Some(part) = part {
                between.push(&text[from..start]);
                seen.push(part);
                from = end;
            }
            at = end;
        }
        between.push(&text[from..]);
        let has = |part| seen.contains(&part);
        let is_whole = has("d") && has("m") && (has("y") || has("Y"));
        Some(Self { order: seen.try_into().ok().filter(|_| is_whole)?, between: between.try_into().ok()? })
    }

    fn written(&self, order: &[&str; 3]) -> String {
        let [before, one, two, behind] = self.between;
        format!("{before}%{}{one}%{}{two}%{}{behind}", order[0], order[1], order[2])
    }
}

fn local(parsed: &Parsed, has_time: bool) -> Result<NaiveDateTime, TimestampError> {
    let date = parsed.to_naive_date().map_err(|_| TimestampError::Pattern)?;
    // `%Y` also matches two digits, which would be a year in Roman times.
    if date.year() < FIRST_YEAR {
        return Err(TimestampError::Pattern);
    }
    // Without a time it is midnight; an impossible time is an error.
    let time = match parsed.to_naive_time() {
        Ok(time) => time,
        Err(_) if has_time => return Err(TimestampError::Pattern),
        Err(_) => NaiveTime::MIN,
    };
    Ok(date.and_time(time))
}

fn as_pattern_error(error: TimestampError) -> TimestampError {
    match error {
        TimestampError::Format => TimestampError::Pattern,
        other => other,
    }
}

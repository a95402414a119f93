//! Dates as other systems write them: a pattern such as `%d/%m/%Y %H:%M`, which means what users of `strftime` expect.
//!
//! `chrono` reads the numbers and names between; the fraction, the offset and the name of a zone are read here, as `chrono` takes
//! the first for a count of nanoseconds and throws the last away.

use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems};
use chrono::{DateTime, Datelike as _, NaiveDateTime, NaiveTime};

use super::zone::is_part_of_a_name;
use super::{LIKELY_YEARS, Moment, parse_offset};
use crate::{TimeZone, Timestamp, TimestampError};

/// The first year with four digits.
const FIRST_YEAR: i32 = 1000;
/// Most digits of a fraction of a second.
const MAX_FRACTION: usize = 9;
/// Lengths of an offset, the longest first: `+01:00`, `+0100`, `+01`, `Z`.
const OFFSETS: [usize; 4] = [6, 5, 3, 1];

/// A pattern of `%d`, `%m`, `%Y` and the like, as `strftime` has them. It has a whole date; a time that it lacks is midnight,
/// and an offset that it lacks is that of the run's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// As the first rules have it.
    first: Vec<Item<'static>>,
    /// As the second ones have it; nothing, where they refuse it.
    pieces: Vec<Piece>,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Items(Vec<Item<'static>>),
    /// `%f`: the digits of a fraction of a second.
    Fraction,
    /// `%z`
    Offset,
    /// `%Z`
    Zone,
}

/// What a text says by a pattern.
struct Said<'a> {
    local: NaiveDateTime,
    offset: Option<i32>,
    zone: Option<&'a str>,
}

impl Pattern {
    /// A pattern that somebody declares. Fails, with the reason, where it would not mean what it says.
    pub(super) fn declared(text: &str) -> Result<Self, String> {
        let unreadable = || {
            format!(
                "`{text}` is neither iso, epoch-seconds, epoch-milliseconds, epoch-microseconds, serial-days nor a pattern such as %d/%m/%Y %H:%M"
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

    /// A pattern that was frozen with a run.
    pub(super) fn frozen(text: &str) -> Result<Self, String> {
        let first =
            StrftimeItems::new(text).parse_to_owned().map_err(|_| format!("`{text}` is no pattern of a date"))?;
        Ok(Self { text: text.to_owned(), first, pieces: pieces(text).unwrap_or_default() })
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Reads a timestamp by the first rules.
    pub(super) fn parse_first(&self, text: &str, zone: TimeZone) -> Result<Timestamp, TimestampError> {
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text, self.first.iter()).map_err(|_| TimestampError::Pattern)?;
        let has_time = self.first.iter().any(|item| matches!(item, Item::Numeric(Numeric::Hour | Numeric::Hour12, _)));
        let local = local(&parsed, has_time)?;
        let moment = Timestamp::from_local(local, parsed.offset(), zone).map_err(of_pattern)?;
        Ok(moment.timestamp)
    }

    /// Reads a timestamp by the second rules.
    pub(super) fn read(&self, text: &str, zone: TimeZone) -> Result<Moment, TimestampError> {
        let Said { local, offset, zone: name } = self.say(text)?;
        let offset = zone.settle(local, offset, name)?;
        Timestamp::from_local(local, offset, zone).map_err(of_pattern)
    }

    /// The same as if no zone was named.
    pub(super) fn read_without_zone(&self, text: &str) -> Result<Timestamp, TimestampError> {
        let Said { local, offset, .. } = self.say(text)?;
        Timestamp::from_local(local, offset, TimeZone::UTC).map(|moment| moment.timestamp).map_err(of_pattern)
    }

    fn say<'a>(&self, text: &'a str) -> Result<Said<'a>, TimestampError> {
        if self.pieces.is_empty() {
            return Err(TimestampError::Pattern);
        }
        let (mut parsed, mut rest) = (Parsed::new(), text);
        let (mut offset, mut zone) = (None, None);
        for piece in &self.pieces {
            rest = match piece {
                Piece::Items(items) => chrono::format::parse_and_remainder(&mut parsed, rest, items.iter()).ok(),
                Piece::Fraction => fraction(&mut parsed, rest),
                Piece::Offset => take_offset(rest.trim_start(), &mut offset),
                Piece::Zone => take_zone(rest.trim_start(), &mut zone),
            }
            .ok_or(TimestampError::Pattern)?;
        }
        if !rest.is_empty() {
            return Err(TimestampError::Pattern);
        }
        if let Some(seconds) = parsed.timestamp() {
            let nanoseconds = parsed.nanosecond().unwrap_or_default();
            let instant = DateTime::from_timestamp(seconds, nanoseconds).ok_or(TimestampError::Pattern)?;
            let is_likely = LIKELY_YEARS.contains(&instant.year());
            return if is_likely {
                Ok(Said { local: instant.naive_utc(), offset: Some(0), zone: None })
            } else {
                Err(TimestampError::Pattern)
            };
        }
        // `chrono` takes 69 for 2069, where POSIX has 1969; nothing is lost if it stands there already.
        if (parsed.year(), parsed.year_mod_100()) == (None, Some(69)) {
            parsed.set_year(1969).map_err(|_| TimestampError::Pattern)?;
        }
        // A second 60 would be the one after it in some places, and the same in others.
        if parsed.second() == Some(60) {
            return Err(TimestampError::Pattern);
        }
        let local = local(&parsed, parsed.hour_mod_12().is_some())?;
        Ok(Said { local, offset, zone })
    }

    /// The pattern with day, month and year in each other order that anybody writes, and with two or four digits of the year. Names
    /// of months tell themselves.
    pub(super) fn rivals(&self) -> Vec<Self> {
        let Some(parts) = DateParts::of(&self.text) else { return Vec::new() };
        let orders =
            [["d", "m", "y"], ["m", "d", "y"], ["y", "m", "d"], ["d", "m", "Y"], ["m", "d", "Y"], ["Y", "m", "d"]];
        let others = orders.iter().filter(|order| **order != parts.order);
        others.filter_map(|order| Self::declared(&parts.written(order)).ok()).collect()
    }
}

/// A pattern around the three places of its day, month and year.
struct DateParts<'a> {
    order: [&'static str; 3],
    between: [&'a str; 4],
}

impl<'a> DateParts<'a> {
    /// None where the pattern has not each of them once, in digits.
    fn of(text: &'a str) -> Option<Self> {
        let mut between = Vec::with_capacity(4);
        let (mut seen, mut from, mut at) = (Vec::with_capacity(3), 0, 0);
        while let Some(found) = text[at..].find('%') {
            let start = at + found;
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

/// The date and time of what was parsed.
fn local(parsed: &Parsed, has_time: bool) -> Result<NaiveDateTime, TimestampError> {
    let date = parsed.to_naive_date().map_err(|_| TimestampError::Pattern)?;
    // `%Y` reads two digits as well, which would be a year of the Romans.
    if date.year() < FIRST_YEAR {
        return Err(TimestampError::Pattern);
    }
    // Without a time it is midnight; one that is there and impossible is none.
    let time = match parsed.to_naive_time() {
        Ok(time) => time,
        Err(_) if has_time => return Err(TimestampError::Pattern),
        Err(_) => NaiveTime::MIN,
    };
    Ok(date.and_time(time))
}

fn of_pattern(error: TimestampError) -> TimestampError {
    match error {
        TimestampError::Format => TimestampError::Pattern,
        other => other,
    }
}

/// Takes the digits of a fraction: half a second is `5`.
fn fraction<'a>(parsed: &mut Parsed, text: &'a str) -> Option<&'a str> {
    let length = text.bytes().take_while(u8::is_ascii_digit).take(MAX_FRACTION).count();
    let (digits, rest) = text.split_at(length);
    let nanoseconds: i64 = format!("{digits:0<MAX_FRACTION$}").parse().ok().filter(|_| length > 0)?;
    parsed.set_nanosecond(nanoseconds).ok()?;
    Some(rest)
}

/// Takes `+01:00`, `+0100`, `+01` or `Z`.
fn take_offset<'a>(text: &'a str, offset: &mut Option<i32>) -> Option<&'a str> {
    OFFSETS.iter().find_map(|length| {
        let (written, rest) = text.split_at_checked(*length)?;
        let seconds = parse_offset(written.as_bytes()).flatten()?;
        *offset = Some(seconds);
        Some(rest)
    })
}

/// Takes the name of a zone.
fn take_zone<'a>(text: &'a str, zone: &mut Option<&'a str>) -> Option<&'a str> {
    let length = text.bytes().take_while(|byte| is_part_of_a_name(*byte)).count();
    let (name, rest) = text.split_at(length);
    *zone = Some(name).filter(|name| !name.is_empty());
    zone.is_some().then_some(rest)
}

/// Splits a pattern. An error is why it cannot be used, where there is more to say than that it is none.
fn pieces(text: &str) -> Result<Vec<Piece>, Option<String>> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let padded = rest[1..].trim_start_matches(['-', '_', '0']);
        let letter = padded.chars().next().ok_or(None)?;
        let behind = &padded[letter.len_utf8()..];
        let own = match letter {
            'f' => Some(Piece::Fraction),
            'Z' => Some(Piece::Zone),
            'z' => Some(Piece::Offset),
            ':' if behind.starts_with('z') => Some(Piece::Offset),
            _ => None,
        };
        if let Some(own) = own {
            flush(&mut pieces, &mut plain)?;
            pieces.push(own);
            rest = behind.strip_prefix('z').filter(|_| letter == ':').unwrap_or(behind);
            continue;
        }
        match letter {
            // Either form of a name, as `strptime` reads them.
            'b' | 'h' | 'B' => plain.push_str("%B"),
            'a' | 'A' => plain.push_str("%A"),
            'd' | 'e' | 'm' | 'Y' | 'y' | 'j' | 'H' | 'k' | 'I' | 'l' | 'M' | 'S' | 'p' | 'P' | 'D' | 'F' | 'T'
            | 'R' | 's' | 'u' | 'w' | 'n' | 't' | '%' => plain.push_str(&rest[..rest.len() - behind.len()]),
            // With its point, as `chrono` has it: one that may be left out, or that has so many digits.
            '.' | '3' | '6' | '9' => {
                let length = behind.find('f').filter(|at| *at <= 1).ok_or(None)? + 1;
                plain.push_str(&rest[..rest.len() - behind.len() + length]);
                rest = &behind[length..];
                continue;
            }
            'c' | 'x' | 'X' | 'r' | 'v' | 'E' | 'O' | '+' => {
                return Err(Some(format!(
                    "%{letter} is written differently from country to country: write its fields one by one"
                )));
            }
            'U' | 'W' | 'V' | 'G' | 'g' | 'C' | 'q' => {
                return Err(Some(format!(
                    "%{letter} counts weeks, quarters or centuries, of which no date is made here"
                )));
            }
            _ => return Err(None),
        }
        rest = behind;
    }
    plain.push_str(rest);
    flush(&mut pieces, &mut plain)?;
    Ok(pieces)
}

fn flush(pieces: &mut Vec<Piece>, plain: &mut String) -> Result<(), Option<String>> {
    if !plain.is_empty() {
        pieces.push(Piece::Items(StrftimeItems::new(plain).parse_to_owned().map_err(|_| None)?));
        plain.clear();
    }
    Ok(())
}

/// Fails where a pattern makes no whole date, or a time that would be cut.
fn complete(pieces: &[Piece]) -> Result<(), &'static str> {
    let items =
        || pieces.iter().filter_map(|piece| if let Piece::Items(items) = piece { Some(items) } else { None }).flatten();
    let has =
        |wanted: &[Numeric]| items().any(|item| matches!(item, Item::Numeric(numeric, _) if wanted.contains(numeric)));
    let has_name = |wanted: &[Fixed]| items().any(|item| matches!(item, Item::Fixed(fixed) if wanted.contains(fixed)));
    let has_date = has(&[Numeric::Day, Numeric::Month, Numeric::Year, Numeric::YearMod100, Numeric::Ordinal]);
    let has_hour = has(&[Numeric::Hour]) || has(&[Numeric::Hour12]);
    let has_second = has(&[Numeric::Second]);
    if has(&[Numeric::Timestamp]) {
        let has_zone = pieces.contains(&Piece::Offset) || pieces.contains(&Piece::Zone);
        let is_alone = !has_date && !has_hour && !has(&[Numeric::Minute]) && !has_second && !has_zone;
        return if is_alone { Ok(()) } else { Err("%s is a date and a time, and stands alone") };
    }
    let has_month = has(&[Numeric::Month]) || has_name(&[Fixed::LongMonthName]);
    let has_day = has(&[Numeric::Day]) && has_month || has(&[Numeric::Ordinal]);
    if !(has_day && has(&[Numeric::Year, Numeric::YearMod100])) {
        return Err("it needs a day (%d), a month (%m or %b) and a year (%Y or %y)");
    }
    if has(&[Numeric::Hour12]) != has_name(&[Fixed::LowerAmPm, Fixed::UpperAmPm]) {
        return Err("%I and %p go together");
    }
    if has(&[Numeric::Minute]) != has_hour {
        return Err("hours and minutes go together");
    }
    if has_second && !has_hour {
        return Err("seconds need hours and minutes");
    }
    let has_fraction = pieces.contains(&Piece::Fraction);
    if has_fraction && !has_second {
        return Err("%f is a fraction of a second, and needs %S");
    }
    Ok(())
}

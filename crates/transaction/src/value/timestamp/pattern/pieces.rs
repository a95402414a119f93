//! The pieces of a pattern, and what each of them reads from a text.
//!
//! `chrono` reads most numbers and names. The rest is read here, where `chrono` would misread it: the fraction of a
//! second as a count of nanoseconds, digits of an unpadded number as part of the previous one; zone names it ignores.

use chrono::format::{self, Item, Numeric, Pad, Parsed, StrftimeItems};

use crate::value::timestamp::parse_offset;
use crate::value::timestamp::zone::is_name_byte;

const MAX_FRACTION: usize = 9;
/// Lengths of an offset, longest first: `+01:00`, `+0100`, `+01`, `Z`.
const OFFSETS: [usize; 4] = [6, 5, 3, 1];
/// Month names; their first three letters are enough, as is `Sept`.
#[rustfmt::skip]
const MONTHS: [&str; 12] = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatternPiece {
    Items(Vec<Item<'static>>),
    /// Adjacent numbers without separators, each with a fixed number of digits.
    Numbers(Vec<Item<'static>>),
    /// White space between two numbers, which would otherwise run together.
    Blank,
    /// `%b` or `%B`: the English name of a month, long or short, as `strptime` reads it.
    Month,
    /// `%p`: AM or PM, with or without dots.
    HalfOfDay,
    /// `%f`: the digits of a fraction of a second.
    Fraction,
    /// `%z`
    Offset,
    /// `%Z`
    Zone,
}

#[derive(Default)]
pub(super) struct PieceValues<'a> {
    pub(super) parsed: Parsed,
    pub(super) offset: Option<i32>,
    pub(super) zone: Option<&'a str>,
}

impl PatternPiece {
    /// Reads the piece at the start of a text and returns the rest.
    pub(super) fn read<'a>(&self, text: &'a str, values: &mut PieceValues<'a>) -> Option<&'a str> {
        match self {
            Self::Items(items) => format::parse_and_remainder(&mut values.parsed, text, items.iter()).ok(),
            Self::Numbers(items) => numbers(&mut values.parsed, text.trim_start(), items),
            Self::Blank => text.starts_with(char::is_whitespace).then(|| text.trim_start()),
            Self::Month => month(&mut values.parsed, text),
            Self::HalfOfDay => half_of_day(&mut values.parsed, text),
            Self::Fraction => fraction(&mut values.parsed, text),
            Self::Offset => take_offset(text.trim_start(), &mut values.offset),
            Self::Zone => take_zone(text.trim_start(), &mut values.zone),
        }
    }
}

/// Takes numbers with all their digits. The first may lack its leading zero if the pattern allows it, as in `%-H%M%S`.
fn numbers<'a>(parsed: &mut Parsed, text: &'a str, items: &[Item<'static>]) -> Option<&'a str> {
    let all: usize = items.iter().map(digits).sum();
    let digits_there = text.bytes().take(all).take_while(u8::is_ascii_digit).count();
    let is_unpadded = matches!(items.first(), Some(Item::Numeric(_, Pad::None | Pad::Space)));
    let mut lacking = all - digits_there;
    if lacking > usize::from(is_unpadded) {
        return None;
    }
    items.iter().try_fold(text, |text, item| {
        let (number, rest) = text.split_at_checked(digits(item) - std::mem::take(&mut lacking))?;
        format::parse(parsed, number, std::iter::once(item)).ok()?;
        Some(rest)
    })
}

fn digits(item: &Item<'_>) -> usize {
    match item {
        Item::Numeric(Numeric::Year, _) => 4,
        Item::Numeric(Numeric::Ordinal, _) => 3,
        Item::Numeric(Numeric::WeekdayFromMon | Numeric::NumDaysFromSun, _) => 1,
        _ => 2,
    }
}

fn month<'a>(parsed: &mut Parsed, text: &'a str) -> Option<&'a str> {
    let in_common = |name: &str| {
        let both = name.bytes().zip(text.bytes());
        both.take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count()
    };
    let (number, name) = (1..).zip(MONTHS).find(|(_, name)| in_common(name) >= 3)?;
    let length = match in_common(name) {
        all if all == name.len() => all,
        4.. if name == "september" => 4,
        _ => 3,
    };
    parsed.set_month(number).ok()?;
    Some(&text[length..])
}

/// Takes `AM`, `pm`, `a.m.` or `p. m.`.
fn half_of_day<'a>(parsed: &mut Parsed, text: &'a str) -> Option<&'a str> {
    let is_afternoon = match text.chars().next()? {
        'a' | 'A' => false,
        'p' | 'P' => true,
        _ => return None,
    };
    let rest = match text[1..].strip_prefix('.') {
        Some(rest) => rest.trim_start().strip_prefix(['m', 'M'])?.strip_prefix('.')?,
        None => text[1..].strip_prefix(['m', 'M'])?,
    };
    parsed.set_ampm(is_afternoon).ok()?;
    Some(rest)
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

fn take_zone<'a>(text: &'a str, zone: &mut Option<&'a str>) -> Option<&'a str> {
    let length = text.bytes().take_while(|byte| is_name_byte(*byte)).count();
    let (name, rest) = text.split_at(length);
    *zone = Some(name).filter(|name| !name.is_empty());
    zone.is_some().then_some(rest)
}

/// Splits a pattern. An error says why the pattern is invalid, if there is more to say than that.
pub(super) fn pieces(text: &str) -> Result<Vec<PatternPiece>, Option<String>> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let padded = rest[1..].trim_start_matches(['-', '_', '0']);
        let letter = padded.chars().next().ok_or(None)?;
        let behind = &padded[letter.len_utf8()..];
        let own = match letter {
            'f' => Some(PatternPiece::Fraction),
            'Z' => Some(PatternPiece::Zone),
            'z' => Some(PatternPiece::Offset),
            'b' | 'h' | 'B' => Some(PatternPiece::Month),
            'p' | 'P' => Some(PatternPiece::HalfOfDay),
            ':' if behind.starts_with('z') => Some(PatternPiece::Offset),
            _ => None,
        };
        if let Some(own) = own {
            flush(&mut pieces, &mut plain)?;
            pieces.push(own);
            rest = behind.strip_prefix('z').filter(|_| letter == ':').unwrap_or(behind);
            continue;
        }
        match letter {
            // Long or short names, as `strptime` reads them.
            'a' | 'A' => plain.push_str("%A"),
            'd' | 'e' | 'm' | 'Y' | 'y' | 'j' | 'H' | 'k' | 'I' | 'l' | 'M' | 'S' | 'D' | 'F' | 'T' | 'R' | 's'
            | 'u' | 'w' | 'n' | 't' | '%' => plain.push_str(&rest[..rest.len() - behind.len()]),
            // `chrono`'s fractions with a point: optional, or with a fixed number of digits.
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
                return Err(Some(format!("%{letter} counts weeks, quarters or centuries, which do not make a date")));
            }
            _ => return Err(None),
        }
        rest = behind;
    }
    plain.push_str(rest);
    flush(&mut pieces, &mut plain)?;
    Ok(pieces)
}

fn flush(pieces: &mut Vec<PatternPiece>, plain: &mut String) -> Result<(), Option<String>> {
    let items = StrftimeItems::new(plain).parse_to_owned().map_err(|_| None)?;
    plain.clear();
    let is_number = |item: &Item<'_>| matches!(item, Item::Numeric(number, _) if *number != Numeric::Timestamp);
    for (at, item) in items.iter().enumerate() {
        let is_behind_number = at > 0 && is_number(&items[at - 1]);
        let is_before_number = items.get(at + 1).is_some_and(is_number);
        let is_blank = matches!(item, Item::Space(_) | Item::OwnedSpace(_));
        match pieces.last_mut() {
            Some(PatternPiece::Numbers(numbers)) if is_behind_number && is_number(item) => numbers.push(item.clone()),
            _ if is_number(item) && is_before_number => pieces.push(PatternPiece::Numbers(vec![item.clone()])),
            _ if is_blank && is_behind_number && is_before_number => pieces.push(PatternPiece::Blank),
            Some(PatternPiece::Items(others)) => others.push(item.clone()),
            _ => pieces.push(PatternPiece::Items(vec![item.clone()])),
        }
    }
    Ok(())
}

/// Fails if a pattern does not cover a whole date, or covers only part of a time.
pub(super) fn complete(pieces: &[PatternPiece]) -> Result<(), &'static str> {
    let items = || {
        let of_chrono = pieces.iter().filter_map(|piece| match piece {
            PatternPiece::Items(items) | PatternPiece::Numbers(items) => Some(items),
            _ => None,
        });
        of_chrono.flatten()
    };
    let has =
        |wanted: &[Numeric]| items().any(|item| matches!(item, Item::Numeric(numeric, _) if wanted.contains(numeric)));
    let has_date = has(&[Numeric::Day, Numeric::Month, Numeric::Year, Numeric::YearMod100, Numeric::Ordinal]);
    let has_hour = has(&[Numeric::Hour]) || has(&[Numeric::Hour12]);
    let has_second = has(&[Numeric::Second]);
    if has(&[Numeric::Timestamp]) {
        let has_zone = pieces.contains(&PatternPiece::Offset) || pieces.contains(&PatternPiece::Zone);
        let is_alone = !has_date && !has_hour && !has(&[Numeric::Minute]) && !has_second && !has_zone;
        return if is_alone { Ok(()) } else { Err("%s is a date and time, and must stand alone") };
    }
    let has_month = has(&[Numeric::Month]) || pieces.contains(&PatternPiece::Month);
    let has_day = has(&[Numeric::Day]) && has_month || has(&[Numeric::Ordinal]);
    if !(has_day && has(&[Numeric::Year, Numeric::YearMod100])) {
        return Err("it needs a day (%d), a month (%m or %b) and a year (%Y or %y)");
    }
    if has(&[Numeric::Hour12]) != pieces.contains(&PatternPiece::HalfOfDay) {
        return Err("%I and %p go together");
    }
    if has(&[Numeric::Minute]) != has_hour {
        return Err("hours and minutes go together");
    }
    if has_second && !has_hour {
        return Err("seconds need hours and minutes");
    }
    let has_fraction = pieces.contains(&PatternPiece::Fraction);
    if has_fraction && !has_second {
        return Err("%f is a fraction of a second, and needs %S");
    }
    Ok(())
}

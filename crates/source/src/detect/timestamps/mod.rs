//! The timestamp format of a sample. Swapped days and months go unnoticed, so ambiguous timestamps
//! are rejected with both readings.

use std::sync::LazyLock;

use assay_transaction::{DecidedBy, Timestamp, TimestampFormat, trimmed};

use super::{Detected, SampleText, UndecidedFormat, format_count, is_more_than_slips, nearly_all};

/// Dates of countries, spreadsheets, databases and older systems.
#[rustfmt::skip]
const DATES: [&str; 42] = [
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%d %m %Y", "%m %d %Y", "%d/%m/%y",
    "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%d.%m.%y", "%m.%d.%y", "%y.%m.%d", "%Y-%m-%d",
    "%Y/%m/%d", "%Y.%m.%d", "%Y %m %d", "%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%d%m%y", "%m%d%y", "%d-%b-%Y",
    "%d %b %Y", "%d/%b/%Y", "%d%b%Y", "%d-%b-%y", "%y-%b-%d", "%d %b %y", "%y %b %d", "%d/%b/%y", "%y/%b/%d",
    "%d%b%y", "%d. %b %Y", "%b %d, %Y", "%b %d %Y", "%Y-%b-%d",
];
/// Times that may follow a date.
#[rustfmt::skip]
const TIMES: [&str; 44] = [
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %H:%M:%S,%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f",
    "T%H:%M:%S,%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p", " %I:%M:%S%p", " %I:%M:%S.%f %p", " %I.%M.%S %p",
    " %I.%M.%S.%f %p", " %H.%M", " %H.%M.%S", " %H.%M.%S.%f", "-%H.%M.%S.%f", ", %H:%M", ", %H:%M:%S", ", %I:%M %p",
    ", %I:%M:%S %p", "%H%M", "%H%M%S", "%H%M%S%f", " %H%M%S", " %H:%M %Z", " %H:%M:%S %Z", " %H:%M:%S.%f %Z",
    " %H:%M %z", " %H:%M:%S %z", " %H:%M:%S.%f %z", " %H:%M:%S%z", " %I:%M %p %Z", " %I:%M:%S %p %Z",
    " %I.%M.%S.%f %p %z", "T%H:%M:%S%z", "T%H%M%S%z", "T%H%M%S", ":%H:%M:%S", ":%H:%M:%S.%f", ":%H:%M:%S %z",
];
/// Formats in another order.
const OTHERS: [&str; 8] = [
    "%a %b %d %H:%M:%S %Z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%a, %d %b %Y %H:%M:%S %z", //
    "%a %d %b %Y %H:%M:%S",
    "%H:%M:%S %d/%m/%Y",
    "%H:%M:%S %m/%d/%Y",
    "%H:%M:%S %d.%m.%Y",
];
/// Counts since 1970, with their number of digits from 2001 to 2286.
const EPOCHS: [(&str, usize); 4] =
    [("epoch-seconds", 10), ("epoch-milliseconds", 13), ("epoch-microseconds", 16), ("epoch-nanoseconds", 19)];
/// Spreadsheet days since 1899-12-30, with their number of digits from 1927 to 2173.
const SERIAL_DAYS: (&str, usize) = ("serial-days", 5);
/// Most timestamps examined.
const SAMPLE: usize = 5_000;
/// Timestamps across the sample, one of which a format must read to be tried on all.
const PROBES: usize = 60;

/// A format that timestamps may be in.
#[derive(Clone)]
struct CandidateFormat {
    format: TimestampFormat,
    name: String,
    /// Exact number of leading digits, if fixed: `chrono` accepts fewer.
    leading_digits: Option<usize>,
    /// Fewest words of a text: blanks in a pattern are optional.
    words: usize,
}

impl CandidateFormat {
    fn new(name: &str, leading_digits: Option<usize>) -> Option<Self> {
        let words = name.split(' ').count();
        Some(Self { format: name.parse().ok()?, name: name.to_owned(), leading_digits, words })
    }

    /// The timestamp that a text is in this format.
    fn reading(&self, text: &str) -> Option<Timestamp> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        if self.leading_digits.is_some_and(|leading_digits| leading_digits != digits)
            || text.split_whitespace().count() < self.words
        {
            return None;
        }
        // Halves of days and offsets are not names of zones.
        let is_half = |word: &str| word.eq_ignore_ascii_case("am") || word.eq_ignore_ascii_case("pm");
        let has_half = self.name.contains("%p");
        let is_no_zone = |word: &str| !has_half && is_half(word) || word.starts_with(['+', '-']);
        if self.name.contains("%Z") && text.split_whitespace().any(is_no_zone) {
            return None;
        }
        self.format.reads_as_evidence(text)
    }

    /// The order of day, month and year: formats with different orders are rivals even if they agree on the sample.
    fn order(&self) -> Vec<char> {
        let places = self.name.split('%').skip(1).filter_map(|item| item.chars().next());
        places
            .map(|item| if matches!(item, 'b' | 'B') { 'm' } else { item.to_ascii_lowercase() })
            .filter(|item| "dmy".contains(*item))
            .collect()
    }
}

/// The number of digits that a pattern begins with; none if it varies.
fn leading_digits(pattern: &str) -> Option<usize> {
    let mut rest = pattern;
    let (mut digits, mut items) = (0, 0);
    while let Some(item) = rest.strip_prefix('%').and_then(|rest| rest.chars().next()) {
        digits += match item {
            'Y' => 4,
            'f' => 3,
            'y' | 'm' | 'd' | 'H' | 'M' | 'S' => 2,
            _ => break,
        };
        items += 1;
        rest = &rest[2..];
    }
    let is_fixed = items > 1 || pattern.starts_with("%y") || pattern.starts_with("%Y");
    is_fixed.then_some(digits)
}

/// All formats except ISO 8601: about 1,900, built once.
static CANDIDATES: LazyLock<Vec<CandidateFormat>> = LazyLock::new(|| {
    let dated = DATES.iter().flat_map(|date| TIMES.iter().map(move |time| format!("{date}{time}")));
    let patterns = dated.chain(OTHERS.iter().map(ToString::to_string));
    let patterns = patterns.filter_map(|pattern| CandidateFormat::new(&pattern, leading_digits(&pattern)));
    patterns.chain(EPOCHS.iter().filter_map(|(name, digits)| CandidateFormat::new(name, Some(*digits)))).collect()
});

/// A format, and what it reads of the sample.
struct FormatReadings {
    form: CandidateFormat,
    read: Vec<Option<Timestamp>>,
    count: usize,
}

impl FormatReadings {
    fn new(form: CandidateFormat, sample: &[&str]) -> Self {
        let read: Vec<_> = sample.iter().map(|text| form.reading(text)).collect();
        let count = read.iter().flatten().count();
        Self { form, read, count }
    }

    /// Positions that only this of the two reads.
    fn alone<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> {
        let both = self.read.iter().zip(&other.read).enumerate();
        both.filter(|(_, (one, other))| one.is_some() && other.is_none()).map(|(place, _)| place)
    }

    /// The first position that both read differently.
    fn conflict(&self, other: &Self) -> Option<usize> {
        let both = self.read.iter().zip(&other.read);
        both.into_iter().position(|(one, other)| matches!((one, other), (Some(one), Some(other)) if one != other))
    }

    /// Whether later values may read differently, even if none of the sample does.
    fn differs(&self, other: &Self) -> bool {
        self.conflict(other).is_some()
            || self.form.order() != other.form.order() && self.shares(other)
            || self.is_rival(other)
    }

    /// Whether only the order of day, month and year, or the length of the year, differs.
    fn is_rival(&self, other: &Self) -> bool {
        self.form.format.rivals().contains(&other.form.format)
    }

    fn shares(&self, other: &Self) -> bool {
        self.read.iter().zip(&other.read).any(|(one, other)| one.is_some() && other.is_some())
    }
}

/// The format: ISO 8601 if it reads nearly all, otherwise the only format that does, otherwise ISO 8601 if it reads
/// any.
pub(crate) fn detect(timestamps: &[SampleText]) -> Result<Detected<TimestampFormat>, UndecidedFormat> {
    let sampled: Vec<&SampleText> = timestamps.iter().filter(|it| !trimmed(&it.text).is_empty()).take(SAMPLE).collect();
    let sample: Vec<&str> = sampled.iter().map(|it| trimmed(&it.text)).collect();
    let count = sample.len();
    let is_iso = |text: &&str| TimestampFormat::Iso.reads_as_evidence(text).is_some();
    let iso = sample.iter().filter(|text| is_iso(text)).count();
    if count == 0 {
        return Ok(default("the sample has no timestamp".to_owned()));
    }
    if nearly_all(iso, count) {
        let example = sample.iter().position(is_iso).map(|place| sampled[place]);
        return Ok(detected(TimestampFormat::Iso, share(iso, count, example)));
    }
    let readings = readings(&sample);
    // Of equals the first: formats are ordered by popularity.
    let best = readings.iter().rev().max_by_key(|readings| readings.count);
    if let Some(best) = best.filter(|best| best.count > 0) {
        for other in readings.iter().filter(|other| best.differs(other)) {
            check_rival(best, other, &sampled)?;
        }
        if nearly_all(best.count, count) {
            return Ok(detected(best.form.format.clone(), evidence(best, &readings, &sampled)));
        }
    }
    serial_days(&sample, &sampled)?;
    match best {
        Some(best) if best.count > 0 && (iso == 0 || best.count > iso && best.count * 2 > count) => {
            let other = sampled.iter().zip(&best.read).find(|(_, read)| read.is_none());
            Err(UndecidedFormat::FewTimestamps {
                read: best.count,
                of: count,
                form: best.form.name.clone(),
                other: other.map(|(it, _)| it.to_string()).unwrap_or_default(),
            })
        }
        _ if iso > 0 => Ok(default(format!("it reads {}; no other format reads nearly all", share(iso, count, None)))),
        _ => Ok(default(format!("no known format reads {}", sampled[0]))),
    }
}

/// The formats that read anything.
fn readings(sample: &[&str]) -> Vec<FormatReadings> {
    let step = sample.len().div_ceil(PROBES).max(1);
    let probes: Vec<&str> = sample.iter().copied().step_by(step).collect();
    let likely = CANDIDATES.iter().filter(|form| probes.iter().any(|text| form.reading(text).is_some()));
    likely.map(|form| FormatReadings::new(form.clone(), sample)).collect()
}

/// Rejects the sample if it does not prove the format against a rival.
fn check_rival(best: &FormatReadings, other: &FormatReadings, sample: &[&SampleText]) -> Result<(), UndecidedFormat> {
    let count = sample.len();
    let (one, two) = (best.alone(other).count(), other.alone(best).count());
    if !nearly_all(best.count + two, count) {
        return Ok(());
    }
    if is_more_than_slips(one, count)
        && is_more_than_slips(two, count)
        && (best.conflict(other).is_some() || best.is_rival(other))
    {
        let [one, two] = [(best, other), (other, best)].map(|(readings, other)| {
            let example = readings.alone(other).next().map(|place| sample[place].to_string());
            (example.unwrap_or_default(), readings.form.name.clone())
        });
        return Err(UndecidedFormat::MixedTimestamps { readings: Box::new([one, two]) });
    }
    if is_more_than_slips(one, count) || !nearly_all(other.count, best.count) {
        return Ok(());
    }
    let place = best.conflict(other).or_else(|| best.read.iter().position(Option::is_some)).unwrap_or_default();
    Err(UndecidedFormat::AmbiguousTimestamps {
        example: sample[place].to_string(),
        forms: Box::new([best, other].map(|readings| readings.form.name.clone())),
    })
}

/// The evidence for a format.
fn evidence(best: &FormatReadings, readings: &[FormatReadings], sample: &[&SampleText]) -> String {
    let rival = readings.iter().filter(|other| best.differs(other)).max_by_key(|other| other.count);
    let place = rival.and_then(|rival| best.alone(rival).next());
    let place = place.or_else(|| best.read.iter().position(Option::is_some)).unwrap_or_default();
    let shown = share(best.count, sample.len(), Some(sample[place]));
    match rival {
        Some(rival) => format!("{shown}, which {} does not read", rival.form.name),
        None => shown,
    }
}

/// Serial days look like many other numbers, so they are never assumed.
fn serial_days(sample: &[&str], sampled: &[&SampleText]) -> Result<(), UndecidedFormat> {
    let (name, digits) = SERIAL_DAYS;
    let Some(form) = CandidateFormat::new(name, Some(digits)) else { return Ok(()) };
    let readings = FormatReadings::new(form, sample);
    let Some(place) = readings.read.iter().position(Option::is_some) else { return Ok(()) };
    if !nearly_all(readings.count, sample.len()) {
        return Ok(());
    }
    // The year is no row content, and distinguishes serial days from other numbers.
    let date = readings.read[place].map(|at| at.to_string()).unwrap_or_default();
    let year = date.split('-').next().unwrap_or_default().to_owned();
    Err(UndecidedFormat::SerialDays { example: sampled[place].to_string(), year })
}

fn share(read: usize, of: usize, example: Option<&SampleText>) -> String {
    let such_as = example.map(|example| format!(", such as {example}")).unwrap_or_default();
    format!("{} of {} values{such_as}", format_count(read), format_count(of))
}

fn detected(value: TimestampFormat, evidence: String) -> Detected<TimestampFormat> {
    Detected { value, by: DecidedBy::Recognised, evidence }
}

fn default(evidence: String) -> Detected<TimestampFormat> {
    Detected { value: TimestampFormat::Iso, by: DecidedBy::Default, evidence }
}

#[cfg(test)]
mod tests;

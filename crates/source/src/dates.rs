//! Which pattern the timestamps of a head are written in. What reads in two ways is refused, with both readings: a month
//! that is taken for a day is an error that nobody sees.

use assay_transaction::{ReadingRules, TimeZone, Timestamp, TimestampFormat};

use crate::SourceError;

/// Dates, as countries, spreadsheets and older systems write them.
const DATES: [&str; 18] = [
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", //
    "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d.%m.%y", "%m.%d.%y", //
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d-%b-%Y", "%d %b %Y",
];
/// What may follow a date.
const TIMES: [&str; 8] = ["", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", "%H%M%S"];
/// Timestamps that are looked at.
const SAMPLE: usize = 2_000;

/// The format under which most of the timestamps are some; ISO 8601 where that is one of them.
pub(crate) fn recognise(timestamps: &[String]) -> Result<TimestampFormat, SourceError> {
    let sample: Vec<&str> =
        timestamps.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).take(SAMPLE).collect();
    let read = |format: &TimestampFormat| sample.iter().filter(|text| reading(format, text).is_some()).count();
    let iso = read(&TimestampFormat::Iso);
    if iso * 2 > sample.len() || sample.is_empty() {
        return Ok(TimestampFormat::Iso);
    }
    let patterns = DATES.iter().flat_map(|date| TIMES.iter().map(move |time| format!("{date}{time}")));
    let mut best: (usize, Vec<TimestampFormat>) = (iso, vec![TimestampFormat::Iso]);
    for format in patterns.filter_map(|pattern| pattern.parse::<TimestampFormat>().ok()) {
        match read(&format) {
            0 => {}
            count if count > best.0 => best = (count, vec![format]),
            count if count == best.0 => best.1.push(format),
            _ => {}
        }
    }
    let mut best = best.1.into_iter();
    let (Some(format), other) = (best.next(), best.next()) else { return Ok(TimestampFormat::Iso) };
    let Some(other) = other.filter(|_| format != TimestampFormat::Iso) else { return Ok(format) };
    // One that shows the difference, where there is one.
    let both = |text: &&&str| {
        let (one, two) = (reading(&format, text), reading(&other, text));
        one.is_some() && two.is_some() && one != two
    };
    let example = sample.iter().find(both).or_else(|| sample.iter().find(|text| reading(&format, text).is_some()));
    let example = example.copied().unwrap_or_default();
    let shown = |format: &TimestampFormat| reading(format, example).map(|at| at.to_string()).unwrap_or_default();
    Err(SourceError::AmbiguousTimestamps {
        example: example.to_owned(),
        readings: Box::new([(shown(&format), format.to_string()), (shown(&other), other.to_string())]),
    })
}

fn reading(format: &TimestampFormat, text: &str) -> Option<Timestamp> {
    format.parse(text, TimeZone::UTC, ReadingRules::Second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(timestamps: &[&str]) -> Result<String, String> {
        let timestamps: Vec<_> = timestamps.iter().map(ToString::to_string).collect();
        recognise(&timestamps).map(|format| format.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_only_be_read_in_one_way_is_recognised() {
        let cases: [(&[&str], &str); 16] = [
            (&[], "iso"),
            (&["", " "], "iso"),
            (&["2023-11-28 06:35:12"], "iso"),
            (&["2023-11-28T06:35:12Z", "03/04/2024"], "iso"),
            (&["rubbish", "more"], "iso"),
            (&["03/04/2024 10:30", "25/04/2024 10:30"], "%d/%m/%Y %H:%M"),
            (&["03/04/2024 10:30", "04/25/2024 10:30"], "%m/%d/%Y %H:%M"),
            (&["13.04.2024"], "%d.%m.%Y"),
            (&["13/04/24 09:00:00"], "%d/%m/%y %H:%M:%S"),
            (&["2024-04-03"], "%Y-%m-%d"),
            (&["2024-04-03 10:30"], "%Y-%m-%d %H:%M"),
            (&["2024/04/03 10:30:00"], "%Y/%m/%d %H:%M:%S"),
            (&["20240403"], "%Y%m%d"),
            (&["20240403103000"], "%Y%m%d%H%M%S"),
            (&["04/13/2024 10:30 PM"], "%m/%d/%Y %I:%M %p"),
            (&["03-Apr-2024 10:30:00"], "%d-%b-%Y %H:%M:%S"),
        ];
        for (timestamps, expected) in cases {
            assert_eq!(recognised(timestamps).as_deref(), Ok(expected), "{timestamps:?}");
        }
    }

    #[test]
    fn what_reads_in_two_ways_is_refused_with_both() {
        assert_eq!(
            recognised(&["05/05/2024 10:30", "03/04/2024 10:30"]).unwrap_err(),
            "timestamps such as `03/04/2024 10:30` are ambiguous: 2024-04-03T10:30:00Z by %d/%m/%Y %H:%M, or \
             2024-03-04T10:30:00Z by %m/%d/%Y %H:%M; set TIMESTAMP_FORMAT to the one that is meant"
        );
        let same = recognised(&["05/05/2024"]).unwrap_err();
        assert!(same.contains("`05/05/2024`") && same.contains("%d/%m/%Y") && same.contains("%m/%d/%Y"), "{same}");
    }

    #[test]
    fn a_few_broken_ones_do_not_decide() {
        let mut many: Vec<_> = (1..=28).map(|day| format!("{day:02}/01/2024")).collect();
        many.push("2024-01-01 00:00:00".to_owned());
        many.push("n/a".to_owned());
        assert_eq!(recognise(&many).unwrap().to_string(), "%d/%m/%Y");
    }
}

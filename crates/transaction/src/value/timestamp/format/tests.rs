//! Every timestamp format, and texts that match none.

use super::*;

fn read(format: &str, text: &str, zone: &str) -> Result<String, TimestampError> {
    let format: TimestampFormat = format.parse().unwrap();
    format.parse(text, zone.parse().unwrap(), ReadingRules::Second).map(|timestamp| timestamp.to_string())
}

fn in_paris(format: &str, text: &str) -> Result<String, TimestampError> {
    read(format, text, "Europe/Paris")
}

#[test]
fn reads_what_other_systems_write() {
    for (pattern, text, expected) in [
        ("iso", "2023-11-28T06:35:12Z", "2023-11-28T06:35:12Z"),
        ("iso", "2024-03-15 10:00:00", "2024-03-15T09:00:00Z"),
        ("iso", "2024-03-15 10:00:00 UTC", "2024-03-15T10:00:00Z"),
        ("iso", "2024-03-15 10:00:02.123456 UTC", "2024-03-15T10:00:02.123456Z"),
        ("iso", "2024-03-15 10:00:00UTC", "2024-03-15T10:00:00Z"),
        ("iso", "2024-03-15 10:00:00 gmt", "2024-03-15T10:00:00Z"),
        ("iso", "2024-03-15T10:00:00 Z", "2024-03-15T10:00:00Z"),
        ("iso", "2024-03-15 10:30:00.0000000 +00:00", "2024-03-15T10:30:00Z"),
        ("iso", "2024-03-15 10:30:01.1234567\u{a0}+02:00", "2024-03-15T08:30:01.123456Z"),
        ("iso", "2024-03-15 10:30:02.5 +0000", "2024-03-15T10:30:02.500000Z"),
        ("iso", "2024-03-15 10:30:01.5+05:30", "2024-03-15T05:00:01.500000Z"),
        ("iso", "2024-03-15 10:00:00 EST", "2024-03-15T15:00:00Z"),
        ("iso", "2024-10-27 02:15:00 CET", "2024-10-27T01:15:00Z"),
        ("iso", "2024-03-15T10:00:00+05:30[Asia/Kolkata]", "2024-03-15T04:30:00Z"),
        ("iso", "2024-03-15T10:00:00Z[UTC]", "2024-03-15T10:00:00Z"),
        ("iso", "2024-03-15T10:00:00[America/New_York]", "2024-03-15T14:00:00Z"),
        // The second occurrence of the repeated hour.
        ("iso", "2024-10-27T02:30:00+02:00[Europe/Paris]", "2024-10-27T00:30:00Z"),
        ("iso", "2024-10-27T02:30:00+01:00[Europe/Paris]", "2024-10-27T01:30:00Z"),
        // As Go writes it, and Java if the seconds are zero.
        ("iso", "2024-03-15 10:30:00.123456789 +0200 CEST", "2024-03-15T08:30:00.123456Z"),
        ("iso", "2024-03-15 10:30:00 +0000 UTC", "2024-03-15T10:30:00Z"),
        ("iso", "2024-03-15T10:30", "2024-03-15T09:30:00Z"),
        ("iso", "2024-03-15T10:30Z", "2024-03-15T10:30:00Z"),
        ("iso", "2024-03-15T10:30-05:00", "2024-03-15T15:30:00Z"),
        ("iso", "2024-03-15T10:30+01:00[Europe/Paris]", "2024-03-15T09:30:00Z"),
        ("iso", "2024-03-15 10:30 UTC", "2024-03-15T10:30:00Z"),
        ("iso", "2024-03-15 10:00:00 America/New_York", "2024-03-15T14:00:00Z"),
        ("%d/%m/%Y %H:%M", "03/04/2024 10:30", "2024-04-03T08:30:00Z"),
        ("%m/%d/%Y %H:%M", "03/04/2024 10:30", "2024-03-04T09:30:00Z"),
        ("%d.%m.%Y", "5.1.2024", "2024-01-04T23:00:00Z"),
        ("%m/%d/%Y %I:%M:%S %p", "03/04/2024 10:30:05 PM", "2024-03-04T21:30:05Z"),
        ("%m/%d/%y %I:%M %p", "3/15/24 2:05\u{202f}PM", "2024-03-15T13:05:00Z"),
        ("%m/%d/%Y %I:%M %p", "03/15/2024 12:05 am", "2024-03-14T23:05:00Z"),
        ("%d-%b-%y %H:%M", "03-Apr-24 10:30", "2024-04-03T08:30:00Z"),
        ("%d %b %Y", "3 April 2024", "2024-04-02T22:00:00Z"),
        ("%d %B %Y", "3 APR 2024", "2024-04-02T22:00:00Z"),
        ("%d %b %Y", "3 Sept 2024", "2024-09-02T22:00:00Z"),
        ("%d %b %Y", "3 september 2024", "2024-09-02T22:00:00Z"),
        ("%d%b%y", "03MAY24", "2024-05-02T22:00:00Z"),
        ("%m/%d/%Y %I:%M %p", "03/15/2024 2:05 p.m.", "2024-03-15T13:05:00Z"),
        ("%m/%d/%Y %I:%M%p", "03/15/2024 2:05A.\u{a0}M.", "2024-03-15T01:05:00Z"),
        // The first of adjacent numbers may lack its zero if the pattern allows it.
        ("%Y%m%d %H%M%S", "20240315 093015", "2024-03-15T08:30:15Z"),
        ("%Y%m%d %-H%M%S", "20240315 13015", "2024-03-15T00:30:15Z"),
        ("%Y%m%d %-H%M%S", "20240315 130150", "2024-03-15T12:01:50Z"),
        ("%Y%m%d %k%M", "20240315  930", "2024-03-15T08:30:00Z"),
        ("%-d%m%y", "10424", "2024-03-31T22:00:00Z"),
        ("%m/%d/%y", "3/4/5", "2005-03-03T23:00:00Z"),
        ("%Y%m%d%H%M%S", "20240403103000", "2024-04-03T08:30:00Z"),
        ("%Y%m%d%H%M%S%f", "20240403103000250", "2024-04-03T08:30:00.250000Z"),
        ("%d/%m/%Y %H:%M:%S %z", "03/04/2024 10:30:00 +0000", "2024-04-03T10:30:00Z"),
        ("%d/%m/%Y %H:%M:%S%z", "03/04/2024 10:30:00+05:30", "2024-04-03T05:00:00Z"),
        ("%d/%m/%Y %H:%M:%S%:z", "03/04/2024 10:30:00Z", "2024-04-03T10:30:00Z"),
        ("%a %b %d %H:%M:%S %z %Y", "Fri Mar 15 10:30:00 +0100 2024", "2024-03-15T09:30:00Z"),
        // Fractions.
        ("%d/%m/%Y %H:%M:%S.%f", "15/03/2024 10:00:00.5", "2024-03-15T09:00:00.500000Z"),
        ("%d/%m/%Y %H:%M:%S.%f", "16/03/2024 10:00:00.123", "2024-03-16T09:00:00.123000Z"),
        ("%d/%m/%Y %H:%M:%S,%f", "25/03/2024 10:00:00,123456789", "2024-03-25T09:00:00.123456Z"),
        ("%d-%b-%y %I.%M.%S.%f %p", "28-MAR-24 02.30.00.000000 PM", "2024-03-28T13:30:00Z"),
        ("%Y-%m-%d %H:%M:%S%.f", "2024-03-15 10:00:00", "2024-03-15T09:00:00Z"),
        ("%Y-%m-%d %H:%M:%S%.f", "2024-03-15 10:00:00.05", "2024-03-15T09:00:00.050000Z"),
        // Zone names.
        ("%Y-%m-%d %H:%M:%S %Z", "2024-03-15 10:00:00 PST", "2024-03-15T18:00:00Z"),
        ("%Y-%m-%d %H:%M:%S %Z", "2024-03-15 10:00:00 CEST", "2024-03-15T08:00:00Z"),
        ("%Y-%m-%d %H:%M:%S %Z", "2024-10-27 02:30:00 CEST", "2024-10-27T00:30:00Z"),
        ("%Y-%m-%d %H:%M:%S %Z", "2024-10-27 02:30:00 CET", "2024-10-27T01:30:00Z"),
        ("%a %b %d %H:%M:%S %Z %Y", "Fri Mar 15 10:30:00 UTC 2024", "2024-03-15T10:30:00Z"),
        ("%Y-%m-%d %H:%M:%S %z (%Z)", "2024-03-15 10:30:00 +0530 (IST)", "2024-03-15T05:00:00Z"),
        // The other names with a general meaning.
        ("%F %T", "2024-04-03 10:30:00", "2024-04-03T08:30:00Z"),
        ("%D %R", "04/03/24 10:30", "2024-04-03T08:30:00Z"),
        ("%Y-%j", "2024-094", "2024-04-02T22:00:00Z"),
        ("%e %b %Y %k:%M", " 3 Apr 2024  9:30", "2024-04-03T07:30:00Z"),
        ("%-d/%-m/%Y %l:%M %p", "3/4/2024  9:30 AM", "2024-04-03T07:30:00Z"),
        ("%d/%m/%Y %H:%M", "03/04/2024   10:30", "2024-04-03T08:30:00Z"),
        ("%d/%m/%y", "03/04/68", "2068-04-02T22:00:00Z"),
        ("%d/%m/%y", "03/04/69", "1969-04-02T23:00:00Z"),
        ("%d/%m/%Y", "03/04/1720", "1720-04-02T23:50:39Z"),
        ("%s", "1710496800", "2024-03-15T10:00:00Z"),
        // Counts.
        ("epoch-seconds", "1710496800", "2024-03-15T10:00:00Z"),
        ("epoch-seconds", "1710496800.123", "2024-03-15T10:00:00.123000Z"),
        ("epoch-seconds", "1.7104968E9", "2024-03-15T10:00:00Z"),
        ("epoch-milliseconds", "1710496800123", "2024-03-15T10:00:00.123000Z"),
        ("epoch-microseconds", "1710496800123456", "2024-03-15T10:00:00.123456Z"),
        ("epoch-nanoseconds", "1710496800123456789", "2024-03-15T10:00:00.123456Z"),
        ("epoch-nanoseconds", "-1", "1969-12-31T23:59:59.999999Z"),
        ("serial-days", "45367", "2024-03-15T23:00:00Z"),
        ("serial-days", "45367.4375", "2024-03-16T09:30:00Z"),
        ("serial-days", "45367.416666666664", "2024-03-16T09:00:00Z"),
        ("serial-days", "45367,5", "2024-03-16T11:00:00Z"),
        ("serial-days", "45,367.5", "2024-03-16T11:00:00Z"),
        ("epoch-seconds", "1,710,496,800", "2024-03-15T10:00:00Z"),
    ] {
        assert_eq!(in_paris(pattern, text).as_deref(), Ok(expected), "{pattern} {text}");
    }
}

#[test]
fn texts_outside_the_format_are_rejected() {
    use TimestampError::{Format, Gap, Pattern, Zone};
    let count = |unit| TimestampError::Count { unit, first: 1900, last: 2100 };
    for (format, text, expected) in [
        ("%d/%m/%Y %H:%M", "", Pattern),
        ("%d/%m/%Y %H:%M", "13/13/2024 10:30", Pattern),
        ("%d/%m/%Y %H:%M", "31/02/2024 10:30", Pattern),
        ("%d/%m/%Y %H:%M", "03/04/2024", Pattern),
        ("%d/%m/%Y %H:%M", "03/04/2024 10:30:00", Pattern),
        ("%d/%m/%Y %H:%M", "03/04/2024 25:00", Pattern),
        ("%d/%m/%Y %H:%M", "03/04/2024 24:00", Pattern),
        ("%d/%m/%Y %H:%M", "03/04/24 10:30", Pattern),
        ("%d/%m/%Y %H:%M", "31/03/2024 02:30", Gap),
        ("%d/%m/%Y %H:%M:%S", "03/04/2024 10:30:60", Pattern),
        ("%d/%m/%Y %H:%M:%S.%f", "03/04/2024 10:30:00.", Pattern),
        ("%d/%m/%Y %H:%M:%S.%f", "03/04/2024 10:30:00.1234567890", Pattern),
        ("%m/%d/%Y %I:%M %p", "03/15/2024 13:05 PM", Pattern),
        ("%a %d %b %Y", "Mon 15 Mar 2024", Pattern),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 CST", Zone),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 XYZ", Zone),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 GMT+02:00", Zone),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 ", Pattern),
        ("%Y-%m-%d %H:%M %z (%Z)", "2024-03-15 10:00 +0100 (EST)", Zone),
        ("%Y-%m-%d %H:%M%z", "2024-03-15 10:00", Pattern),
        ("%s", "1710496800123", Pattern),
        // Adjacent numbers, one without its zero: which one is unknown.
        ("%Y%m%d", "2024115", Pattern),
        ("%d%m%Y", "1122024", Pattern),
        ("%d%m%y", "11124", Pattern),
        ("%y%m%d", "40105", Pattern),
        ("%Y%m%d %H%M%S", "20240315 13015", Pattern),
        ("%Y%m%d%H%M%S", "2024031513015", Pattern),
        ("%-d%m%y", "1424", Pattern),
        ("%d.%m.%y %H%M%S", "25.04.2010 1030", Pattern),
        ("%d.%m.%y %H%M%S", "25.04.20101030", Pattern),
        ("%d %b %Y", "3 Septe 2024", Pattern),
        ("%m/%d/%Y %I:%M %p", "03/15/2024 2:05 p.m", Pattern),
        ("iso", "2024-03-15 10:30-11:30", Format),
        ("iso", "2024-03-15T10:30:0", Format),
        ("iso", "2024-03-15T10", Format),
        ("iso", "2024-03-15 10:30 PM", Format),
        ("iso", "2024-03-15 10:30:00 +0100 EST", Zone),
        ("iso", "2024-03-15T10:00:00 Mars/Olympus", Zone),
        ("iso", "2024-03-31T02:30:00[Europe/Berlin]", Gap),
        ("iso", "2024-03-15 24:00:00", Format),
        ("iso", "2024-03-15 10:00:60", Format),
        ("iso", "2024-03-15 10:00:00 PM", Format),
        ("iso", "2024-03-15 10:00:00 BC", Format),
        ("iso", "2024-03-15 10:00:00 CST", Zone),
        ("iso", "2024-03-15T10:00:00+02:00[Asia/Tokyo]", Zone),
        ("iso", "2024-03-15T10:00:00[u-ca=hebrew]", Format),
        ("iso", "2024-03-15T10:00:00]", Format),
        ("iso", "2024-03-15 10:00:00 +25:00", Format),
        ("iso", "2024-03-15 10:00:00.1234567890Z", Format),
        ("iso", "infinity", Format),
        ("epoch-seconds", "1710496800123", count("seconds")),
        ("epoch-seconds", "2024-03-15", count("seconds")),
        ("epoch-milliseconds", "171049680012345", count("milliseconds")),
        ("serial-days", "1710496800", count("days")),
        ("serial-days", "", count("days")),
        // A day in 2024 if the comma groups, in 1900 if it does not.
        ("serial-days", "45,367", count("days")),
        ("serial-days", "99999999999999999999999999999999999999999", count("days")),
    ] {
        assert_eq!(in_paris(format, text), Err(expected), "{format} {text}");
    }
}

#[test]
fn an_ambiguous_pattern_is_rejected_with_a_reason() {
    for (pattern, expected) in [
        ("%Q", "neither iso"),
        ("%", "neither iso"),
        ("excel", "neither iso"),
        ("%H:%M", "needs a day"),
        ("%d/%m %H:%M", "and a year"),
        ("%d/%m/%Y %I:%M", "%I and %p"),
        ("%d/%m/%Y %H:%M %p", "%I and %p"),
        ("%d/%m/%Y %H", "hours and minutes"),
        ("%d/%m/%Y %S", "seconds need"),
        ("%d/%m/%Y %H:%M.%f", "needs %S"),
        ("%Y %U %u", "weeks"),
        ("%G-W%V-%u", "weeks"),
        ("%C%y-%m-%d", "centuries"),
        ("%c", "country"),
        ("%x", "country"),
        ("%Ey-%m-%d", "country"),
        ("%s %Z", "must stand alone"),
        ("%s %d", "must stand alone"),
    ] {
        let error = pattern.parse::<TimestampFormat>().unwrap_err();
        assert!(error.contains(expected) && error.contains(pattern), "{pattern}: {error}");
    }
}

#[test]
fn a_frozen_format_reads_back() {
    let counts = NAMED.map(|(name, _)| name);
    for text in counts.into_iter().chain(["%d/%m/%Y %H:%M"]) {
        let format: TimestampFormat = text.parse().unwrap();
        assert_eq!(format.to_string(), text);
        let json = serde_json::to_string(&format).unwrap();
        assert_eq!(serde_json::from_str::<TimestampFormat>(&json).unwrap(), format);
    }
    assert_eq!("ISO".parse(), Ok(TimestampFormat::Iso));
}

#[test]
fn a_run_of_the_first_rules_reads_as_before() {
    let read = |format: &str, text: &str| {
        let format: TimestampFormat = serde_json::from_str(&format!("\"{format}\"")).unwrap();
        format.parse(text, TimeZone::UTC, ReadingRules::First).map(|timestamp| timestamp.to_string())
    };
    // A count of nanoseconds, and a discarded name.
    assert_eq!(
        read("%d/%m/%Y %H:%M:%S.%f", "15/03/2024 10:00:00.500000000").as_deref(),
        Ok("2024-03-15T10:00:00.500000Z")
    );
    assert_eq!(read("%d/%m/%Y %H:%M:%S.%f", "15/03/2024 10:00:00.5").as_deref(), Ok("2024-03-15T10:00:00Z"));
    assert_eq!(read("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 EST").as_deref(), Ok("2024-03-15T10:00:00Z"));
    assert_eq!(read("%d/%m/%Y %U", "15/03/2024 10").as_deref(), Ok("2024-03-15T00:00:00Z"));
    assert_eq!(read("iso", "2024-03-15 10:00:00 UTC"), Err(TimestampError::Format));
}

#[test]
fn only_the_years_of_transactions_are_evidence() {
    let is_evidence =
        |format: &str, text: &str| format.parse::<TimestampFormat>().unwrap().reads_as_evidence(text).is_some();
    for (format, text, expected) in [
        ("%d/%m/%Y", " 15/03/2024\u{200e}", true),
        ("%d/%m/%Y", "15/03/1899", false),
        ("%d/%m/%Y", "15/03/2101", false),
        ("%Y%m%d", "17104968", false),
        ("iso", "1711-01-01 00:00:00", false),
        ("epoch-seconds", "1710496800", true),
        ("epoch-seconds", "1710496800123", false),
        ("serial-days", "45367.5", true),
        // Only the run's zone can tell.
        ("iso", "2024-03-15 10:00:00 IST", true),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 CST", true),
        ("%Y-%m-%d %H:%M %Z", "2024-03-15 10:00 Uhr", false),
        ("iso", "2024-03-15 10:00:00 Uhr", false),
    ] {
        assert_eq!(is_evidence(format, text), expected, "{format} {text}");
    }
}

#[test]
fn rivals_are_the_other_orders() {
    let rivals = |format: &str| -> Vec<String> {
        format.parse::<TimestampFormat>().unwrap().rivals().iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        rivals("%d/%m/%Y %H:%M"),
        ["%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "%y/%m/%d %H:%M", "%m/%d/%Y %H:%M", "%Y/%m/%d %H:%M"]
    );
    assert_eq!(rivals("%y-%m-%d"), ["%d-%m-%y", "%m-%d-%y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d"]);
    assert_eq!(rivals("%-d.%-m.%y")[0], "%m.%d.%y");
    assert_eq!(rivals("epoch-seconds"), ["epoch-milliseconds", "epoch-microseconds", "epoch-nanoseconds"]);
    for none in ["iso", "serial-days", "%d-%b-%Y", "%Y-%j", "%F"] {
        assert_eq!(rivals(none), [""; 0], "{none}");
    }
}

#[test]
fn the_repeated_hour_is_reported() {
    let paris: TimeZone = "Europe/Paris".parse().unwrap();
    for (format, text, expected) in [
        ("iso", "2024-10-27 02:15:00", true),
        ("iso", "2024-10-27 01:30:00", false),
        ("iso", "2024-10-27 02:15:00 CET", false),
        ("iso", "2024-10-27 02:15:00+01:00", false),
        ("iso", "2024-11-03 01:30:00 America/New_York", true),
        ("%Y-%m-%d %H:%M %Z", "2024-11-03 01:30 America/New_York", true),
        ("%d.%m.%Y %H:%M", "27.10.2024 02:15", true),
        ("serial-days", "45592.1", true),
        ("epoch-seconds", "1729990800", false),
    ] {
        let format: TimestampFormat = format.parse().unwrap();
        let moment = format.read(text, paris, ReadingRules::Second).unwrap();
        assert_eq!(moment.is_ambiguous_hour, expected, "{format} {text}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,40}") {
        for format in ["iso", "%d/%m/%Y %H:%M:%S.%f %z %Z", "%Y%m%d%H%M%S%f", "%s", "epoch-seconds", "serial-days"] {
            let _ = in_paris(format, &text);
            let _ = format.parse::<TimestampFormat>().unwrap().reads_as_evidence(&text);
        }
    }

    #[test]
    fn no_pattern_panics(pattern in "[%dmYyHMSfzZ./ -]{0,20}", text in "[0-9./ :-]{0,20}") {
        if let Ok(format) = pattern.parse::<TimestampFormat>() {
            let _ = format.parse(&text, TimeZone::UTC, ReadingRules::Second);
            let _ = format.rivals();
        }
    }
}

use super::*;

fn detected(timestamps: &[&str]) -> Result<String, String> {
    detect(&SampleText::rows(timestamps)).map(|found| found.value.to_string()).map_err(|error| error.to_string())
}

#[test]
fn unambiguous_timestamps_are_detected() {
    let cases: [(&[&str], &str); 65] = [
        (&[], "iso"),
        (&["", " ", "\u{200e}"], "iso"),
        (&["2023-11-28 06:35:12"], "iso"),
        (&["2023-11-28T06:35:12Z", "03/04/2024"], "iso"),
        (&["2024-03-15 10:00:00 UTC", "2024-03-15 10:00:02.123456 UTC"], "iso"),
        (&["2024-03-15 10:30:00+00", "2024-03-15 10:30:01.5+05:30", "infinity"], "iso"),
        (&["rubbish", "more"], "iso"),
        (&["0001-01-01 00:00:00", "0001-01-01 00:00:00"], "iso"),
        (&["03/04/2024 10:30", "25/04/2024 10:30"], "%d/%m/%Y %H:%M"),
        (&["03/04/2024 10:30", "04/25/2024 10:30"], "%m/%d/%Y %H:%M"),
        (&["13.04.2024"], "%d.%m.%Y"),
        (&["13.4.2024", "1.4.2024"], "%d.%m.%Y"),
        (&["15/04/99 09:00:00", "13/04/98 09:00:00"], "%d/%m/%y %H:%M:%S"),
        (&["3/15/24 2:05 PM", "3/28/24 11:00 AM"], "%m/%d/%y %I:%M %p"),
        (&["5/4/24", "15/4/24"], "%d/%m/%y"),
        (&["2024-04-03"], "%Y-%m-%d"),
        (&["2024-04-03 10:30"], "iso"),
        (&["2024-03-15T10:30Z", "2024-03-15T10:30:15+01:00"], "iso"),
        (&["2024-03-15 10:30:00 +0000 UTC", "2024-03-15 10:30:00.5 +0200 CEST"], "iso"),
        (&["20240315T103000Z"], "%Y%m%dT%H%M%S%z"),
        (&["15/03/2024 10:30:00Z", "16/03/2024 10:30:00+01:00"], "%d/%m/%Y %H:%M:%S%z"),
        (&["15/03/2024 10:30 +0100"], "%d/%m/%Y %H:%M %z"),
        (&["3/15/2024 10:30:00 PM EST"], "%m/%d/%Y %I:%M:%S %p %Z"),
        (&["2024-03-15, 10:30:00 a.m.", "2024-03-15, 10:30:00 p.\u{a0}m."], "%Y-%m-%d, %I:%M:%S %p"),
        (&["15 Sept 2024", "16 Oct 2024"], "%d %b %Y"),
        (&["15MAR2024:10:30:00"], "%d%b%Y:%H:%M:%S"),
        (&["15-MAR-99", "28-APR-99"], "%d-%b-%y"),
        (&["1710496800123456789"], "epoch-nanoseconds"),
        // Not time zones.
        (&["15.03.2024 10:30 Uhr"], "iso"),
        (&["2024-03-15 10:30 Uhr"], "iso"),
        (&["3/15/24 2:05 P"], "iso"),
        (&["2024/04/03 10:30:00"], "%Y/%m/%d %H:%M:%S"),
        (&["20240403"], "%Y%m%d"),
        (&["25122024", "03042024"], "%d%m%Y"),
        (&["20240403103000"], "%Y%m%d%H%M%S"),
        (&["20240403103000123"], "%Y%m%d%H%M%S%f"),
        (&["202404031030"], "%Y%m%d%H%M"),
        (&["04/13/2024 10:30 PM"], "%m/%d/%Y %I:%M %p"),
        (&["04/13/2024, 10:30:00 PM"], "%m/%d/%Y, %I:%M:%S %p"),
        (&["3/15/2024, 10:30:00\u{202f}AM", "3/25/2024, 11:30:00\u{202f}PM"], "%m/%d/%Y, %I:%M:%S %p"),
        (&["15.04.2024, 10:30"], "%d.%m.%Y, %H:%M"),
        (&["15.04.2024 10.30"], "%d.%m.%Y %H.%M"),
        (&["15/04/2024 10:30:00.25"], "%d/%m/%Y %H:%M:%S.%f"),
        (&["15/04/2024 10:30:00,250"], "%d/%m/%Y %H:%M:%S,%f"),
        (&["03-Apr-2024 10:30:00"], "%d-%b-%Y %H:%M:%S"),
        (&["03 Apr 2024", "04 MAY 2024"], "%d %b %Y"),
        (&["3 April 2024", "4 May 2024"], "%d %b %Y"),
        (&["Apr 3, 2024", "May 14, 2024"], "%b %d, %Y"),
        (&["15MAR2024"], "%d%b%Y"),
        (&["15/Mar/2024:10:30:00 +0000"], "%d/%b/%Y:%H:%M:%S %z"),
        (&["15-MAR-99 10.30.00.000000 AM", "28-MAR-99 02.30.00.000000 PM"], "%d-%b-%y %I.%M.%S.%f %p"),
        (&["2024-03-15-10.30.00.000000"], "%Y-%m-%d-%H.%M.%S.%f"),
        (&["Fri Mar 15 10:30:00 UTC 2024", "Thu Mar 28 11:30:00 UTC 2024"], "%a %b %d %H:%M:%S %Z %Y"),
        (&["Fri Mar 15 10:30:00 2024"], "%a %b %d %H:%M:%S %Y"),
        (&["Fri, 15 Mar 2024 10:30:00 GMT"], "%a, %d %b %Y %H:%M:%S %Z"),
        (&["Fri, 15 Mar 2024 10:30:00 +0100"], "%a, %d %b %Y %H:%M:%S %z"),
        (&["2024-03-15 10:00:00 EST", "2024-03-15 10:00:00 CEST"], "iso"),
        (&["25/03/2024 10:00:00 EST", "26/03/2024 10:00:00 CEST"], "%d/%m/%Y %H:%M:%S %Z"),
        (&["25/03/2024 10:00:00 +01:00"], "%d/%m/%Y %H:%M:%S %z"),
        (&["1710583200", "1710669600"], "epoch-seconds"),
        (&["1710496800123", "1735522822200"], "epoch-milliseconds"),
        (&["1710496800123456", "1710496801000000"], "epoch-microseconds"),
        (&["1710583200.25", "1710669600.5"], "epoch-seconds"),
        (&["2016-12-31 23:59:60", "2024-3-5 9:05:00", "2024-03-15T10:00:00Z", "2024-03-15 11:00:00"], "iso"),
        (&["2024-3-5 9:05:00", "2024-3-6 9:05:00", "2024-03-15T10:00:00Z", "x", "x", "x", "x", "x", "x", "x"], "iso"),
    ];
    for (timestamps, expected) in cases {
        assert_eq!(detected(timestamps).as_deref(), Ok(expected), "{timestamps:?}");
    }
}

#[test]
fn ambiguous_timestamps_are_rejected_with_both_readings() {
    assert_eq!(
        detected(&["05/05/2024 10:30", "03/04/2024 10:30"]).unwrap_err(),
        "timestamps such as `NN/NN/NNNN NN:NN` in row 2 are ambiguous: one date by %d/%m/%Y %H:%M, and another by %m/%d/%Y \
         %H:%M; set TIMESTAMP_FORMAT to the right one"
    );
    let cases: [(&[&str], [&str; 2]); 12] = [
        (&["05/05/2024"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (&["24-03-15", "24-03-28", "24-04-02"], ["%d-%m-%y", "%y-%m-%d"]),
        (&["24.03.15 10:30", "24.03.28 11:00"], ["%d.%m.%y %H:%M", "%y.%m.%d %H:%M"]),
        (&["24/03/15 10:30:00", "24/04/02 09:15:00"], ["%d/%m/%y %H:%M:%S", "%y/%m/%d %H:%M:%S"]),
        (&["240315", "240328"], ["%y%m%d", "%d%m%y"]),
        (&["12.04.24", "13.04.24"], ["%d.%m.%y", "%y.%m.%d"]),
        (&["13/4/5", "14/4/5"], ["%d/%m/%y", "%y/%m/%d"]),
        (&["24-Mar-15", "24-Apr-16"], ["%d-%b-%y", "%y-%b-%d"]),
        (
            &["15-MAR-24 10.30.00.000000 AM", "28-MAR-24 02.30.00.000000 PM"],
            ["%d-%b-%y %I.%M.%S.%f %p", "%y-%b-%d %I.%M.%S.%f %p"],
        ),
        (&["10112024"], ["%d%m%Y", "%m%d%Y"]),
        // Seconds of 2033, or minutes of 2020 or 2015.
        (&["2010152030", "2011152130"], ["%y%m%d%H%M", "%d%m%y%H%M"]),
        (&["240315103000", "240328103000"], ["%y%m%d%H%M%S", "%d%m%y%H%M%S"]),
    ];
    for (timestamps, forms) in cases {
        let shown = detected(timestamps).unwrap_err();
        let is_shown =
            shown.contains("are ambiguous") && forms.iter().all(|form| shown.contains(&format!("by {form}")));
        assert!(is_shown, "{timestamps:?}: {shown}");
    }
}

#[test]
fn two_orders_in_one_source_are_rejected_with_examples() {
    assert_eq!(
        detected(&["13/03/2024 10:00", "28/03/2024 10:00", "2/3/2024 10:00", "3/25/2024 10:00"]).unwrap_err(),
        "timestamps are written in two ways: `NN/NN/NNNN NN:NN` in row 1 reads by %d/%m/%Y %H:%M alone, and `N/NN/NNNN NN:NN` in \
         row 4 by %m/%d/%Y %H:%M alone; set TIMESTAMP_FORMAT to the right one; timestamps in the other are rejected or read by it"
    );
    let error = detected(&["13/03/2024", "14/03/2024", "3/25/2024"]).unwrap_err();
    assert!(error.contains("two ways"), "no value reads in both, and later ones may: {error}");
    let mut many = vec!["13/03/2024"; 600];
    many.extend(["03/04/2024"; 600]);
    many[7] = "12/25/2024";
    assert_eq!(detected(&many).as_deref(), Ok("%d/%m/%Y"), "one in a thousand is a slip");
    many[8] = "12/25/2024";
    assert!(detected(&many).unwrap_err().contains("two ways"));
}

#[test]
fn a_slip_decides_nothing() {
    let mut many = vec!["03/04/2024"; 1_500];
    many[7] = "25/04/2024";
    assert!(detected(&many).unwrap_err().contains("are ambiguous"), "it may be the slip of a month");
    many[8] = "26/04/2024";
    assert_eq!(detected(&many).as_deref(), Ok("%d/%m/%Y"));
}

#[test]
fn a_few_timestamps_decide_nothing() {
    let mut many: Vec<_> = (1..=28).map(|day| format!("{day:02}/01/2024")).collect();
    many.push("2024-01-01 00:00:00".to_owned());
    many.push("n/a".to_owned());
    let found = detect(&SampleText::rows(&many)).unwrap();
    assert_eq!(found.value.to_string(), "%d/%m/%Y");
    assert_eq!(found.evidence, "28 of 30 values, such as `NN/NN/NNNN` in row 13, which %m/%d/%Y does not read");
    let few = detected(&["pending", "pending", "pending", "03/25/2024"]).unwrap_err();
    assert!(
        few.starts_with("1 of 4 timestamps read by %m/%d/%Y, too few") && few.contains("`AAAAAAA` in row 1"),
        "{few}"
    );
    assert!(few.ends_with("TIMESTAMP_FORMAT='%m/%d/%Y'"), "{few}");
}

#[test]
fn serial_days_are_hinted_at_but_never_assumed() {
    for days in [&["45367.4375", "45368.4375"][..], &["45367", "45368"]] {
        let shown = detected(days).unwrap_err();
        assert!(shown.contains("`NNNNN") && shown.contains("a day of 2024"), "{shown}");
        assert!(shown.contains("TIMESTAMP_FORMAT=serial-days") && shown.contains("`unit = \"days\""), "{shown}");
    }
}

#[test]
fn a_large_sample_is_detected_quickly() {
    let many: Vec<String> =
        (0..5_000).map(|row| format!("{:02}/{:02}/2024 10:{:02}", row % 28 + 1, row % 12 + 1, row % 60)).collect();
    assert_eq!(detect(&SampleText::rows(&many)).unwrap().value.to_string(), "%d/%m/%Y %H:%M");
}

#[test]
fn every_format_is_valid() {
    let forms: Vec<_> = CANDIDATES.iter().map(|form| form.name.clone()).collect();
    assert_eq!(forms.len(), DATES.len() * TIMES.len() + OTHERS.len() + EPOCHS.len());
}

#[test]
fn leading_digits_follow_from_the_pattern() {
    let cases = [
        ("%d/%m/%Y", None),
        ("%y/%m/%d", Some(2)),
        ("%Y-%m-%d", Some(4)),
        ("%Y%m%d", Some(8)),
        ("%d%m%y", Some(6)),
        ("%d%b%Y", None),
        ("%Y%m%d%H%M%S", Some(14)),
        ("%Y%m%d%H%M%S%f", Some(17)),
        ("%Y%m%d %H:%M", Some(8)),
        ("%a %b %d", None),
    ];
    for (pattern, expected) in cases {
        assert_eq!(leading_digits(pattern), expected, "{pattern}");
    }
}

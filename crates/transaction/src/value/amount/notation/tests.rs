//! Amounts as people and programs write them.

use proptest::prelude::*;

use super::*;

fn by(mark: impl Into<Option<DecimalMark>>, text: &str) -> Result<String, AmountError> {
    let currencies = ["€", "EUR", "$", "US$", "Fr."].map(str::to_owned);
    let notation = AmountNotation::new(ReadingRules::Second, mark.into(), &currencies);
    Amount::read(text, &notation).map(|amount| amount.to_string())
}

#[test]
fn every_form_is_read_exactly() {
    use DecimalMark::{Comma, Point};
    for (mark, text, expected) in [
        (Point, "-952.40", "-952.40"),
        (Point, ".5", "0.5"),
        (Point, "5.", "5"),
        (Point, "007.50", "7.50"),
        // Grouped in threes.
        (Point, "1,234.56", "1234.56"),
        (Point, "1,234,567", "1234567"),
        (Point, "1'234.56", "1234.56"),
        (Point, "-12’000.00", "-12000.00"),
        (Point, "1 234 567.8", "1234567.8"),
        (Comma, "1.234,56", "1234.56"),
        (Comma, "-3.000", "-3000"),
        (Comma, "1\u{a0}234,56", "1234.56"),
        (Comma, "-1\u{202f}234\u{202f}567,5", "-1234567.5"),
        (Comma, "12\u{2009}000", "12000"),
        (Point, "9,999,999,999,999,999.9999", "9999999999999999.9999"),
        // The sign after, around, or in typographic form.
        (Comma, "1.234,56-", "-1234.56"),
        (Comma, "12,50 -", "-12.50"),
        (Comma, "12,50+", "12.50"),
        (Point, "(30.00)", "-30.00"),
        (Point, "( 1,234.56 )", "-1234.56"),
        (Comma, "−100,00", "-100.00"),
        (Comma, "100,00−", "-100.00"),
        (Comma, "–100,00", "-100.00"),
        (Comma, "\u{2011}100,00", "-100.00"),
        (Comma, "\u{ff0d}100,00", "-100.00"),
        (Point, "- 5", "-5"),
        (Point, "(0.00)", "0.00"),
        // Exponents.
        (Point, "1.23456789E7", "12345678.9"),
        (Point, "-1.0E7", "-10000000"),
        (Point, "5.0E-4", "0.0005"),
        (Point, "5E-4", "0.0005"),
        (Point, "2.5e+01", "25"),
        (Point, "0E-30", "0.0000"),
        (Point, "0e9999", "0"),
        (Point, "1000E-3", "1.000"),
        (Point, "10000000E-8", "0.1000"),
        (Point, "0.0000001E7", "1"),
        (Comma, "1,5E3", "1500"),
        // Droppable zeros.
        (Point, "12.500000", "12.5000"),
        (Point, "-100.000000000000000000", "-100.0000"),
        (Point, "0.00000000", "0.0000"),
        (Comma, "7,123400", "7.1234"),
        // Currencies before or after, inside or outside the sign.
        (Point, "$400.00", "400.00"),
        (Point, "($1,234.56)", "-1234.56"),
        (Point, "$(5)", "-5"),
        (Point, "-$5", "-5"),
        (Point, "$-5", "-5"),
        (Point, "US$ 5", "5"),
        (Point, "EUR -5", "-5"),
        (Point, "Fr. 12.50", "12.50"),
        (Comma, "3\u{a0}000,00\u{a0}€", "3000.00"),
        (Comma, "-12,00€", "-12.00"),
        (Comma, "12,00- EUR", "-12.00"),
        (Comma, "5€-", "-5"),
        (Point, "-$1,234.56 EUR", "-1234.56"),
        // Invisible marks.
        (Point, "\u{200e}-1.50", "-1.50"),
        (Point, "\u{202d}-2.50\u{202c}", "-2.50"),
        (Point, "\u{feff}7\u{a0}", "7"),
        (Point, " \t-3.50 ", "-3.50"),
    ] {
        assert_eq!(by(mark, text).as_deref(), Ok(expected), "{text:?} by {mark}");
    }
    let zeros = format!("1.{}", "0".repeat(5_000));
    assert_eq!(by(Point, &zeros).as_deref(), Ok("1.0000"));
}

#[test]
fn invalid_numbers_are_rejected() {
    use AmountError::{Format, NotFinite, Range, Scale};
    use DecimalMark::{Comma, Point};
    for (mark, text, expected) in [
        (Point, "", Format),
        (Point, "-", Format),
        (Point, ".", Format),
        (Point, "()", Format),
        (Point, "€", Format),
        // Not in threes, mixed marks, a leading zero, a mark in the fraction.
        (Comma, "1.23,45", Format),
        (Comma, "12.34.567,00", Format),
        (Comma, "1,23,45", Format),
        (Point, "1,234 567", Format),
        (Point, "1 234,567", Format),
        (Point, "1234,567", Format),
        (Point, "0,123", Format),
        (Point, "012,345", Format),
        (Point, ",123", Format),
        (Point, "1,,234", Format),
        (Point, "1,234,", Format),
        (Point, "1.234.567", Format),
        (Point, "1.234,567", Format),
        (Comma, "1,5,", Format),
        (Point, "1_000", Format),
        (Point, "1''000", Format),
        // One sign only, and whole parentheses.
        (Point, "(-5)", Format),
        (Point, "-5-", Format),
        (Point, "--5", Format),
        (Point, "+-5", Format),
        (Point, "-(5)", Format),
        (Point, "((5))", Format),
        (Point, "(5", Format),
        (Point, "5)", Format),
        (Point, "−−5", Format),
        // Prices without cents: the dash is not a sign, and the price is not negative.
        (Comma, "12,-", Format),
        (Point, "5.-", Format),
        (Comma, "12,- €", Format),
        (Comma, "12,--", Format),
        (Point, "5.−", Format),
        (Comma, "12,–", Format),
        // Invalid exponents.
        (Point, "1,234E2", Format),
        (Point, "1E", Format),
        (Point, "E5", Format),
        (Point, "1E5E5", Format),
        (Point, "1E+-5", Format),
        (Point, "1E5.0", Format),
        (Point, "1E99999", Format),
        (Point, "0x1F", Format),
        // Other currencies, two of them on one side, a word.
        (Point, "£5", Format),
        (Point, "$$5", Format),
        (Point, "$ EUR 5", Format),
        (Point, "5 EUR €", Format),
        (Point, "5 apples", Format),
        (Point, "5%", Format),
        // An invisible mark inside.
        (Point, "1\u{200e}5", Format),
        // Too fine, too large.
        (Point, "1.00001", Scale),
        (Point, "1.5E-5", Scale),
        (Point, "1e-9999", Scale),
        (Comma, "1.234,56789", Scale),
        (Point, "10,000,000,000,000,000", Range),
        (Point, "1E16", Range),
        (Point, "1e9999", Range),
        (Point, "NaN", NotFinite),
        (Point, "-Infinity", NotFinite),
        (Point, "(inf)", NotFinite),
    ] {
        assert_eq!(by(mark, text), Err(expected), "{text:?} by {mark}");
    }
}

#[test]
fn an_unknown_mark_is_inferred_from_the_value() {
    for (text, expected) in [
        ("99", Ok("99")),
        ("12.50", Ok("12.50")),
        ("-12,5", Ok("-12.5")),
        ("1.234,56", Ok("1234.56")),
        ("1,234.56", Ok("1234.56")),
        ("1.234.567", Ok("1234567")),
        ("0.500", Ok("0.500")),
        ("1234.500", Ok("1234.500")),
        ("1.2345", Ok("1.2345")),
        ("12.500000", Ok("12.5000")),
        ("1.5E3", Ok("1500")),
        ("1 234", Ok("1234")),
        ("3.000", Err(AmountError::Mark)),
        ("(3,000)", Err(AmountError::Mark)),
        ("12,345 €", Err(AmountError::Mark)),
        ("1.23.4", Err(AmountError::Format)),
        ("1,23456789", Err(AmountError::Scale)),
        ("inf", Err(AmountError::NotFinite)),
    ] {
        assert_eq!(by(None, text).as_deref().map_err(|error| *error), expected, "{text}");
    }
}

#[test]
fn an_unproven_mark_rejects_ambiguous_texts() {
    let presumed = AmountNotation::new(ReadingRules::Second, Some(DecimalMark::Point), &[]).with_presumed_mark();
    for (text, expected) in [
        ("3.000", Ok("3.000")),
        ("1,234.50", Ok("1234.50")),
        ("1,234,567", Ok("1234567")),
        ("3,000", Err(AmountError::Mark)),
        ("(12,345)", Err(AmountError::Mark)),
        ("12,50", Err(AmountError::Format)),
    ] {
        let read = Amount::read(text, &presumed).map(|amount| amount.to_string());
        assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text}");
    }
}

#[test]
fn numbers_of_json_and_the_first_rules_have_one_form() {
    let number = |text: &str| Amount::read(text, &AmountNotation::for_numbers()).map(|amount| amount.to_string());
    assert_eq!(number("3.000").as_deref(), Ok("3.000"));
    assert_eq!(number("-1.5E+3").as_deref(), Ok("-1500"));
    assert_eq!(number("1.100000").as_deref(), Ok("1.1000"));
    assert_eq!(number("1,234"), Err(AmountError::Format));
    let first = AmountNotation::new(ReadingRules::First, Some(DecimalMark::Comma), &["€".to_owned()]);
    assert_eq!(Amount::read("1,5", &first).unwrap().to_string(), "1.5");
    for (text, expected) in [
        ("1.234,56", AmountError::Format),
        ("1,50000", AmountError::Scale),
        ("5-", AmountError::Format),
        ("5 €", AmountError::Format),
        ("1e3", AmountError::Format),
        ("12345678901234567", AmountError::Range),
    ] {
        assert_eq!(Amount::read(text, &first), Err(expected), "{text}");
    }
}

#[test]
fn both_readings_are_returned() {
    let read = |text: &str| {
        let readings = amount_readings(text, &["€".to_owned()]);
        [readings.point, readings.comma].map(|amount| amount.map_or("-".to_owned(), |amount| amount.to_string()))
    };
    assert_eq!(read("3.000 €"), ["3.000", "3000"]);
    assert_eq!(read("1.234,50"), ["-", "1234.50"]);
    assert_eq!(read("7"), ["7", "7"]);
    assert_eq!(read("x"), ["-", "-"]);
    assert!(amount_readings("3.000", &[]).is_ambiguous() && !amount_readings("7", &[]).is_ambiguous());
}

/// A number, the same with groups, and its mark.
fn grouped() -> impl Strategy<Value = (String, String, DecimalMark)> {
    let marks = prop_oneof![Just(DecimalMark::Point), Just(DecimalMark::Comma)];
    (1_u64..10_000_000_000_000_000, "[0-9]{0,4}", marks, 0..GROUPING.len()).prop_map(
        |(integer, fraction, mark, group)| {
            let group = if GROUPING[group] == char::from(mark.byte()) { '\'' } else { GROUPING[group] };
            let digits = integer.to_string();
            let mut text = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    text.push(group);
                }
                text.push(digit);
            }
            if !fraction.is_empty() {
                text.push(char::from(mark.byte()));
                text.push_str(&fraction);
            }
            let plain = if fraction.is_empty() { digits } else { format!("{digits}.{fraction}") };
            (plain, text, mark)
        },
    )
}

proptest! {
    #[test]
    fn grouping_changes_nothing((plain, text, mark) in grouped()) {
        prop_assert_eq!(by(mark, &text), Ok(plain.clone()));
        prop_assert_eq!(by(mark, &format!("({text})")), Ok(format!("-{plain}")));
        prop_assert_eq!(by(mark, &format!("{text}-")), Ok(format!("-{plain}")));
    }

    #[test]
    fn an_exponent_moves_the_point(digits in 1_u64..1_000_000_000_000, shift in 0_u32..5) {
        let shifted = Amount::from_digits(false, digits.into(), shift as usize).unwrap();
        let read = by(DecimalMark::Point, &format!("{digits}E-{shift}")).unwrap();
        prop_assert_eq!(read.parse::<Amount>().unwrap(), shifted);
    }

    #[test]
    fn both_rules_agree_on_plain_numbers(text in "[-+]?[0-9.,]{1,12}") {
        for mark in [DecimalMark::Point, DecimalMark::Comma] {
            if let Ok(first) = Amount::parse(text.as_bytes(), mark) {
                prop_assert_eq!(by(mark, &text), Ok(first.to_string()));
            }
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,40}", comma: bool) {
        let _ = by(if comma { Some(DecimalMark::Comma) } else { None }, &text);
        let _ = by(DecimalMark::Point, &text);
    }

    #[test]
    fn never_panics_on_near_numbers(text in "[-+−(]{0,2}[0-9., '’€E]{0,60}[-)E0-9]{0,9}") {
        let _ = by(None, &text);
    }
}

//! Numbers and booleans as texts: checked, and written with the digits that they came with.

use std::borrow::Cow;

/// The JSON of a decimal number, with its own digits: only what JSON has no form for is changed (`+5`, `.5`, `5.`, `007`).
pub(super) fn float(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_json = !whole.is_empty()
        && (whole == "0" || !whole.starts_with('0'))
        && digits.contains('.') != fraction.is_empty()
        && !text.starts_with('+');
    if is_json {
        return Some(text.into());
    }
    let whole = whole.trim_start_matches('0');
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}{exponent}").into())
}

/// The JSON of a whole number, which may be written with zeros after a point, as data frames do.
pub(super) fn int(text: &str) -> Option<String> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_whole = fraction.bytes().all(|digit| digit == b'0');
    is_whole.then(|| whole.parse::<i64>().ok())?.map(|number| number.to_string())
}

/// The JSON of a boolean.
pub(super) fn bool(text: &str) -> Option<&'static str> {
    const TRUE: [&str; 5] = ["true", "t", "yes", "y", "1"];
    const FALSE: [&str; 5] = ["false", "f", "no", "n", "0"];
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(text.trim()));
    if is_one_of(TRUE) {
        return Some("true");
    }
    is_one_of(FALSE).then_some("false")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        let cases = [
            ("-952.40", Some("-952.40")),
            ("9999999999999999.9999", Some("9999999999999999.9999")),
            ("1e5", Some("1e5")),
            (" 7 ", Some("7")),
            ("0.0", Some("0.0")),
            ("-0", Some("-0")),
            ("+5", Some("5")),
            (".5", Some("0.5")),
            ("-.5", Some("-0.5")),
            ("5.", Some("5")),
            ("007.10", Some("7.10")),
            ("000", Some("0")),
            ("5.e3", Some("5e3")),
            ("1,5", None),
            ("", None),
            (".", None),
            ("NaN", None),
            ("inf", None),
            ("-Infinity", None),
            ("1e999", None),
            ("0x10", None),
            ("12 EUR", None),
        ];
        for (text, expected) in cases {
            assert_eq!(float(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_have_zeros_after_a_point() {
        let cases = [
            ("12", Some("12")),
            ("-3", Some("-3")),
            ("+3", Some("3")),
            ("007", Some("7")),
            ("12.0", Some("12")),
            ("12.00", Some("12")),
            ("12.5", None),
            ("9223372036854775808", None),
            ("1e3", None),
            ("", None),
            (".0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(int(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn booleans_are_words_or_digits() {
        let cases = [
            ("true", Some("true")),
            ("F", Some("false")),
            (" 1", Some("true")),
            ("No", Some("false")),
            ("2", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bool(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_number_that_is_accepted_is_the_same_number_in_json(text in r"[+-]?[0-9]{0,4}\.?[0-9]{0,4}([eE][+-]?[0-9]{1,2})?") {
            match float(&text) {
                Some(json) => {
                    let read: f64 = serde_json::from_str(&json).unwrap();
                    prop_assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{} {}", text, json);
                }
                None => prop_assert!(text.parse::<f64>().is_err()),
            }
        }
    }
}

//! Card numbers, masked wherever a person may see raw text: at most the first six and the last four digits are shown, as
//! PCI DSS 4 (3.4.1) allows.

use std::borrow::Cow;

/// How many digits a card number has.
const SHORTEST: usize = 13;
const LONGEST: usize = 19;
/// How many of them may be shown, at both ends.
const SHOWN_FIRST: usize = 6;
const SHOWN_LAST: usize = 4;

/// The text with every card number in it masked: 13 to 19 digits, also in groups with one space or hyphen between them,
/// whose check digit is right. Everything else stays as it is.
pub fn mask_card_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let digits = digits_from(bytes, at);
        let end = digits.last().map_or(at, |last| last + 1);
        if let Some(count) =
            (SHORTEST..=LONGEST.min(digits.len())).rev().find(|count| passes_luhn(bytes, &digits[..*count]))
        {
            let masked = masked.get_or_insert_with(|| bytes.to_vec());
            for place in &digits[SHOWN_FIRST..count - SHOWN_LAST] {
                masked[*place] = b'*';
            }
        }
        at = end;
    }
    match masked {
        // Only digits were replaced, by a character as long.
        Some(masked) => String::from_utf8_lossy(&masked).into_owned().into(),
        None => text.into(),
    }
}

/// The places of the digits that belong together from here on.
fn digits_from(bytes: &[u8], start: usize) -> Vec<usize> {
    let mut digits = Vec::new();
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii_digit() {
            digits.push(at);
        } else if !(matches!(byte, b' ' | b'-') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)) {
            break;
        }
        at += 1;
    }
    digits
}

fn passes_luhn(bytes: &[u8], digits: &[usize]) -> bool {
    let value = |place: &usize| u32::from(bytes[*place] - b'0');
    let sum: u32 = digits
        .iter()
        .rev()
        .map(value)
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_the_ends_of_card_numbers_and_all_of_anything_else() {
        let cases = [
            ("CB 4111111111111111 EDF", "CB 411111******1111 EDF"),
            ("4111 1111 1111 1111;12", "4111 11** **** 1111;12"),
            ("5500-0000-0000-0004", "5500-00**-****-0004"),
            ("378282246310005", "378282*****0005"),
            // A wrong check digit, a short number, a date, an amount.
            ("4111111111111112", "4111111111111112"),
            ("2026-01-11 10:00:00;-952,40", "2026-01-11 10:00:00;-952,40"),
            ("", ""),
            ("é4111111111111111é", "é411111******1111é"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_card_numbers(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_length_and_all_but_digits(text in "[0-9 ;é-]{0,60}") {
            let masked = mask_card_numbers(&text);
            prop_assert_eq!(masked.len(), text.len());
            for (before, after) in text.bytes().zip(masked.bytes()) {
                prop_assert!(before == after || (before.is_ascii_digit() && after == b'*'));
            }
        }
    }
}

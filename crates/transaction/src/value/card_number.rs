//! Masks card and account numbers wherever a person may see raw text. The last four digits of a card number stay visible, fewer
//! than PCI DSS 4 (3.4.1) allows; of an IBAN the country and the last four characters.
//!
//! Lookalikes stay: a card number has 13 to 19 digits alone or in the groups that cards use, an issuer's prefix, and
//! the right check digit; an IBAN has the right check digits. So counts of nanoseconds, ids and hashes stay visible.

use std::borrow::Cow;
use std::ops::Range;

/// Digits of a card number.
const CARD: std::ops::RangeInclusive<usize> = 13..=19;
/// How many of them, and characters of an IBAN, are shown at the end.
const SHOWN_LAST: usize = 4;
/// The groups card numbers are printed and typed in.
#[rustfmt::skip]
const GROUPS: [&[usize]; 12] = [
    &[4, 4, 4, 4], &[4, 4, 4, 4, 1], &[4, 4, 4, 4, 2], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 1], &[4, 4, 4, 2],
    &[4, 4, 4, 3], &[4, 3, 3, 3], &[6, 4, 4, 4], &[8, 8],
];
/// Characters of an IBAN.
const IBAN: std::ops::RangeInclusive<usize> = 15..=34;

/// The text with every card number and IBAN masked, and nothing else changed.
pub fn mask_card_numbers(text: &str) -> Cow<'_, str> {
    match mask_card_numbers_in_bytes(text.as_bytes()) {
        // Only ASCII bytes were replaced, one for one.
        Cow::Owned(masked) => String::from_utf8_lossy(&masked).into_owned().into(),
        Cow::Borrowed(_) => text.into(),
    }
}

/// The same for bytes in UTF-8, or in any encoding that has ASCII in it.
pub fn mask_card_numbers_in_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let mut mask = |places: &[usize], shown_first: usize| {
        let masked = masked.get_or_insert_with(|| bytes.to_vec());
        for place in &places[shown_first..places.len() - SHOWN_LAST] {
            masked[*place] = b'*';
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let word = word_at(bytes, at);
        if let Some(places) = iban_from(bytes, &word) {
            mask(&places, 2);
            at = places.last().map_or(word.end, |last| last + 1);
        } else if let Some(places) = card_from(bytes, &word) {
            mask(&places, 0);
            at = places.last().map_or(word.end, |last| last + 1);
        } else {
            at = word.end;
        }
    }
    masked.map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// The run of letters and digits starting here.
fn word_at(bytes: &[u8], start: usize) -> Range<usize> {
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    start..start + length
}

/// The words after a word, each separated by one blank or hyphen, always the same.
fn words_from(bytes: &[u8], first: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mark = bytes.get(first.end).copied().filter(|byte| matches!(byte, b' ' | b'-'));
    let next = move |word: &Range<usize>| {
        let is_parted = mark.is_some() && bytes.get(word.end).copied() == mark;
        let next = word_at(bytes, (word.end + 1).min(bytes.len()));
        (is_parted && !next.is_empty()).then_some(next)
    };
    std::iter::successors(Some(first), next)
}

/// The positions of a card number whose first digit is in a word.
fn card_from(bytes: &[u8], word: &Range<usize>) -> Option<Vec<usize>> {
    let is_digit = |place: &usize| bytes[*place].is_ascii_digit();
    // It may follow letters, as in a label; among letters and digits it is part of something else.
    let start = word.clone().find(is_digit)?;
    let mut digits =
        start..word.clone().skip_while(|place| *place < start).find(|place| !is_digit(place)).unwrap_or(word.end);
    if digits.end < word.end && bytes[digits.end..word.end].iter().any(u8::is_ascii_digit) {
        // But it may end a word that begins with a piece of an escape sequence, such as `31m`.
        let last = bytes[word.clone()].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        digits = word.end - last..word.end;
    }
    let start = digits.start;
    // The decimals of a number.
    if start >= 2 && bytes[start - 1] == b'.' && bytes[start - 2].is_ascii_digit() {
        return None;
    }
    if is_card(bytes, digits.clone()) {
        return Some(digits.collect());
    }
    if digits.end < word.end {
        return None;
    }
    let longest = GROUPS.iter().map(|groups| groups.len()).max().unwrap_or_default();
    let groups: Vec<Range<usize>> = words_from(bytes, digits)
        .enumerate()
        .take_while(|(index, group)| *index == 0 || group.clone().all(|place| is_digit(&place)))
        .map(|(_, group)| group)
        .take(longest)
        .collect();
    // The longest first, as a shortened number may pass by chance.
    (2..=groups.len()).rev().find_map(|count| {
        let groups = &groups[..count];
        let lengths: Vec<usize> = groups.iter().map(ExactSizeIterator::len).collect();
        let places = || groups.iter().flat_map(Clone::clone);
        (GROUPS.contains(&&lengths[..]) && is_card(bytes, places())).then(|| places().collect())
    })
}

fn is_card(bytes: &[u8], places: impl Iterator<Item = usize>) -> bool {
    let digits: Vec<u8> = places.map(|place| bytes[place] - b'0').collect();
    CARD.contains(&digits.len()) && has_issuer(&digits) && passes_luhn(digits.iter().copied())
}

/// Whether a number has an issuer's prefix: UATP; Mir and Mastercard; American Express, Diners and JCB; Visa; Mastercard and
/// Maestro; Discover, Maestro and UnionPay; RuPay; Troy.
fn has_issuer(digits: &[u8]) -> bool {
    let start = |count: usize| digits.iter().take(count).fold(0_u32, |start, digit| start * 10 + u32::from(*digit));
    match digits.first() {
        Some(1) => digits.len() == 15,
        Some(2) => matches!(start(4), 2200..=2204 | 2221..=2720),
        Some(3) => matches!(start(2), 30 | 34..=39),
        Some(4..=6) => true,
        Some(8) => digits.len() == 16 && matches!(start(2), 81 | 82),
        Some(9) => digits.len() == 16 && start(4) == 9792,
        _ => false,
    }
}

/// Whether digits, as ASCII, may be a card number, whichever issuer's.
pub(crate) fn may_be_card_number(digits: &[u8]) -> bool {
    CARD.contains(&digits.len()) && passes_luhn(digits.iter().map(|digit| digit - b'0'))
}

fn passes_luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let sum: u32 = digits
        .rev()
        .map(u32::from)
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The positions of an IBAN that begins in a word: in one piece, possibly after other letters, or in groups of four.
fn iban_from(bytes: &[u8], word: &Range<usize>) -> Option<Vec<usize>> {
    let letters = word.clone().take_while(|place| bytes[*place].is_ascii_alphabetic()).count();
    if letters >= 2 && word.len() > letters {
        let whole: Vec<usize> = (word.start + letters - 2..word.end).collect();
        if is_iban(bytes, &whole) {
            return Some(whole);
        }
    }
    if word.len() != 4 || letters != 2 {
        return None;
    }
    let mut places: Vec<usize> = Vec::new();
    let mut longest = None;
    for group in words_from(bytes, word.clone()) {
        if group.len() > 4 {
            break;
        }
        let is_last = group.len() < 4;
        places.extend(group);
        if is_iban(bytes, &places) {
            longest = Some(places.clone());
        }
        if is_last || places.len() > *IBAN.end() {
            break;
        }
    }
    longest
}

/// Whether the check digits are right: rotated by four, with letters as numbers from 10 on, the number is 1 modulo 97.
fn is_iban(bytes: &[u8], places: &[usize]) -> bool {
    if !IBAN.contains(&places.len()) {
        return false;
    }
    let characters: Vec<u8> = places.iter().map(|place| bytes[*place].to_ascii_uppercase()).collect();
    let (start, rest) = characters.split_at(4);
    if !(start[..2].iter().all(u8::is_ascii_alphabetic) && start[2..].iter().all(u8::is_ascii_digit)) {
        return false;
    }
    let value = |byte: &u8| if byte.is_ascii_digit() { u32::from(byte - b'0') } else { u32::from(byte - b'A') + 10 };
    let modulo = rest.iter().chain(start).map(value).fold(0, |sum, value| {
        let shifted = if value < 10 { sum * 10 } else { sum * 100 };
        (shifted + value) % 97
    });
    modulo == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_the_last_digits_of_card_numbers_and_all_of_anything_else() {
        let cases = [
            ("CB 4111111111111111 EDF", "CB ************1111 EDF"),
            ("4111 1111 1111 1111;12", "**** **** **** 1111;12"),
            ("4111 1111 1111 1111 12", "**** **** **** 1111 12"),
            ("12 4111111111111111 12", "12 ************1111 12"),
            ("12 4111 1111 1111 1111", "12 **** **** **** 1111"),
            ("1,4111111111111111,2", "1,************1111,2"),
            ("5500-0000-0000-0004", "****-****-****-0004"),
            ("3782 822463 10005", "**** ****** *0005"),
            ("378282246310005", "***********0005"),
            ("30569309025904", "**********5904"),
            ("6011111111111117", "************1117"),
            ("3530111333300000", "************0000"),
            ("2223003122003222", "************3222"),
            ("4222222222222", "*********2222"),
            ("CARD4111111111111111", "CARD************1111"),
            ("4111111111111111EUR", "************1111EUR"),
            ("4111111111111111.0", "************1111.0"),
            ("é4111111111111111é", "é************1111é"),
            // UATP, RuPay and Troy.
            ("135410014004955", "***********4955"),
            ("8172 3456 7890 1236", "**** **** **** 1236"),
            ("9792030394440796", "************0796"),
            ("\u{1b}[31m4111111111111111", "\u{1b}[31m************1111"),
            ("\u{1b}[2J4111 1111 1111 1111", "\u{1b}[2J**** **** **** 1111"),
            // A wrong check digit, a short number, a date, an amount.
            ("4111111111111112", "4111111111111112"),
            ("2026-01-11 10:00:00;-952,40", "2026-01-11 10:00:00;-952,40"),
            // Nanoseconds, milliseconds and a compact time whose last digit passes.
            ("modified=1795989012366950766", "modified=1795989012366950766"),
            ("1768125600005", "1768125600005"),
            ("20260111100008", "20260111100008"),
            // Decimals, a longer number, a hash, a UUID, groups that no card has.
            ("0.4111111111111111", "0.4111111111111111"),
            ("41111111111111110000", "41111111111111110000"),
            ("9f4111111111111111a0", "9f4111111111111111a0"),
            ("41111111-1111-1111-8111-111111111111", "41111111-1111-1111-8111-111111111111"),
            ("41 11 11 11 11 11 11 11", "41 11 11 11 11 11 11 11"),
            ("4111 1111-1111 1111", "4111 1111-1111 1111"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_card_numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn shows_the_country_and_the_end_of_an_iban() {
        let cases = [
            ("DE89370400440532013000", "DE****************3000"),
            ("DE89 3704 0044 0532 0130 00 EUR", "DE** **** **** **** **30 00 EUR"),
            ("von GB29NWBK60161331926819;x", "von GB****************6819;x"),
            ("gb29 nwbk 6016 1331 9268 19", "gb** **** **** **** **68 19"),
            ("NO9386011117947", "NO*********7947"),
            ("FR1420041010050500013M02606", "FR*********************2606"),
            ("IBANDE89370400440532013000", "IBANDE****************3000"),
            ("DE27100777770209299700", "DE****************9700"),
            // Wrong check digits: a reference.
            ("DE88370400440532013000", "DE88370400440532013000"),
            ("AB12 3456", "AB12 3456"),
        ];
        for (text, expected) in cases {
            assert_eq!(mask_card_numbers(text), expected, "{text}");
        }
    }

    /// Digits with their check digit behind them.
    fn checked(mut digits: Vec<u8>) -> String {
        digits.push(0);
        let check = (0..10).find(|check| {
            *digits.last_mut().unwrap() = *check;
            passes_luhn(digits.iter().copied())
        });
        *digits.last_mut().unwrap() = check.unwrap();
        digits.iter().map(|digit| char::from(b'0' + digit)).collect()
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_length_and_all_but_letters_and_digits(text in "[0-9A-Fa-f ;é-]{0,60}") {
            let masked = mask_card_numbers(&text);
            prop_assert_eq!(masked.len(), text.len());
            for (before, after) in text.bytes().zip(masked.bytes()) {
                prop_assert!(before == after || (before.is_ascii_alphanumeric() && after == b'*'));
            }
        }

        #[test]
        fn every_card_number_is_masked_wherever_it_stands(
            first in 4_u8..=6, rest in prop::collection::vec(0_u8..10, 11..=17), before in "[ ;,:\"'(=|\t]", behind in "[ ;,:\"')|\t]"
        ) {
            let card = checked([vec![first], rest].concat());
            let masked = mask_card_numbers(&format!("7{before}{card}{behind}x")).into_owned();
            prop_assert!(!masked.contains(&card), "{}", masked);
            prop_assert!(masked.contains(&card[card.len() - 4..]));
        }

        #[test]
        fn a_long_number_is_shown(number in "[1-9][0-9]{19,30}") {
            prop_assert_eq!(mask_card_numbers(&number), number.as_str());
        }
    }
}

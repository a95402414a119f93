//! Numbers, times and text from outside, formatted for people.

use std::borrow::Cow;
use std::time::Duration;

use assay_store::PredictionCount;
use assay_transaction::{Timestamp, is_unprintable, mask_card_numbers};

use crate::grouped;

/// `1 row`, `1,000 rows`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// `amount_scale 600, id_empty 300, 2 others 7`: the first counts by name, and the sum of the rest.
pub fn list_counts(counts: &[(String, u64)]) -> String {
    const NAMED: usize = 6;
    const MAX_NAME: usize = 60;
    let (named, rest) = counts.split_at(counts.len().min(NAMED));
    let named = named.iter().map(|(name, count)| format!("{} {}", one_line(name, MAX_NAME), grouped(*count)));
    let rest = (!rest.is_empty())
        .then(|| format!("{} others {}", rest.len(), grouped(rest.iter().map(|(_, count)| count).sum())));
    named.chain(rest).collect::<Vec<_>>().join(", ")
}

/// `2026-01-11 10:00:00`, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.to_string().chars().take(19).map(|character| if character == 'T' { ' ' } else { character }).collect()
}

/// `7-9, 12`.
pub fn ranges(ranges: &[(u64, u64)]) -> String {
    let range = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// Whole seconds between two moments.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.as_datetime() - from.as_datetime()).num_seconds()).unwrap_or_default()
}

/// Text from outside on one line: card numbers masked, control characters escaped, cut after `limit` characters.
pub fn one_line(text: &str, limit: usize) -> String {
    unmasked_line(&mask_card_numbers(text), limit)
}

/// As [`one_line`], without masking: for text that holds no card numbers, such as the version of a source.
pub fn unmasked_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for (index, character) in text.chars().enumerate() {
        if index == limit {
            line.push('…');
            break;
        }
        match character {
            // A tab may be a delimiter.
            '\t' => line.push('\t'),
            character if is_unprintable(character) => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line
}

/// A whole result for a terminal: what would steer it is escaped, but for line ends, tabs and colours. Each text from outside was
/// made one line before, so that only our own colours are left.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |character: char| !matches!(character, '\n' | '\t') && is_unprintable(character);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = colour(rest).unwrap_or(character.len_utf8());
        if steers(character) && length == character.len_utf8() {
            shown.extend(character.escape_default());
        } else {
            shown.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    Cow::Owned(shown)
}

/// The length of the colour that a text begins with, such as `ESC [ 1 ; 31 m`.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|it: char| !(it.is_ascii_digit() || it == ';'))?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + 1)
}

/// Labels with card numbers masked, as a model may repeat its input.
pub fn masked_labels(counts: Vec<PredictionCount>) -> Vec<PredictionCount> {
    let masked = |count: PredictionCount| PredictionCount {
        prediction: mask_card_numbers(&count.prediction).into_owned(),
        ..count
    };
    counts.into_iter().map(masked).collect()
}

/// A rate in whole numbers.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!(counted(1, "row", "rows") + ", " + &counted(1_000, "row", "rows"), "1 row, 1,000 rows");
        assert_eq!(ranges(&[(7, 9), (12, 12)]), "7-9, 12");
        let at = Timestamp::parse(b"2026-01-11T10:00:00.25Z", assay_transaction::TimeZone::UTC).unwrap();
        assert_eq!(moment(at), "2026-01-11 10:00:00");
    }

    #[test]
    fn a_result_has_colours_and_nothing_else_that_steers_a_terminal() {
        for (text, expected) in [
            ("a\tb\n\x1b[1;31mred\x1b[0m\x1b[m\n", "a\tb\n\x1b[1;31mred\x1b[0m\x1b[m\n"),
            ("\x1b[2J\x1b]0;title\x07\u{9b}31m", "\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{9b}31m"),
            ("é\u{202e}\r\n\x1b[31", "é\\u{202e}\\r\n\\u{1b}[31"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_steers_a_terminal(text in "(\\PC|[\n\r\t\u{1b}\u{7}\u{7f}\u{9b}\u{85}\u{2028}\u{202e}\u{200f}\u{e0041}]){0,60}", limit in 0_usize..80) {
            for shown in [one_line(&text, limit), unmasked_line(&text, limit)] {
                prop_assert!(!shown.chars().any(|it| it != '\t' && is_unprintable(it)), "{shown:?}");
                prop_assert_eq!(harmless(&shown), shown.as_str());
            }
            let shown = harmless(&text).replace("\x1b[", "");
            let steers = shown.contains(['\x1b', '\u{9b}', '\u{202e}', '\r']);
            prop_assert!(!steers, "{shown:?}");
        }
    }

    #[test]
    fn text_from_outside_is_masked_and_cannot_steer_a_terminal() {
        assert_eq!(one_line("CB 4111111111111111\r\nEDF", 100), "CB ************1111\\r\\nEDF");
        assert_eq!(one_line("\u{1b}[2Ja\u{202e}b\tc", 100), "\\u{1b}[2Ja\\u{202e}b\tc");
        assert_eq!(one_line("Café crème", 4), "Café…");
        // Cut after it is masked: half a card number would not be recognised.
        assert_eq!(one_line("4111111111111111", 15), "************111…");
    }
}

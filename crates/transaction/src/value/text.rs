//! Texts as people and programs leave them: how bytes become one, the white space and the marks that nobody sees around it, and how
//! a message shows it.

use std::borrow::Cow;

use super::card_number::mask_card_numbers;

/// Most characters of a text that a message shows.
const MAX_SHOWN: usize = 40;

/// Marks of direction, joiners, soft hyphens and the byte order mark: they have no width, and no meaning at the edge of a value.
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text without the white space and the invisible marks around it.
pub fn trimmed(text: &str) -> &str {
    let is_nothing =
        |character: char| !character.is_ascii_graphic() && (character.is_whitespace() || is_invisible(character));
    // Nearly every text has nothing around it.
    let mut characters = text.chars();
    let edges = [characters.next(), characters.next_back()];
    if edges.into_iter().flatten().any(is_nothing) { text.trim_matches(is_nothing) } else { text }
}

/// The same of a text that may be owned.
pub(crate) fn trimmed_cow(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
        Cow::Owned(owned) => {
            let inner = trimmed(&owned);
            if inner.len() == owned.len() { Cow::Owned(owned) } else { Cow::Owned(inner.to_owned()) }
        }
    }
}

/// The start of a text between backticks, in one line, as messages show it: what nobody could see in it is escaped by its number,
/// such as `\u{200e}`.
pub fn quoted(text: &str) -> String {
    let (mut shown, mut length) = (String::from("`"), 0);
    for character in text.chars() {
        if length >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        if is_shown_by_number(character) {
            let escaped = character.escape_default();
            length += escaped.len();
            shown.extend(escaped);
        } else {
            length += 1;
            shown.push(character);
        }
    }
    shown.push('`');
    shown
}

/// The same with card numbers and account numbers in it masked.
pub(crate) fn masked(text: &str) -> String {
    // What is behind that is not shown, whatever a number that it ends in would be.
    let end = text.char_indices().nth(MAX_SHOWN * 3).map_or(text.len(), |(end, _)| end);
    quoted(&mask_card_numbers(&text[..end]))
}

/// Whether a character has no sign of its own, or one that looks like a blank.
pub(crate) fn is_shown_by_number(character: char) -> bool {
    let is_blank = character != ' ' && character.is_whitespace();
    is_blank || character.is_control() || is_invisible(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_what_is_trimmed() {
        for (text, expected) in [
            ("card", "card"),
            ("  card \t", "card"),
            ("\u{a0}card\u{202f}", "card"),
            ("\u{200e}-1.50\u{202c}", "-1.50"),
            ("\u{feff}\u{2060} a b \u{2069}", "a b"),
            ("\u{61c}-4.50\u{ad}", "-4.50"),
            (" \u{200b} ", ""),
            ("", ""),
            ("a\u{200d}b", "a\u{200d}b"),
        ] {
            assert_eq!(trimmed(text), expected, "{text:?}");
            assert_eq!(trimmed_cow(Cow::Owned(text.to_owned())), expected, "{text:?}");
        }
    }

    #[test]
    fn a_message_shows_what_nobody_sees() {
        for (text, expected) in [
            ("Café 3 €", "`Café 3 €`"),
            ("\u{200e}-1.50", "`\\u{200e}-1.50`"),
            ("a\tb\nc\0", "`a\\tb\\nc\\u{0}`"),
            ("1\u{a0}234\u{202f}567", "`1\\u{a0}234\\u{202f}567`"),
            ("", "``"),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(quoted(&"x".repeat(41)), format!("`{}…`", "x".repeat(40)));
        assert_eq!(quoted(&"x".repeat(40)), format!("`{}`", "x".repeat(40)));
    }
}

//! Texts as people and programs write them: the white space and invisible marks around them, and how messages show them.

use std::borrow::Cow;
use std::ops::Range;

use super::card_number::mask_card_numbers;

const MAX_SHOWN: usize = 40;

/// Direction marks, joiners, soft hyphens and the byte order mark: they have no width, and no meaning at the edge of a value.
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text without surrounding white space and invisible marks.
pub fn trimmed(text: &str) -> &str {
    let is_nothing =
        |character: char| !character.is_ascii_graphic() && (character.is_whitespace() || is_invisible(character));
    // Fast path: nearly every text needs no trimming.
    let mut characters = text.chars();
    let edges = [characters.next(), characters.next_back()];
    if edges.into_iter().flatten().any(is_nothing) { text.trim_matches(is_nothing) } else { text }
}

pub(crate) fn trimmed_cow(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
        Cow::Owned(owned) => {
            let inner = trimmed(&owned);
            if inner.len() == owned.len() { Cow::Owned(owned) } else { Cow::Owned(inner.to_owned()) }
        }
    }
}

/// The place of a byte in a file of settings, for messages: `line 2, column 8`, both from 1.
pub fn place_in_text(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}

/// What a parser says of a file of settings, on one line, with its place: `line 2, column 8: missing field …`.
pub fn problem_in_text(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let place = place_in_text(text, span.map_or(0, |span| span.start));
    format!("{place}: {}", message.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The start of a text between backticks, on one line, for messages. Invisible characters are escaped, such as `\u{200e}`.
pub fn quoted(text: &str) -> String {
    let (mut shown, mut length) = (String::from("`"), 0);
    for character in text.chars() {
        if length >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        if needs_escape(character) {
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

/// The same with card and account numbers masked.
pub(crate) fn masked(text: &str) -> String {
    // Text beyond this is never shown, whatever number it ends in.
    let end = text.char_indices().nth(MAX_SHOWN * 3).map_or(text.len(), |(end, _)| end);
    quoted(&mask_card_numbers(&text[..end]))
}

/// Whether a character has no glyph, or one that looks like a blank.
pub(crate) fn needs_escape(character: char) -> bool {
    let is_blank = character != ' ' && character.is_whitespace();
    is_blank || character.is_control() || is_invisible(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_invisible_edges_are_trimmed() {
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
    fn a_message_shows_invisible_characters() {
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

//! How messages mention outside data. Row contents must never appear in logs, on stderr, in `runs.error` or in the
//! reason of a dead letter: rows hold card numbers and names, and more people read logs than the database.
//!
//! - [`shape`] shows what a value looks like without revealing it, for all messages about a source as a whole.
//! - [`quoted`](crate::quoted) shows the text itself: for settings, and for names in a recognised header.
//! - [`Rejection`](crate::Rejection) shows a value in the message stored next to the row, and its shape everywhere
//!   else.
//! - [`json_problem`] explains a JSON error without the value that the parser quotes.
//! - [`escaped`] keeps any text on one line: log lines and stored errors go through it. [`escaped_json`] does the same for JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::error::Category;

use crate::value::text::{is_invisible, needs_escape};

const MAX_SHAPE: usize = 40;

/// The shape of a text, between backticks: each digit becomes `N`, each letter `A`, and signs stay. The shape of
/// `04/05/2026` is `NN/NN/NNNN`.
pub fn shape(text: &str) -> String {
    let (mut shape, mut length) = (String::from("`"), 0);
    for character in text.chars() {
        if length >= MAX_SHAPE {
            shape.push('…');
            break;
        }
        length += 1;
        match character {
            character if needs_escape(character) => {
                let escaped = character.escape_default();
                length += escaped.len() - 1;
                shape.extend(escaped);
            }
            character if character.is_numeric() => shape.push('N'),
            character if is_sign(character) => shape.push(character),
            _ => shape.push('A'),
        }
    }
    shape.push('`');
    shape
}

/// Whether a character is neither a letter nor part of one. Outside ASCII, only signs used in numbers are known not to be.
fn is_sign(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_alphabetic();
    }
    matches!(character, '¢' | '£' | '¤' | '¥' | '§' | '\u{2010}'..='\u{2015}' | '‘' | '’' | '“' | '”' | '•' | '…' | '\u{20a0}'..='\u{20cf}' | '−')
}

/// What is wrong with JSON, and where, without the unexpected value that the parser quotes.
pub fn json_problem(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let words = said.strip_suffix(&place).unwrap_or(&said);
    // The parser has no position for a value that was parsed on its own.
    let place = if error.line() == 0 { "" } else { &place };
    let quotes_a_value = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant ", "unknown field "];
    let what = match error.classify() {
        Category::Io => "it cannot be read".to_owned(),
        Category::Syntax | Category::Eof => words.to_owned(),
        // These name fields of our own.
        Category::Data if words.starts_with("missing field `") || words.starts_with("duplicate field `") => {
            words.to_owned()
        }
        Category::Data => {
            // The expectation comes last, in our own words.
            let quoted = quotes_a_value.iter().any(|start| words.starts_with(start));
            match words.rsplit_once(", expected ").filter(|_| quoted) {
                Some((_, expected)) => format!("expected {expected}"),
                None => "a value is not what it should be".to_owned(),
            }
        }
    };
    format!("{what}{place}")
}

/// A text on one line and in one direction: control characters, line ends, direction marks and other invisible
/// characters appear as escapes.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// JSON whose strings have no character that would steer a terminal: all unseen ones are escaped, not only those below 32 as JSON
/// demands. Line ends between values stay.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    let steers = |character: char| character != '\n' && is_unprintable(character);
    if !json.contains(steers) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if steers(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character would break a line, move its surroundings, or show nothing.
pub fn is_unprintable(character: char) -> bool {
    // In ASCII only control characters count.
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let is_line_end = matches!(character, '\u{2028}' | '\u{2029}');
    let is_tag = matches!(character, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    character.is_control() || is_invisible(character) || is_line_end || is_tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[test]
    fn a_shape_shows_how_a_text_looks() {
        for (text, expected) in [
            ("04/05/2026", "`NN/NN/NNNN`"),
            ("-1.234,56 €", "`-N.NNN,NN €`"),
            ("4111111111111111;Jean Dupont", "`NNNNNNNNNNNNNNNN;AAAA AAAAAA`"),
            ("DE89 3704", "`AANN NNNN`"),
            ("Ünal 李明 e\u{301}٣", "`AAAA AA AAN`"),
            ("a\nb\u{1b}[31m\u{202e}x", "`A\\nA\\u{1b}[NNA\\u{202e}A`"),
            ("", "``"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
        assert_eq!(shape(&"x".repeat(41)), format!("`{}…`", "A".repeat(40)));
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only what is wrong with it is read")]
    struct Sample {
        id: u64,
        #[serde(default)]
        kind: Option<SampleKind>,
        #[serde(default)]
        run_id: Option<crate::RunId>,
    }

    #[derive(Debug, Deserialize)]
    enum SampleKind {
        Card,
    }

    #[test]
    fn a_json_problem_quotes_no_value() {
        for (json, expected) in [
            (r#"{"id":"SECRET"}"#, "expected u64 at line 1 column 14"),
            (r#"{"id":"SECRET, expected SECRET"}"#, "expected u64 at line 1 column 31"),
            (r#"{"id":1,"kind":"SECRET"}"#, "expected `Card` at line 1 column 23"),
            (r#"{"id":1,"run_id":"SECRET, expected SECRET"}"#, "a value is not what it should be at line 1 column 43"),
            (r#"{"SECRET":1}"#, "missing field `id` at line 1 column 12"),
            (r#"{"id":1,"id":2}"#, "duplicate field `id` at line 1 column 12"),
            ("{\"id\":1,\n SECRET}", "key must be a string at line 2 column 2"),
            (r#"{"id":1"#, "EOF while parsing an object at line 1 column 7"),
        ] {
            let error = serde_json::from_str::<Sample>(json).unwrap_err();
            assert_eq!(json_problem(&error), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn a_shape_has_no_letter_or_digit_of_the_text(text in "\\PC{0,60}") {
            let shape = shape(&text);
            // Escapes contain digits of invisible characters.
            let without_escapes = shape.split("\\u{").map(|part| part.split_once('}').map_or(part, |(_, rest)| rest));
            prop_assert!(without_escapes.flat_map(str::chars).all(|it| !it.is_alphanumeric() || it == 'N' || it == 'A'));
            prop_assert!(!shape.chars().any(is_unprintable));
        }

        #[test]
        fn escaped_json_says_the_same_and_steers_nothing(texts in prop::collection::vec("(\\PC|[\n\r\t\u{1b}\u{7f}\u{9b}\u{85}\u{2028}\u{202e}\u{200f}\u{e0041}\"\\\\]){0,30}", 0..4)) {
            for json in [serde_json::to_string(&texts).unwrap(), serde_json::to_string_pretty(&texts).unwrap()] {
                let escaped = escaped_json(&json);
                prop_assert!(!escaped.chars().any(|it| it != '\n' && is_unprintable(it)));
                prop_assert_eq!(serde_json::from_str::<Vec<String>>(&escaped).unwrap(), texts.clone());
            }
        }

        #[test]
        fn an_escaped_text_is_one_line(text in ".{0,40}[\n\r\u{1b}\u{85}\u{2028}\u{202e}]?.{0,40}") {
            let escaped = escaped(&text);
            prop_assert!(!escaped.chars().any(is_unprintable));
            if !text.chars().any(is_unprintable) {
                prop_assert_eq!(&*escaped, text.as_str());
            }
        }
    }
}

//! Where an object ends, without reading it.
//!
//! Braces are counted outside of strings, and a line end within an object ends it as broken: so what is wrong in one object
//! cannot reach into the next line.

use crate::csv::QUOTE_REACH;

/// How many blanks behind an object are looked at: whether anything follows it on its line that is no object, and whether the line ends.
const MOST_BLANKS: usize = 1024;
/// What may stand before each object of a sequence of JSON texts (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

/// An object at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// How many bytes it has.
    pub(super) bytes: usize,
    /// And with the end of its line, where nothing else is between them.
    pub(super) taken: usize,
    /// Whether the line ends behind it.
    pub(super) ends_line: bool,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// What is held does not tell.
    More,
    /// There is none, or one with something else behind it, or one that reaches too far.
    Broken,
}

/// What may stand between objects.
pub(super) fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == RECORD_SEPARATOR
}

/// Finds the object that bytes begin with.
pub(super) fn object(bytes: &[u8], has_ended: bool) -> Result<Found, Stop> {
    let end = object_end(bytes, has_ended)?;
    let behind = &bytes[end..];
    let blanks = behind.iter().take(MOST_BLANKS).take_while(|byte| is_blank(**byte) && **byte != b'\n').count();
    let found = Found { bytes: end, taken: end, ends_line: false };
    match behind.get(blanks) {
        _ if blanks == MOST_BLANKS => Ok(found),
        Some(b'\n') => Ok(Found { taken: end + blanks + 1, ends_line: true, ..found }),
        Some(b'{') => Ok(found),
        Some(_) => Err(Stop::Broken),
        None if has_ended => Ok(Found { taken: end + blanks, ..found }),
        None => Err(Stop::More),
    }
}

fn object_end(bytes: &[u8], has_ended: bool) -> Result<usize, Stop> {
    let within = &bytes[..bytes.len().min(QUOTE_REACH)];
    if within.first().is_some_and(|byte| *byte != b'{') {
        return Err(Stop::Broken);
    }
    // Most objects hold no other, and are alone on their line.
    if let Some(brace) = memchr::memchr(b'}', within)
        && matches!(&bytes[brace + 1..], [b'\n', ..] | [b'\r', b'\n', ..])
    {
        return if within[..brace].contains(&b'\n') { Err(Stop::Broken) } else { Ok(brace + 1) };
    }
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(byte) = within.get(at) {
        match byte {
            b'\n' => return Err(Stop::Broken),
            b'\\' if in_string => {
                // Whatever it is, it is no quote that ends the string; a line end is one.
                at += usize::from(within.get(at + 1).is_some_and(|next| *next != b'\n'));
            }
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(if has_ended || bytes.len() >= QUOTE_REACH { Stop::Broken } else { Stop::More })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_ends_at_its_brace() {
        let found = |bytes, taken, ends_line| Ok(Found { bytes, taken, ends_line });
        for (text, expected) in [
            ("{}", found(2, 2, false)),
            ("{}\n{}", found(2, 3, true)),
            ("{} \r\n", found(2, 5, true)),
            ("{}{}", found(2, 2, false)),
            ("{}\x1e {}", found(2, 2, false)),
            (r#"{"a":"}\"{","b":{"c":[{}]}} {"#, found(27, 27, false)),
            (r#"{"a":"x}\\"}"#, found(12, 12, false)),
            ("{},{}", Err(Stop::Broken)),
            ("{} x", Err(Stop::Broken)),
            ("{\n}", Err(Stop::Broken)),
            ("{\"a}\n", found(4, 5, true)),
            ("{\"a\\\n}", Err(Stop::Broken)),
            ("{{}", Err(Stop::Broken)),
            ("[{}]", Err(Stop::Broken)),
            ("x", Err(Stop::Broken)),
        ] {
            assert_eq!(object(text.as_bytes(), true), expected, "{text}");
            // What a part of it tells is never taken back.
            for end in 0..text.len() {
                let part = object(&text.as_bytes()[..end], false);
                assert!(part == Err(Stop::More) || part == expected, "{} tells {part:?}", &text[..end]);
            }
        }
    }
}

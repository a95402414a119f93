//! Finds the end of an object without parsing it.
//!
//! Counts braces outside strings. A line end within an object makes it malformed, so that an error never reaches the
//! next line.

use crate::decode::buffer::NoRow;
use crate::decode::csv::QUOTE_REACH;

/// Most blanks examined after an object, to see what follows on its line.
const MOST_BLANKS: usize = 1024;
/// Precedes each object of a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;
/// A byte order mark, which precedes each of several concatenated files.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// An object at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScannedObject {
    /// Its size.
    pub(super) bytes: usize,
    /// Its size with the line end, if only blanks are between.
    pub(super) consumed: usize,
    /// Whether the line ends after it.
    pub(super) ends_line: bool,
}

/// Number of leading bytes that may separate objects.
pub(super) fn blanks(bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        match blank(&bytes[count..]) {
            0 => return count,
            more => count += more,
        }
    }
}

/// Size of a leading blank.
fn blank(bytes: &[u8]) -> usize {
    match bytes {
        [first, ..] if first.is_ascii_whitespace() || *first == RECORD_SEPARATOR => 1,
        _ if bytes.starts_with(MARK) => MARK.len(),
        _ => 0,
    }
}

/// Whether the bytes may be the start of a blank.
fn is_cut_blank(bytes: &[u8], has_ended: bool) -> bool {
    !has_ended && MARK.starts_with(bytes)
}

/// Finds the object at the start of the bytes.
pub(super) fn object(bytes: &[u8], has_ended: bool) -> Result<ScannedObject, NoRow> {
    let end = object_end(bytes, has_ended)?;
    let behind = &bytes[end..];
    let mut blanks = 0;
    while blanks < MOST_BLANKS && behind.get(blanks) != Some(&b'\n') {
        match blank(&behind[blanks..]) {
            0 => break,
            more => blanks += more,
        }
    }
    let found = ScannedObject { bytes: end, consumed: end, ends_line: false };
    match &behind[blanks..] {
        _ if blanks >= MOST_BLANKS => Ok(found),
        [b'\n', ..] => Ok(ScannedObject { consumed: end + blanks + 1, ends_line: true, ..found }),
        [b'{', ..] => Ok(found),
        [] if has_ended => Ok(ScannedObject { consumed: end + blanks, ..found }),
        rest if is_cut_blank(rest, has_ended) => Err(NoRow::NeedsMore),
        _ => Err(NoRow::Malformed),
    }
}

fn object_end(bytes: &[u8], has_ended: bool) -> Result<usize, NoRow> {
    let within = &bytes[..bytes.len().min(QUOTE_REACH)];
    if within.first().is_some_and(|byte| *byte != b'{') {
        return Err(if is_cut_blank(bytes, has_ended) { NoRow::NeedsMore } else { NoRow::Malformed });
    }
    // Most objects are flat and alone on their line.
    if let Some(brace) = memchr::memchr(b'}', within)
        && matches!(&bytes[brace + 1..], [b'\n', ..] | [b'\r', b'\n', ..])
    {
        return if within[..brace].contains(&b'\n') { Err(NoRow::Malformed) } else { Ok(brace + 1) };
    }
    let (mut depth, mut in_string, mut at) = (0_usize, false, 0);
    while let Some(byte) = within.get(at) {
        match byte {
            b'\n' => return Err(NoRow::Malformed),
            b'\\' if in_string => {
                // An escaped character never ends the string, but a line end ends the object.
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
    Err(if has_ended || bytes.len() >= QUOTE_REACH { NoRow::Malformed } else { NoRow::NeedsMore })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_ends_at_its_brace() {
        let found = |bytes, consumed, ends_line| Ok(ScannedObject { bytes, consumed, ends_line });
        for (text, expected) in [
            ("{}", found(2, 2, false)),
            ("{}\n{}", found(2, 3, true)),
            ("{} \r\n", found(2, 5, true)),
            ("{}{}", found(2, 2, false)),
            ("{}\x1e {}", found(2, 2, false)),
            ("{}\u{feff}{}", found(2, 2, false)),
            ("{} \u{feff}\n", found(2, 7, true)),
            ("{}\u{feef}", Err(NoRow::Malformed)),
            (r#"{"a":"}\"{","b":{"c":[{}]}} {"#, found(27, 27, false)),
            (r#"{"a":"x}\\"}"#, found(12, 12, false)),
            ("{},{}", Err(NoRow::Malformed)),
            ("{} x", Err(NoRow::Malformed)),
            ("{\n}", Err(NoRow::Malformed)),
            ("{\"a}\n", found(4, 5, true)),
            ("{\"a\\\n}", Err(NoRow::Malformed)),
            ("{{}", Err(NoRow::Malformed)),
            ("[{}]", Err(NoRow::Malformed)),
            ("x", Err(NoRow::Malformed)),
        ] {
            assert_eq!(object(text.as_bytes(), true), expected, "{text}");
            // A part of the text never leads to another result.
            for end in 0..text.len() {
                let part = object(&text.as_bytes()[..end], false);
                assert!(part == Err(NoRow::NeedsMore) || part == expected, "{end} bytes of {text:?} give {part:?}");
            }
        }
    }
}

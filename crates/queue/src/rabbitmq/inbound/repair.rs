//! Repairs of the properties of external messages, in place and without a change of length.
//!
//! Guarantees, for any bytes: after [`content_header`] returned `Ok`, and after [`method`], the client can read the frame; no
//! table is nested more than [`MAX_DEPTH`] deep; there are at most [`MAX_VALUES`] values. Valid properties stay as they are.

use crate::message::SUBSTITUTE;

/// Most levels of tables and arrays. Ours are flat, those of RabbitMQ (`x-death`) three deep. The client reads, copies and drops
/// them by recursion.
const MAX_DEPTH: usize = 32;
/// Most values in the headers of a message: one byte on the wire may take a hundred in memory. Ours have ten, those of RabbitMQ
/// (`x-death`) ten for each queue in which the message died.
const MAX_VALUES: usize = 512;

/// The class `basic`, that of all messages.
const BASIC: u16 = 60;
/// Class, weight and length of the body, before the properties.
const BEFORE_PROPERTIES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    /// A short text that is not UTF-8.
    Text,
    /// Headers nested too deep, or of an unknown kind, which are read as bytes.
    Nesting,
    /// Properties that are unreadable or too large; they are dropped.
    Properties,
}

impl Damage {
    pub(super) const ALL: [Self; 3] = [Self::Text, Self::Nesting, Self::Properties];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Nesting => "nesting",
            Self::Properties => "properties",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Replaces unreadable properties: a type that consists of the mark.
pub(super) const NO_PROPERTIES: [u8; 4] = [0x00, 0x20, 1, SUBSTITUTE];

/// The part of a header frame before the properties; `None` if it is too short for a header frame.
pub(super) fn before_properties(payload: &[u8]) -> Option<&[u8]> {
    payload.get(..BEFORE_PROPERTIES)
}

pub(super) fn content_header(payload: &mut [u8]) -> Result<Option<Damage>, Unreadable> {
    let mut repair = Repair { values: MAX_VALUES, damage: None };
    let properties = payload.get_mut(BEFORE_PROPERTIES..).ok_or(Unreadable)?;
    repair.properties(properties).ok_or(Unreadable)?;
    Ok(repair.damage)
}

/// Repairs the payload of a method frame: its texts, such as the routing key of a message.
pub(super) fn method(payload: &mut [u8]) -> Option<Damage> {
    let mut repair = Repair { values: 0, damage: None };
    // RabbitMQ does not send incomplete methods; the client will report one.
    let _ = repair.method(payload);
    repair.damage
}

/// The largest frame that RabbitMQ offers, in the method that does; `None` for other methods.
pub(super) fn offered_frame_max(payload: &[u8]) -> Option<u32> {
    const TUNE: [u8; 4] = [0, 10, 0, 30];
    let rest = payload.strip_prefix(&TUNE)?;
    Some(u32::from_be_bytes(rest.get(2..6)?.try_into().ok()?))
}

/// A field of a method with texts.
enum MethodField {
    Skip(usize),
    Text,
}

struct Cursor<'a>(&'a mut [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a mut [u8]> {
        if length > self.0.len() {
            return None;
        }
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut(length);
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes prefixed by a length of four bytes.
    fn long(&mut self) -> Option<&'a mut [u8]> {
        let length = u32::from_be_bytes((&*self.take(4)?).try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }
}

/// The values still allowed, and the worst damage found.
struct Repair {
    values: usize,
    damage: Option<Damage>,
}

impl Repair {
    fn found(&mut self, damage: Damage) {
        self.damage = self.damage.max(Some(damage));
    }

    fn method(&mut self, payload: &mut [u8]) -> Option<()> {
        let mut cursor = Cursor(payload);
        let parts: &[MethodField] = match (cursor.short()?, cursor.short()?) {
            // connection.close, channel.close: code, text
            (10, 50) | (20, 40) => &[MethodField::Skip(2), MethodField::Text],
            // connection.blocked: reason; basic.cancel: consumer
            (10, 60) | (BASIC, 30) => &[MethodField::Text],
            // basic.return: code, text, exchange, key
            (BASIC, 50) => &[MethodField::Skip(2), MethodField::Text, MethodField::Text, MethodField::Text],
            // basic.deliver: consumer, tag and whether it was redelivered, exchange, key
            (BASIC, 60) => &[MethodField::Text, MethodField::Skip(9), MethodField::Text, MethodField::Text],
            // basic.get-ok: tag and whether it was redelivered, exchange, key
            (BASIC, 71) => &[MethodField::Skip(9), MethodField::Text, MethodField::Text],
            _ => &[],
        };
        for part in parts {
            match part {
                MethodField::Skip(length) => drop(cursor.take(*length)?),
                MethodField::Text => self.text(&mut cursor)?,
            }
        }
        Some(())
    }

    fn properties(&mut self, properties: &mut [u8]) -> Option<()> {
        let mut cursor = Cursor(properties);
        let flags = cursor.short()?;
        for bit in (2..16).rev() {
            if flags & (1 << bit) == 0 {
                continue;
            }
            match bit {
                13 => {
                    let table = cursor.long()?;
                    self.values(table, true, 0)?;
                }
                // Delivery mode, priority.
                11 | 12 => drop(cursor.take(1)?),
                // The time.
                6 => drop(cursor.take(8)?),
                _ => self.text(&mut cursor)?,
            }
        }
        cursor.0.is_empty().then_some(())
    }

    /// A text prefixed by a length of one byte.
    fn text(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let length = cursor.byte()?;
        if replace_invalid_utf8(cursor.take(length.into())?) {
            self.found(Damage::Text);
        }
        Some(())
    }

    /// The values of a table or, without names, of an array.
    fn values(&mut self, bytes: &mut [u8], named: bool, depth: usize) -> Option<()> {
        let mut cursor = Cursor(bytes);
        while !cursor.0.is_empty() {
            self.values = self.values.checked_sub(1)?;
            if named {
                self.text(&mut cursor)?;
            }
            self.value(&mut cursor, depth)?;
        }
        Some(())
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Option<()> {
        let kind = cursor.take(1)?;
        match kind[0] {
            b'V' => {}
            b't' | b'b' | b'B' => drop(cursor.take(1)?),
            b's' | b'U' | b'u' => drop(cursor.take(2)?),
            b'I' | b'i' | b'f' => drop(cursor.take(4)?),
            b'L' | b'l' | b'd' | b'T' => drop(cursor.take(8)?),
            b'D' => drop(cursor.take(5)?),
            b'S' | b'x' => drop(cursor.long()?),
            b'F' | b'A' => {
                let inner = cursor.long()?;
                if depth == MAX_DEPTH || self.values(inner, kind[0] == b'F', depth + 1).is_none() {
                    // Bytes, of the same length.
                    kind[0] = b'x';
                    self.found(Damage::Nesting);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Replaces each byte that is not UTF-8 by a mark; returns whether there was one.
fn replace_invalid_utf8(bytes: &mut [u8]) -> bool {
    let mut start = 0;
    while let Err(error) = std::str::from_utf8(&bytes[start..]) {
        let wrong = start + error.valid_up_to();
        start = error.error_len().map_or(bytes.len(), |length| wrong + length);
        bytes[wrong..start].fill(SUBSTITUTE);
    }
    start > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_that_is_not_utf_8_is_marked() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            ("caf\u{e9}".as_bytes(), "caf\u{e9}".as_bytes()),
            (b"caf\xe9", b"caf\x1a"),
            (b"\xff\xfe\xfd", b"\x1a\x1a\x1a"),
            (b"a\xffb\xf0\x9f\x98c", b"a\x1ab\x1a\x1a\x1ac"),
            (b"\xf0\x9f", b"\x1a\x1a"),
        ];
        for (text, expected) in cases {
            let mut bytes = text.to_vec();
            assert_eq!(replace_invalid_utf8(&mut bytes), text != expected, "{text:?}");
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn the_offered_frame_size_is_found() {
        let tune = [0, 10, 0, 30, 7, 255, 0, 2, 0, 0, 0, 60];
        assert_eq!(offered_frame_max(&tune), Some(131_072));
        assert_eq!(offered_frame_max(&tune[..9]), None);
        assert_eq!(offered_frame_max(&[0, 10, 0, 31, 7, 255, 0, 2, 0, 0, 0, 60]), None);
    }
}

//! How a source writes its rows. Settled once, at the start of a run, and frozen with it.

use serde::{Deserialize, Serialize};

use crate::DecimalMark;

/// The character between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// A tab.
    Tab,
    /// `|`
    Pipe,
}

impl Delimiter {
    /// Every delimiter, the likeliest first.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The character itself.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Windows-1252, as older spreadsheets write it; never guessed, always declared.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// The dialect of one CSV source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// Between two fields.
    pub delimiter: Delimiter,
    /// Inside an amount.
    pub decimal_mark: DecimalMark,
    /// Of the whole source.
    #[serde(default)]
    pub encoding: Encoding,
}

impl Encoding {
    /// The text that the bytes are, where they are text.
    pub fn decode(self, bytes: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(Into::into),
            Self::Windows1252 if bytes.is_ascii() => std::str::from_utf8(bytes).ok().map(Into::into),
            Self::Windows1252 => {
                bytes.iter().map(|byte| windows_1252(*byte)).collect::<Option<String>>().map(Into::into)
            }
        }
    }

    /// The bytes of a text, where the encoding has every character of it.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Utf8 => Some(text.as_bytes().to_vec()),
            Self::Windows1252 => text.chars().map(windows_1252_byte).collect(),
        }
    }
}

/// The characters of 0x80 to 0x9F in Windows-1252; five of them are not assigned. All others are those of Latin-1.
fn windows_1252(byte: u8) -> Option<char> {
    const HIGH: [char; 32] = [
        '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', //
        '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => Some(HIGH[usize::from(byte - 0x80)]).filter(|character| *character != '\0'),
        other => Some(char::from(other)),
    }
}

/// The way back.
fn windows_1252_byte(character: char) -> Option<u8> {
    (0..=u8::MAX).find(|byte| windows_1252(*byte) == Some(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_it_decodes() {
        for encoding in [Encoding::Utf8, Encoding::Windows1252] {
            let text = "café à 3 € – “Œuvre”";
            let bytes = encoding.encode(text).unwrap();
            assert_eq!(encoding.decode(&bytes).as_deref(), Some(text));
        }
        assert_eq!(Encoding::Windows1252.encode("дом"), None);
    }

    #[test]
    fn decodes_only_what_is_text() {
        assert_eq!(Encoding::Utf8.decode("café".as_bytes()).as_deref(), Some("café"));
        assert_eq!(Encoding::Utf8.decode(b"caf\xe9"), None);
        assert_eq!(Encoding::Windows1252.decode(b"caf\xe9 \x80").as_deref(), Some("café €"));
        assert_eq!(Encoding::Windows1252.decode(b"\x81"), None);
    }
}

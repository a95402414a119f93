//! How a source writes its rows. Settled once, at the start of a run, and frozen with it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::DecimalMark;

/// The character between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// A tab.
    Tab,
    /// `|`
    Pipe,
    /// Any other character of ASCII; never recognised, always declared.
    Other(u8),
}

impl Delimiter {
    /// Every delimiter that is recognised, the likeliest first.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The delimiter that is this character. Fails for what can be part of a value or ends a line: a letter, a digit, a quote,
    /// a sign of a number, a blank, `\r` and `\n`.
    pub fn of(character: char) -> Option<Self> {
        let byte = u8::try_from(character).ok().filter(u8::is_ascii)?;
        if let Some(known) = Self::ALL.into_iter().find(|known| known.byte() == byte) {
            return Some(known);
        }
        let is_value = byte.is_ascii_alphanumeric() || matches!(byte, b'"' | b'\'' | b'-' | b'+' | b'.' | b' ' | 0);
        (!is_value && !matches!(byte, b'\r' | b'\n')).then_some(Self::Other(byte))
    }

    /// The character itself.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
            Self::Other(byte) => byte,
        }
    }
}

/// The name of a common delimiter, and any other as itself.
impl Serialize for Delimiter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Comma => serializer.serialize_str("comma"),
            Self::Semicolon => serializer.serialize_str("semicolon"),
            Self::Tab => serializer.serialize_str("tab"),
            Self::Pipe => serializer.serialize_str("pipe"),
            Self::Other(byte) => serializer.serialize_char(char::from(*byte)),
        }
    }
}

impl<'de> Deserialize<'de> for Delimiter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a name, the character itself, or its number such as `\x01`.
impl FromStr for Delimiter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut characters = text.chars();
        match (text.to_ascii_lowercase().as_str(), characters.next(), characters.next()) {
            ("comma", ..) => Ok(Self::Comma),
            ("semicolon", ..) => Ok(Self::Semicolon),
            ("tab" | "\\t", ..) => Ok(Self::Tab),
            ("pipe", ..) => Ok(Self::Pipe),
            (escaped, Some('\\'), Some('x')) => {
                let digits = escaped[2..].chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>();
                let number = digits.filter(|digits| digits.len() == 2).map(|digits| digits[0] * 16 + digits[1]);
                number.and_then(char::from_u32).and_then(Self::of).ok_or("no delimiter has this number in ASCII")
            }
            (_, Some(character), None) => Self::of(character).ok_or(
                "it is comma, semicolon, tab, pipe, or the character itself: one of ASCII that no value begins with",
            ),
            _ => Err("it is comma, semicolon, tab, pipe, or the character itself, and one alone"),
        }
    }
}

/// How bytes become text: an encoding of the WHATWG standard (<https://encoding.spec.whatwg.org>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// UTF-8, with or without a byte order mark: what a source is in unless it says, or somebody says, otherwise.
    pub const UTF_8: Self = Self(encoding_rs::UTF_8);
    /// Windows-1252, as older spreadsheets write it.
    pub const WINDOWS_1252: Self = Self(encoding_rs::WINDOWS_1252);
    /// UTF-16, low byte first; a byte order mark says so.
    pub const UTF_16LE: Self = Self(encoding_rs::UTF_16LE);
    /// UTF-16, high byte first; a byte order mark says so.
    pub const UTF_16BE: Self = Self(encoding_rs::UTF_16BE);

    /// The encoding that one of the standard's labels stands for, such as `latin1` for windows-1252.
    pub fn of(label: &str) -> Option<Self> {
        encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).map(Self)
    }

    /// Its name in the standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The encoding of the library.
    pub fn as_encoding_rs(self) -> &'static encoding_rs::Encoding {
        self.0
    }

    /// Whether a character may take several bytes, or its bytes those of a delimiter or a quote. The bytes of such a source are
    /// made UTF-8 before anything else looks at them; of all others the fields are decoded one by one.
    pub fn is_transcoded(self) -> bool {
        self != Self::UTF_8 && !self.0.is_single_byte()
    }

    /// The encoding of the bytes that rows have once a source is [transcoded](Self::is_transcoded).
    #[must_use]
    pub fn of_rows(self) -> Self {
        if self.is_transcoded() { Self::UTF_8 } else { self }
    }

    /// The text that the bytes are, where they are text. The control characters that the standard has for bytes which a single-byte
    /// encoding leaves unassigned are none: such bytes say that it is another encoding.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        if self == Self::UTF_8 || bytes.is_ascii() && !self.is_transcoded() {
            return std::str::from_utf8(bytes).ok().map(Into::into);
        }
        let text = self.0.decode_without_bom_handling_and_without_replacement(bytes)?;
        let is_unassigned = |character| matches!(character, '\u{80}'..='\u{9f}');
        (self.is_transcoded() || !text.contains(is_unassigned)).then_some(text)
    }

    /// The bytes of a text, where the encoding has every character of it.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        if self == Self::UTF_16LE {
            return Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        }
        if self == Self::UTF_16BE {
            return Some(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        }
        let (bytes, _, has_unmappable) = self.0.encode(text);
        (!has_unmappable).then(|| bytes.into_owned())
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self::UTF_8
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name().to_ascii_lowercase())
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let label = Cow::<'de, str>::deserialize(deserializer)?;
        Self::of(&label).ok_or_else(|| serde::de::Error::custom(format_args!("`{label}` is no encoding")))
    }
}

/// The dialect of one source of text.
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

/// What a CSV source writes in a way of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvText {
    /// What stands for nothing in a field without quotes.
    pub null_values: Vec<String>,
    /// The character that takes its meaning from the one behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escape: Option<char>,
    /// Whether a row that lacks its last fields has them empty.
    pub fill_short_rows: bool,
    /// Whether each row ends with a delimiter that the header does not have.
    pub trailing_delimiter: bool,
}

impl CsvText {
    /// What stands for nothing unless something else is said: as databases export it.
    pub const NULL_VALUES: [&str; 2] = ["\\N", "NULL"];

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CsvText {
    fn default() -> Self {
        let null_values = Self::NULL_VALUES.map(str::to_owned).to_vec();
        Self { null_values, escape: None, fill_short_rows: false, trailing_delimiter: false }
    }
}

/// How amounts are written, beside their decimal mark.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AmountText {
    /// Signs and codes of currencies that may stand before or behind an amount, such as `€` and `EUR`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub currencies: Vec<String>,
    /// Whether nothing tells the decimal mark: an amount that both marks read, and read differently, is rejected then.
    pub is_mark_unknown: bool,
}

impl AmountText {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_it_decodes() {
        for (label, text) in [
            ("utf-8", "café à 3 € – “Œuvre”"),
            ("windows-1252", "café à 3 € – “Œuvre”"),
            ("cp1250", "Żabka, 3 €"),
            ("koi8-r", "дом"),
            ("gbk", "商店"),
            ("shift_jis", "カード"),
            ("utf-16le", "Żabka 🍕"),
            ("utf-16be", "Żabka 🍕"),
        ] {
            let encoding = Encoding::of(label).unwrap();
            let bytes = encoding.encode(text).unwrap();
            assert_eq!(encoding.decode(&bytes).as_deref(), Some(text), "{label}");
            let json = serde_json::to_string(&encoding).unwrap();
            assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), encoding);
        }
        assert_eq!(Encoding::WINDOWS_1252.encode("дом"), None);
        assert_eq!(serde_json::to_string(&Encoding::WINDOWS_1252).unwrap(), r#""windows-1252""#);
        assert_eq!((Encoding::of("klingon-8"), Encoding::of("latin1")), (None, Some(Encoding::WINDOWS_1252)));
    }

    #[test]
    fn decodes_only_what_is_text() {
        assert_eq!(Encoding::UTF_8.decode("café".as_bytes()).as_deref(), Some("café"));
        assert_eq!(Encoding::UTF_8.decode(b"caf\xe9"), None);
        assert_eq!(Encoding::WINDOWS_1252.decode(b"caf\xe9 \x80").as_deref(), Some("café €"));
        assert_eq!(Encoding::WINDOWS_1252.decode(b"\x81"), None);
        assert_eq!(Encoding::of("gbk").unwrap().decode(b"\x81"), None);
    }

    #[test]
    fn only_encodings_whose_bytes_may_be_marks_are_transcoded() {
        for (label, expected) in
            [("utf-8", false), ("cp1252", false), ("koi8-u", false), ("gbk", true), ("utf-16le", true)]
        {
            assert_eq!(Encoding::of(label).unwrap().is_transcoded(), expected, "{label}");
        }
    }

    #[test]
    fn a_delimiter_is_its_name_or_itself() {
        for (text, byte) in [
            ("comma", b','),
            (";", b';'),
            ("Tab", b'\t'),
            ("\\t", b'\t'),
            ("^", b'^'),
            ("\u{1}", 1),
            ("\\x01", 1),
            ("\\x1F", 31),
            ("~", b'~'),
        ] {
            let delimiter: Delimiter = text.parse().unwrap();
            assert_eq!(delimiter.byte(), byte, "{text}");
            let json = serde_json::to_string(&delimiter).unwrap();
            assert_eq!(serde_json::from_str::<Delimiter>(&json).unwrap(), delimiter);
        }
        for text in ["", "||", "\\x41", "\\xé", "\\x+1", "a", "5", "\"", "-", " ", "\n", "é", "colon"] {
            assert!(text.parse::<Delimiter>().is_err(), "{text}");
        }
    }
}

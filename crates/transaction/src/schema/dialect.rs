//! How a source writes its rows: decided once, at the start of a run, and frozen with it.

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
    /// Any other ASCII character; only declared, never recognised.
    Other(u8),
}

impl Delimiter {
    /// The delimiters that are recognised, likeliest first.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The delimiter for a character. Fails for what can be part of a value or end a line: a letter, a digit, a quote,
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

/// The name of a common delimiter; any other as itself.
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

/// Parses a name, the character itself, or its number such as `\x01`.
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
                number.and_then(char::from_u32).and_then(Self::of).ok_or("not the ASCII number of a delimiter")
            }
            (_, Some(character), None) => Self::of(character)
                .ok_or("expected comma, semicolon, tab, pipe, or a single ASCII character that no value starts with"),
            _ => Err("expected comma, semicolon, tab, pipe, or a single character"),
        }
    }
}

/// How bytes become text: an encoding of the WHATWG standard (<https://encoding.spec.whatwg.org>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// UTF-8, with or without a byte order mark: the default.
    pub const UTF_8: Self = Self(encoding_rs::UTF_8);
    /// Windows-1252, as older spreadsheets write it.
    pub const WINDOWS_1252: Self = Self(encoding_rs::WINDOWS_1252);
    /// UTF-16, low byte first, with a byte order mark.
    pub const UTF_16LE: Self = Self(encoding_rs::UTF_16LE);
    /// UTF-16, high byte first, with a byte order mark.
    pub const UTF_16BE: Self = Self(encoding_rs::UTF_16BE);

    /// The encoding for one of the standard's labels, such as `latin1` for windows-1252.
    pub fn of(label: &str) -> Option<Self> {
        encoding_rs::Encoding::for_label_no_replacement(label.as_bytes()).map(Self)
    }

    /// The name in the standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The library's encoding.
    pub fn as_encoding_rs(self) -> &'static encoding_rs::Encoding {
        self.0
    }

    /// Whether a character may take several bytes, or contain those of a delimiter or quote. The bytes of such a source
    /// are converted to UTF-8 first; in all others, fields are decoded one by one.
    pub fn is_transcoded(self) -> bool {
        self != Self::UTF_8 && !self.0.is_single_byte()
    }

    /// The encoding of row bytes once a source is [transcoded](Self::is_transcoded).
    #[must_use]
    pub fn of_rows(self) -> Self {
        if self.is_transcoded() { Self::UTF_8 } else { self }
    }

    /// Decodes text. Control characters that the standard assigns to unassigned bytes of a single-byte encoding are
    /// refused: such bytes show that the encoding is another one.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        if self == Self::UTF_8 || bytes.is_ascii() && !self.is_transcoded() {
            return std::str::from_utf8(bytes).ok().map(Into::into);
        }
        let text = self.0.decode_without_bom_handling_and_without_replacement(bytes)?;
        let is_unassigned = |character| matches!(character, '\u{80}'..='\u{9f}');
        (self.is_transcoded() || !text.contains(is_unassigned)).then_some(text)
    }

    /// Encodes a text, if the encoding has all of its characters.
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
        Self::of(&label).ok_or_else(|| serde::de::Error::custom(format_args!("`{label}` is not an encoding")))
    }
}

/// The dialect of a text source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    /// Separates fields.
    pub delimiter: Delimiter,
    /// The decimal mark of amounts.
    pub decimal_mark: DecimalMark,
    /// The encoding of the whole source.
    #[serde(default)]
    pub encoding: Encoding,
}

/// CSV syntax specific to a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CsvSyntax {
    /// Texts that mean null in an unquoted field.
    pub null_values: Vec<String>,
    /// The escape character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escape: Option<char>,
    /// Whether missing last fields of a row are empty.
    pub fill_short_rows: bool,
    /// Whether each row ends with a delimiter that the header does not have.
    pub trailing_delimiter: bool,
}

impl CsvSyntax {
    /// The default null values, as databases export them.
    pub const NULL_VALUES: [&str; 2] = ["\\N", "NULL"];

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CsvSyntax {
    fn default() -> Self {
        let null_values = Self::NULL_VALUES.map(str::to_owned).to_vec();
        Self { null_values, escape: None, fill_short_rows: false, trailing_delimiter: false }
    }
}

/// How amounts are written, apart from their decimal mark.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AmountSyntax {
    /// Currency signs and codes that may precede or follow an amount, such as `€` and `EUR`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub currencies: Vec<String>,
    /// Whether the decimal mark is unknown: an amount is then rejected if both marks read it, and differently.
    pub is_mark_unknown: bool,
}

impl AmountSyntax {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_text_encodes_back() {
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
    fn only_text_is_decoded() {
        assert_eq!(Encoding::UTF_8.decode("café".as_bytes()).as_deref(), Some("café"));
        assert_eq!(Encoding::UTF_8.decode(b"caf\xe9"), None);
        assert_eq!(Encoding::WINDOWS_1252.decode(b"caf\xe9 \x80").as_deref(), Some("café €"));
        assert_eq!(Encoding::WINDOWS_1252.decode(b"\x81"), None);
        assert_eq!(Encoding::of("gbk").unwrap().decode(b"\x81"), None);
    }

    #[test]
    fn only_ambiguous_encodings_are_transcoded() {
        for (label, expected) in
            [("utf-8", false), ("cp1252", false), ("koi8-u", false), ("gbk", true), ("utf-16le", true)]
        {
            assert_eq!(Encoding::of(label).unwrap().is_transcoded(), expected, "{label}");
        }
    }

    #[test]
    fn a_delimiter_is_a_name_or_a_character() {
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

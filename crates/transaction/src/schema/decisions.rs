//! By what rules a source is read, and what was settled of it: frozen with a run, so that whoever goes on with it, or repairs
//! it, reads every row as it was read at first.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version of the rules of reading. A change of what a row or a value means is a new version, and the code of each earlier one
/// stays for the runs that began under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ReadingRules {
    /// Until version 0.1: quotes as `csv-async` has them, values with their outer blanks, plain amounts alone.
    #[default]
    First,
    /// Quotes that open and close at delimiters, trimmed values, amounts as people write them.
    Second,
}

impl Serialize for ReadingRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            Self::First => 1,
            Self::Second => 2,
        })
    }
}

impl<'de> Deserialize<'de> for ReadingRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            other => Err(serde::de::Error::custom(format_args!(
                "the source is read by version {other} of the rules of reading, which this program does not know: update it"
            ))),
        }
    }
}

/// What is settled of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// In what it holds its rows.
    Format,
    /// How its bytes become text.
    Encoding,
    /// Which line is the header.
    Header,
    /// What stands between fields.
    Delimiter,
    /// What stands inside an amount.
    DecimalMark,
    /// How its timestamps are written.
    Timestamps,
    /// Whether its rows end with a delimiter.
    TrailingDelimiter,
}

impl fmt::Display for Decided {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Format => "format",
            Self::Encoding => "encoding",
            Self::Header => "header",
            Self::Delimiter => "delimiter",
            Self::DecimalMark => "decimal mark",
            Self::Timestamps => "timestamps",
            Self::TrailingDelimiter => "trailing delimiter",
        })
    }
}

/// By what something is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// A setting.
    Set,
    /// The source itself, of which no other reading fits.
    Recognised,
    /// Nothing: it is as it is unless something is said.
    #[default]
    Default,
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Set => "set",
            Self::Recognised => "recognised",
            Self::Default => "default",
        })
    }
}

/// Something that was settled of a source at the start of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What it is about.
    pub what: Decided,
    /// As it is settled.
    pub value: String,
    /// By what.
    pub by: DecidedBy,
    /// What of the source proves it, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

/// `decimal mark comma (recognised)`.
impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, by, evidence: _ } = self;
        write!(formatter, "{what} {value} ({by})")
    }
}

impl Decision {
    /// How the evidence begins where a byte order mark says the encoding.
    pub const BY_MARK: &str = "its byte order mark says so";
}

//! The rules a source is read by, and the decisions about it: frozen with a run, so that a resumed or repaired run
//! reads every row as it was read at first.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of the reading rules. Any change to the meaning of a row or value is a new version, and the code of
/// earlier ones stays for the runs that started under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ReadingRules {
    /// Until version 0.1: quotes as `csv-async` reads them, untrimmed values, plain amounts only.
    #[default]
    First,
    /// Quotes that open and close at delimiters, trimmed values, amounts as people write them.
    Second,
}

/// The serde form of versioned rules: the number of the version.
macro_rules! numbered_versions {
    ($rules:ty, $problem:literal, $($number:literal = $version:ident),+) => {
        impl serde::Serialize for $rules {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(match self {
                    $(Self::$version => $number,)+
                })
            }
        }

        impl<'de> serde::Deserialize<'de> for $rules {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match u8::deserialize(deserializer)? {
                    $($number => Ok(Self::$version),)+
                    other => Err(serde::de::Error::custom(format_args!(
                        concat!($problem, " {}, which this program does not know: update it"),
                        other
                    ))),
                }
            }
        }
    };
}
pub(crate) use numbered_versions;

numbered_versions!(ReadingRules, "the source is read by the reading rules of version", 1 = First, 2 = Second);

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionSubject {
    /// The format of its rows.
    Format,
    /// The encoding of its text.
    Encoding,
    /// Which line is the header.
    Header,
    /// The delimiter between fields.
    Delimiter,
    /// The decimal mark of amounts.
    DecimalMark,
    /// The format of timestamps.
    Timestamps,
    /// Whether rows end with a delimiter.
    TrailingDelimiter,
}

impl fmt::Display for DecisionSubject {
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

/// Where a decision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// A setting.
    Set,
    /// The source itself, as no other reading fits.
    Recognised,
    /// The default.
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

/// A decision about a source at the start of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The subject.
    pub what: DecisionSubject,
    /// The decided value.
    pub value: String,
    /// Where it came from.
    pub by: DecidedBy,
    /// The evidence in the source, for a person.
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
    /// The start of the evidence if a byte order mark decided the encoding.
    pub const BY_MARK: &str = "its byte order mark says so";
}

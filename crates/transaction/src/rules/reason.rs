//! Stable codes for why a row was rejected or a transaction failed. They are stored, counted and filtered by, so a code
//! is never renamed; older versions keep codes of newer ones as [`RejectReason::Other`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AmountError, TimestampError};

/// An enum of stable codes with text form, parsing, and the list of all.
macro_rules! codes {
    ($(#[$docs:meta])* $name:ident { $($(#[doc = $meaning:literal])* $variant:ident = $code:literal,)* }) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[doc = $meaning])* $variant,)*
            /// A code of a newer version.
            Other(String),
        }

        impl $name {
            /// Every code of this version.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as stored and counted.
            pub fn code(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What it means, for a person.
            pub fn meaning(&self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($meaning),*).trim_ascii(),)*
                    Self::Other(_) => "A code of a newer version.",
                }
            }

            /// The code as a metric label; codes of newer versions, whose number is unbounded, are `other`.
            pub fn label(&self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(_) => "other",
                }
            }
        }

        impl From<&str> for $name {
            fn from(code: &str) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.code())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.code())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(&*std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
            }
        }
    };
}

codes! {
    /// The validation rule a row broke: the first one in this order.
    RejectReason {
        /// The row is longer than 256 KiB; its raw text is truncated.
        RowTooLarge = "row_too_large",
        /// The row has more or fewer fields than the header.
        FieldCount = "field_count",
        /// A quoted field is still open at the end of the source.
        UnterminatedQuote = "unterminated_quote",
        /// A quote opens a field and does not close before a delimiter; the row is one physical line.
        QuoteMalformed = "quote_malformed",
        /// A line is not a JSON object, or repeats a key.
        JsonFormat = "json_format",
        /// A field is not valid text in the source's encoding.
        Encoding = "encoding",
        /// A field holds a NUL byte, which PostgreSQL's text cannot.
        NulByte = "nul_byte",
        /// `id` is empty.
        IdEmpty = "id_empty",
        /// `description` is empty.
        DescriptionEmpty = "description_empty",
        /// `amount` is empty.
        AmountEmpty = "amount_empty",
        /// `amount` is not a decimal number.
        AmountFormat = "amount_format",
        /// `amount` is one number with a decimal point and another with a decimal comma, and the intended mark is unknown.
        AmountMark = "amount_mark",
        /// `amount` is infinite or not a number.
        AmountNotFinite = "amount_not_finite",
        /// `amount` has more than four decimals.
        AmountScale = "amount_scale",
        /// `amount` does not fit `NUMERIC(20,4)`.
        AmountRange = "amount_range",
        /// Both debit and credit of a row have an amount.
        AmountTwice = "amount_twice",
        /// A debit or credit has a sign of its own, and its mapping does not allow that.
        AmountSign = "amount_sign",
        /// `timestamp` is empty.
        TimestampEmpty = "timestamp_empty",
        /// `timestamp` is not a date and time.
        TimestampFormat = "timestamp_format",
        /// `timestamp` names an ambiguous or unknown time zone.
        TimestampZone = "timestamp_zone",
        /// `timestamp` is a local time that the clock change skips.
        TimestampGap = "timestamp_gap",
        /// `operation_type` is empty.
        OperationTypeEmpty = "operation_type_empty",
        /// `side` is empty.
        SideEmpty = "side_empty",
        /// The mapping's table for a field has no entry for the row's value; checked in the order of that field.
        ValueUnknown = "value_unknown",
        /// The row repeats the header.
        HeaderRepeated = "header_repeated",
    }
}

codes! {
    /// The kind of failure that kept a valid transaction out of `transactions`.
    FailureClass {
        /// The ML API rejected the row itself (400, 413, 422), sent alone.
        Rejected = "rejected",
        /// The ML API failed repeatedly on the row sent alone (5xx, timeout, unreadable or missing answer).
        Suspect = "suspect",
        /// The database refused the row's data; the reason names the SQLSTATE.
        Database = "database",
        /// Another transaction with this id and different content is stored.
        IdConflict = "id_conflict",
        /// The run was cancelled before the row was scored.
        Cancelled = "cancelled",
        /// The run was aborted before the row was scored.
        Aborted = "aborted",
        /// The broker dead-lettered the chunk.
        DeadLettered = "dead_lettered",
        /// The row was already stored when read, so it was not scored, but no longer stored when it was to be recorded.
        Unscored = "unscored",
        /// The row was removed: a tombstone that keeps only its number.
        Removed = "removed",
        /// The content of the row was purged, as it was old: a tombstone that keeps its number and what it was.
        Purged = "purged",
        /// The row was erased, or came after its id was: a tombstone that keeps only its number.
        Erased = "erased",
    }
}

impl FailureClass {
    /// Whether nothing is left of the row but its number: it cannot be replayed.
    pub fn is_tombstone(&self) -> bool {
        matches!(self, Self::Removed | Self::Purged | Self::Erased)
    }
}

impl RejectReason {
    /// The settings, as names of variables, that may read rows rejected for this reason. None if the rows must be repaired.
    pub fn setting(&self) -> Option<&'static str> {
        Some(match self.code() {
            "amount_format" | "amount_mark" => "DECIMAL_MARK, or CURRENCY if amounts carry currency signs or codes",
            "timestamp_format" => "TIMESTAMP_FORMAT",
            "timestamp_zone" | "timestamp_gap" => "TIME_ZONE",
            "encoding" => "ENCODING",
            "field_count" => {
                "DELIMITER, SHORT_ROWS=fill if rows lack their last fields, or ESCAPE if a character such as \\ precedes delimiters"
            }
            "quote_malformed" | "unterminated_quote" => "ESCAPE if a character such as \\ precedes quotes",
            "json_format" => "FORMAT",
            "value_unknown" | "amount_scale" | "amount_range" => "MAPPING",
            code if code.ends_with("_empty") => "MAPPING to name the column, or NULL_VALUES",
            _ => return None,
        })
    }
}

impl From<AmountError> for RejectReason {
    fn from(error: AmountError) -> Self {
        match error {
            AmountError::Format => Self::AmountFormat,
            AmountError::Mark => Self::AmountMark,
            AmountError::NotFinite => Self::AmountNotFinite,
            AmountError::Scale => Self::AmountScale,
            AmountError::Range => Self::AmountRange,
        }
    }
}

impl From<TimestampError> for RejectReason {
    fn from(error: TimestampError) -> Self {
        match error {
            TimestampError::Format | TimestampError::Pattern | TimestampError::Count { .. } => Self::TimestampFormat,
            TimestampError::Zone => Self::TimestampZone,
            TimestampError::Gap => Self::TimestampGap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_is_unique() {
        let mut codes: Vec<&str> = RejectReason::ALL.iter().map(RejectReason::code).collect();
        for code in &codes {
            assert_eq!(RejectReason::from(*code).code(), *code);
            assert!(RejectReason::ALL.contains(&RejectReason::from(*code)), "{code}");
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), RejectReason::ALL.len());
    }

    #[test]
    fn a_reason_names_its_setting() {
        let cases = [
            (RejectReason::AmountFormat, Some("DECIMAL_MARK")),
            (RejectReason::TimestampFormat, Some("TIMESTAMP_FORMAT")),
            (RejectReason::Encoding, Some("ENCODING")),
            (RejectReason::FieldCount, Some("DELIMITER")),
            (RejectReason::SideEmpty, Some("MAPPING")),
            (RejectReason::NulByte, None),
            (RejectReason::from("amount_mark"), Some("DECIMAL_MARK")),
        ];
        for (reason, expected) in cases {
            let setting = reason.setting();
            assert_eq!(setting.is_some(), expected.is_some(), "{reason}");
            assert!(setting.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{reason}: {setting:?}");
        }
    }

    #[test]
    fn a_code_of_a_newer_version_is_kept() {
        let class: FailureClass = serde_json::from_str(r#""quota""#).unwrap();
        assert_eq!(class, FailureClass::Other("quota".into()));
        assert_eq!(serde_json::to_string(&class).unwrap(), r#""quota""#);
        assert_eq!((class.label(), FailureClass::Suspect.label()), ("other", "suspect"));
    }
}

//! The format of a source's rows and its compression: recognised by content at the start of a run, and frozen with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The format of a source's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lines of delimited fields, after a header.
    #[default]
    Csv,
    /// One JSON object on each line.
    JsonLines,
    /// Apache Parquet. A row's line is its number, and its offset is the number of rows before it.
    Parquet,
}

/// How a source is compressed. Offsets in it are those of the decompressed content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip, with one member or several.
    Gzip,
    /// Zstandard, with one frame or several.
    Zstd,
    /// A zip archive of one file.
    Zip,
}

impl Format {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::JsonLines => "JSON Lines",
            Self::Parquet => "Parquet",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
    pub(crate) fn is_csv(&self) -> bool {
        *self == Self::Csv
    }
}

impl Compression {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }

    /// Whether the source is not compressed.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

//! In what a source is written down: the format of its rows and the compression around them. Recognised by content at the
//! start of a run, and frozen with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a source holds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lines of fields between delimiters, a header first.
    #[default]
    Csv,
    /// One JSON object on each line.
    JsonLines,
    /// Apache Parquet. Its rows have no lines: a row's line is its number, and its offset is how many rows lie before it.
    Parquet,
}

/// What a source is packed with. An offset in a packed source is one of what it unpacks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// gzip, of one member or of several.
    Gzip,
    /// Zstandard, of one frame or of several.
    Zstd,
    /// A zip archive of one file.
    Zip,
}

impl Format {
    /// As a person says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::JsonLines => "JSON Lines",
            Self::Parquet => "Parquet",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) fn is_csv(&self) -> bool {
        *self == Self::Csv
    }
}

impl Compression {
    /// As a person says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zip => "zip",
        }
    }

    /// Whether there is any.
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

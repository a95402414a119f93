//! CSV: splits rows by the version of the rules that a run began under.
//!
//! [`v1`] uses `csv-async`, [`v2`] our own quoting. Both guarantee that memory is bounded by a batch and
//! [`QUOTE_REACH`], and that a read from any row's end returns the same rows as a read from the start.

mod v1;
mod v2;

use std::fmt;

use assay_transaction::{CsvSyntax, Delimiter, Encoding, Position, ReadingRules, RunSettings};

use crate::decode::batch::BatchDecoder as _;
use crate::{ByteStream, RowBatch, SourceError, SourceLayout};

/// The longest row: 1 MiB. A row that does not end within it, or has an open quote at the end of the source, is cut to
/// its first physical line, and the next line starts a new row. So an unclosed quote costs one row, and neither memory
/// nor the rest of the source.
pub const QUOTE_REACH: usize = 1024 * 1024;

/// How to split a CSV source into rows and fields.
#[derive(Debug, Clone, Copy)]
pub struct CsvLayout<'a> {
    /// The field delimiter.
    pub delimiter: Delimiter,
    /// The number of names in the header, if known. A row over several lines must have as many fields.
    pub columns: Option<usize>,
    /// Peculiarities of the source.
    pub csv: &'a CsvSyntax,
    /// The encoding of its rows.
    pub encoding: Encoding,
    /// The version of the rules.
    pub rules: ReadingRules,
}

impl<'a> CsvLayout<'a> {
    /// The frozen layout of a run.
    pub fn of_run(settings: &'a RunSettings) -> Self {
        let (delimiter, columns) = (settings.dialect.delimiter, Some(settings.header.len()));
        let encoding = settings.encoding_of_rows();
        Self { delimiter, columns, csv: &settings.csv, encoding, rules: settings.reading }
    }
}

/// New runs use the newest rules.
impl<'a> From<&'a SourceLayout> for CsvLayout<'a> {
    fn from(layout: &'a SourceLayout) -> Self {
        let (delimiter, columns) = (layout.dialect.delimiter, Some(layout.header.len()));
        let encoding = layout.dialect.encoding.of_rows();
        Self { delimiter, columns, csv: &layout.csv, encoding, rules: ReadingRules::Second }
    }
}

/// Reads rows in batches. Memory is bounded by a batch and [`QUOTE_REACH`].
///
/// Lines end with `\n`, `\r\n` or `\r`. Blank lines are counted as lines but not as rows.
pub struct CsvReader {
    rows: CsvDecoder,
}

enum CsvDecoder {
    V1(Box<v1::CsvReaderV1>),
    V2(Box<v2::CsvReaderV2>),
}

impl fmt::Debug for CsvReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CsvReader").field("next", &self.position()).finish_non_exhaustive()
    }
}

impl CsvReader {
    /// Reads a stream that begins at `from`: after the header, or after any row.
    pub fn new(stream: ByteStream, layout: &CsvLayout<'_>, from: Position) -> Self {
        let rows = match layout.rules {
            ReadingRules::First => {
                CsvDecoder::V1(Box::new(v1::CsvReaderV1::new(stream, layout.delimiter, from, QUOTE_REACH)))
            }
            ReadingRules::Second => CsvDecoder::V2(Box::new(v2::CsvReaderV2::new(stream, layout, from, QUOTE_REACH))),
        };
        Self { rows }
    }

    /// The position after the last row of the last batch.
    pub fn position(&self) -> Position {
        match &self.rows {
            CsvDecoder::V1(rows) => rows.position(),
            CsvDecoder::V2(rows) => rows.position(),
        }
    }

    /// The next rows: at most `max_rows`, fewer at the end or if they are long, none after the end. Rows read before an
    /// error are returned first.
    ///
    /// Not cancel safe: rows of an incomplete batch are lost.
    pub async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        match &mut self.rows {
            CsvDecoder::V1(rows) => rows.next_batch(max_rows).await,
            CsvDecoder::V2(rows) => rows.next_batch(max_rows).await,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;

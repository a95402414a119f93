//! CSV: what splits rows, by the version of the rules that a run began under.
//!
//! [`CsvLayout`] says what a reader must know of a source. [`v1`] reads as `csv-async` does, [`v2`] by quotes of our own.
//! Guarantee of both: memory is bounded by a batch and by [`QUOTE_REACH`], and a read from any row's end gives the rows that
//! a read from the start would have given behind it.

mod v1;
mod v2;

use std::fmt;

use assay_transaction::{CsvText, Delimiter, Encoding, Position, ReadingRules, RunSettings};

use crate::decode::batch::BatchDecoder as _;
use crate::{ByteStream, Layout, RowBatch, SourceError};

/// How far a row may reach before its end is given up: 1 MiB. A row that does not end within it, or that has a quote open
/// at the end of the source, is its first physical line alone, and the next line starts a new row: so one quote that is
/// never closed costs one row, and neither memory nor the rest of the source.
pub const QUOTE_REACH: usize = 1024 * 1024;

/// What splits a CSV source into rows and fields.
#[derive(Debug, Clone, Copy)]
pub struct CsvLayout<'a> {
    /// What stands between fields.
    pub delimiter: Delimiter,
    /// How many names the header has; none while it is not known. A row over several lines must have as many fields.
    pub columns: Option<usize>,
    /// What the source writes in a way of its own.
    pub csv: &'a CsvText,
    /// That of the bytes of its rows.
    pub encoding: Encoding,
    /// By which rules it is read.
    pub rules: ReadingRules,
}

impl<'a> CsvLayout<'a> {
    /// What a run has frozen.
    pub fn of_run(settings: &'a RunSettings) -> Self {
        let (delimiter, columns) = (settings.dialect.delimiter, Some(settings.header.len()));
        let encoding = settings.encoding_of_rows();
        Self { delimiter, columns, csv: &settings.csv, encoding, rules: settings.reading }
    }
}

/// A run that begins now reads by the newest rules.
impl<'a> From<&'a Layout> for CsvLayout<'a> {
    fn from(layout: &'a Layout) -> Self {
        let (delimiter, columns) = (layout.dialect.delimiter, Some(layout.header.len()));
        let encoding = layout.dialect.encoding.of_rows();
        Self { delimiter, columns, csv: &layout.csv, encoding, rules: ReadingRules::Second }
    }
}

/// Reads rows in batches. Memory is bounded by a batch and by [`QUOTE_REACH`], whatever the source holds.
///
/// Lines end with `\n`, `\r\n` or `\r`. Blank lines are lines but no rows.
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
    /// Reads a stream whose first byte is the first of the row at `from`: right behind the header, or behind any row.
    pub fn new(stream: ByteStream, layout: &CsvLayout<'_>, from: Position) -> Self {
        let rows = match layout.rules {
            ReadingRules::First => {
                CsvDecoder::V1(Box::new(v1::CsvReaderV1::new(stream, layout.delimiter, from, QUOTE_REACH)))
            }
            ReadingRules::Second => CsvDecoder::V2(Box::new(v2::CsvReaderV2::new(stream, layout, from, QUOTE_REACH))),
        };
        Self { rows }
    }

    /// Where the next row is looked for: behind the last row of the last batch.
    pub fn position(&self) -> Position {
        match &self.rows {
            CsvDecoder::V1(rows) => rows.position(),
            CsvDecoder::V2(rows) => rows.position(),
        }
    }

    /// The next rows: at most `max_rows`, fewer at the end or where they are long, none behind the end. What was read before an
    /// error comes first, and then the error.
    ///
    /// Not to be cancelled: the rows of a batch that is dropped half read are lost to this reader.
    pub async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        match &mut self.rows {
            CsvDecoder::V1(rows) => rows.next_batch(max_rows).await,
            CsvDecoder::V2(rows) => rows.next_batch(max_rows).await,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;

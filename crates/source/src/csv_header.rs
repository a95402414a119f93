//! The header of a CSV source, and the delimiter that splits it.

use std::io::Cursor;

use assay_transaction::{
    Columns, CsvText, DecimalMark, Delimiter, Dialect, Encoding, Fields, HeaderError, Mapping, Position,
    REQUIRED_COLUMNS, ReadingRules,
};

use crate::head::{HEAD_BYTES, Head};
use crate::{CsvLayout, CsvReader, SourceError};

/// How much of a first line that is no header an error shows.
const SHOWN_CHARACTERS: usize = 80;

/// A header as one delimiter splits it.
pub(crate) struct Header {
    pub(crate) delimiter: Delimiter,
    pub(crate) columns: Columns,
    /// The place right behind it.
    pub(crate) end: Position,
}

/// Reads the header as a delimiter splits it; else as the one does under which it has every required column, or every one
/// that the mapping names.
pub(crate) async fn read(
    head: &Head,
    delimiter: Option<Delimiter>,
    encoding: Encoding,
    mapping: Option<&Mapping>,
) -> Result<Header, SourceError> {
    match delimiter {
        Some(delimiter) => Ok(split(head, delimiter).await?.header(encoding, mapping)?),
        None => recognise(head, encoding, mapping).await,
    }
}

/// Rows of a head from a place on.
pub(crate) fn rows(head: &Head, layout: &CsvLayout<'_>, from: Position) -> CsvReader {
    CsvReader::new(Box::pin(Cursor::new(head.from(from.offset))), layout, from)
}

/// The first row.
struct First {
    delimiter: Delimiter,
    fields: Vec<Vec<u8>>,
    end: Position,
}

impl First {
    fn header(&self, encoding: Encoding, mapping: Option<&Mapping>) -> Result<Header, HeaderError> {
        let fields: Vec<&[u8]> = self.fields.iter().map(Vec::as_slice).collect();
        let columns = Columns::from_header(&fields[..], splitting(Delimiter::Comma, encoding), mapping)?;
        Ok(Header { delimiter: self.delimiter, columns, end: self.end })
    }

    /// How many of the required columns it has, or of those that the mapping names.
    fn required(&self, mapping: Option<&Mapping>) -> usize {
        let has =
            |wanted: &str| self.fields.iter().any(|name| name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()));
        match mapping {
            Some(mapping) => mapping.columns().into_iter().filter(|wanted| has(wanted)).count(),
            None => REQUIRED_COLUMNS.iter().filter(|wanted| has(wanted)).count(),
        }
    }

    /// How close it comes to the header that is meant. Who declares a mapping knows that there is a header: where it has none of
    /// the mapping's columns, it is the one with the most columns.
    fn closeness(&self, mapping: Option<&Mapping>) -> (usize, usize) {
        let columns = if mapping.is_some() { self.fields.len().saturating_sub(1) } else { 0 };
        (self.required(mapping), columns)
    }
}

/// A dialect as far as it is known before the amounts are looked at.
fn splitting(delimiter: Delimiter, encoding: Encoding) -> Dialect {
    Dialect { delimiter, decimal_mark: DecimalMark::Point, encoding }
}

async fn split(head: &Head, delimiter: Delimiter) -> Result<First, SourceError> {
    let layout = CsvLayout { delimiter, columns: None, csv: &CsvText::default(), rules: ReadingRules::Second };
    let first = rows(head, &layout, head.start()).next_batch(1).await?.ok_or(SourceError::Empty)?;
    let row = first.rows().next().ok_or(SourceError::Empty)?;
    if row.malformed.is_some() || !head.has_whole(&row) {
        return Err(SourceError::HeaderTooLong { limit: HEAD_BYTES });
    }
    let fields = (0..row.fields.count()).filter_map(|index| row.fields.get(index)).map(<[u8]>::to_vec).collect();
    Ok(First { delimiter, fields, end: Position { row: 1, ..row.end } })
}

/// The header under the delimiter that finds every required column; else the error of the one that comes closest.
async fn recognise(head: &Head, encoding: Encoding, mapping: Option<&Mapping>) -> Result<Header, SourceError> {
    let mut closest = ((0, 0), SourceError::Undecidable { first_line: first_line(head) });
    for delimiter in Delimiter::ALL {
        let first = match split(head, delimiter).await {
            Ok(first) => first,
            // A quote that another delimiter would not open.
            Err(error @ SourceError::HeaderTooLong { .. }) => {
                if closest.0 == (0, 0) {
                    closest.1 = error;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        match first.header(encoding, mapping) {
            Ok(header) => return Ok(header),
            Err(error) if first.closeness(mapping) > closest.0 => closest = (first.closeness(mapping), error.into()),
            Err(_) => {}
        }
    }
    Err(closest.1)
}

/// The start of the first line, fit to be shown.
fn first_line(head: &Head) -> String {
    let bytes = head.from(head.start().offset);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
    if line.chars().nth(SHOWN_CHARACTERS).is_some() { shown + "…" } else { shown }
}

//! A batch of rows in flat storage: one buffer of raw bytes, one of unquoted fields, one of their ends.

use std::ops::Range;
use std::sync::Arc;

use assay_transaction::{Fields, MAX_RAW_KEPT, MAX_ROW_BYTES, RejectReason, Rejection};
use csv_async::ByteRecord;

use crate::reader::QUOTE_REACH;

/// Some rows of a source, in its order. Its storage goes back to the reader once it is dropped.
#[derive(Debug)]
pub struct RowBatch(pub(crate) Arc<Storage>);

impl RowBatch {
    /// How many rows; never 0.
    pub fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Whether there is none; it never is so in a batch that a reader gave.
    pub fn is_empty(&self) -> bool {
        self.0.rows.is_empty()
    }

    /// The rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows { storage: &self.0, rows: self.0.rows.iter() }
    }
}

/// The rows of a batch, in order.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    storage: &'a Storage,
    rows: std::slice::Iter<'a, StoredRow>,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        self.rows.next().map(|row| self.storage.row(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl ExactSizeIterator for Rows<'_> {}

/// One row as it stands in its source.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// 1-based over data rows.
    pub number: u64,
    /// The physical line it starts at, 1-based.
    pub line: u64,
    /// Its own bytes without the line end, at most [`MAX_RAW_KEPT`] of them.
    pub raw: &'a [u8],
    /// How many bytes it has, the line end not counted.
    pub raw_bytes: usize,
    /// Why it is no row that could be judged; it has no fields then.
    pub malformed: Option<RejectReason>,
    /// Its fields, unquoted.
    pub fields: RowFields<'a>,
    /// The line that the next row, or a blank line before it, starts at.
    pub end_line: u64,
    /// The offset behind its line end.
    pub end_offset: u64,
}

impl Row<'_> {
    /// Why it is no row that could be judged, in words.
    pub fn rejection(&self) -> Option<Rejection> {
        let reason = self.malformed.clone()?;
        let message = match reason {
            RejectReason::RowTooLarge => format!("the row has {} bytes, more than {MAX_ROW_BYTES}", self.raw_bytes),
            _ => format!(
                "a quote that opens on this line is not closed within {QUOTE_REACH} bytes or before the source ends; \
                 the next line was read as a new row"
            ),
        };
        Some(Rejection { reason, message })
    }
}

/// The unquoted fields of a row.
#[derive(Debug, Clone, Copy)]
pub struct RowFields<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl Fields for RowFields<'_> {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }
}

/// Where a row's parts are in the storage of its batch.
#[derive(Debug)]
struct StoredRow {
    number: u64,
    line: u64,
    raw: Range<usize>,
    raw_bytes: usize,
    malformed: Option<RejectReason>,
    fields: Range<usize>,
    ends: Range<usize>,
    end_line: u64,
    end_offset: u64,
}

/// What the rows of a batch are stored in: no allocation per row or field once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    raw: Vec<u8>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    rows: Vec<StoredRow>,
}

/// A row's place in its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) line: u64,
    pub(crate) end_line: u64,
    pub(crate) end_offset: u64,
}

impl Storage {
    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.fields.clear();
        self.ends.clear();
        self.rows.clear();
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.raw.len() + self.fields.len()
    }

    /// Adds a row with its fields, or without them where it is malformed.
    pub(crate) fn push(
        &mut self,
        place: Place,
        raw: &[u8],
        raw_bytes: usize,
        fields: Result<&ByteRecord, RejectReason>,
    ) {
        let kept = &raw[..raw.len().min(MAX_RAW_KEPT)];
        let (raw_from, fields_from, ends_from) = (self.raw.len(), self.fields.len(), self.ends.len());
        self.raw.extend_from_slice(kept);
        let malformed = match fields {
            Ok(record) => {
                self.fields.extend_from_slice(record.as_slice());
                self.ends.extend((0..record.len()).filter_map(|index| record.range(index)).map(|field| field.end));
                None
            }
            Err(reason) => Some(reason),
        };
        self.rows.push(StoredRow {
            number: place.number,
            line: place.line,
            raw: raw_from..self.raw.len(),
            raw_bytes,
            malformed,
            fields: fields_from..self.fields.len(),
            ends: ends_from..self.ends.len(),
            end_line: place.end_line,
            end_offset: place.end_offset,
        });
    }

    fn row(&self, row: &StoredRow) -> Row<'_> {
        Row {
            number: row.number,
            line: row.line,
            raw: &self.raw[row.raw.clone()],
            raw_bytes: row.raw_bytes,
            malformed: row.malformed.clone(),
            fields: RowFields { bytes: &self.fields[row.fields.clone()], ends: &self.ends[row.ends.clone()] },
            end_line: row.end_line,
            end_offset: row.end_offset,
        }
    }
}

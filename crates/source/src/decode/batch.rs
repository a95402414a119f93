//! Batches of rows in flat storage: one buffer of raw bytes, one of unquoted fields, one of their ends.

use std::ops::Range;
use std::sync::Arc;

use assay_transaction::{FieldAccess, MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason, Rejection};
use csv_async::ByteRecord;

use crate::SourceError;
use crate::decode::csv::QUOTE_REACH;

/// Consecutive rows of a source. Dropping it returns the storage to the reader.
#[derive(Debug)]
pub struct RowBatch(pub(crate) Arc<BatchStorage>);

impl RowBatch {
    /// Number of rows; never 0.
    pub fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Never true for a batch from a reader.
    pub fn is_empty(&self) -> bool {
        self.0.rows.is_empty()
    }

    /// Truncates the batch at the first row that is not kept.
    pub(crate) fn keep(&mut self, is_kept: impl Fn(&SourceRow<'_>) -> bool) {
        let kept = self.rows().take_while(|row| is_kept(row)).count();
        if let Some(storage) = Arc::get_mut(&mut self.0) {
            storage.rows.truncate(kept);
        }
    }

    /// Its rows.
    pub fn rows(&self) -> BatchRows<'_> {
        BatchRows { storage: &self.0, rows: self.0.rows.iter() }
    }
}

/// The rows of a batch.
#[derive(Debug, Clone)]
pub struct BatchRows<'a> {
    storage: &'a BatchStorage,
    rows: std::slice::Iter<'a, RowRanges>,
}

impl<'a> Iterator for BatchRows<'a> {
    type Item = SourceRow<'a>;

    fn next(&mut self) -> Option<SourceRow<'a>> {
        self.rows.next().map(|row| self.storage.row(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl ExactSizeIterator for BatchRows<'_> {}

/// One row of a source.
#[derive(Debug, Clone)]
pub struct SourceRow<'a> {
    /// 1-based, counting data rows.
    pub number: u64,
    /// Its first physical line, 1-based.
    pub line: u64,
    /// Its bytes without the line end, at most [`MAX_RAW_KEPT`].
    pub raw: &'a [u8],
    /// Its size without the line end.
    pub raw_bytes: usize,
    /// Why it cannot be validated; then it has no fields.
    pub malformed: Option<RejectReason>,
    /// Its unquoted fields.
    pub fields: RowFields<'a>,
    /// The position after its line end.
    pub end: Position,
}

impl SourceRow<'_> {
    /// The reason and message if it is malformed.
    pub fn rejection(&self) -> Option<Rejection> {
        let reason = self.malformed.clone()?;
        let message = match reason {
            RejectReason::RowTooLarge => format!("the row has {} bytes, more than {MAX_ROW_BYTES}", self.raw_bytes),
            RejectReason::QuoteMalformed => {
                let is_escaped = memchr::memmem::find(self.raw, b"\\\"").is_some();
                let hint = if is_escaped { ", or set ESCAPE=\\ if a backslash escapes them" } else { "" };
                format!(
                    "a quote that opens a field on this line is not closed before a delimiter or line end, or is closed on another line in a row without the header's number of fields: double quotes within quotes{hint}; the next line was \
                     read as a new row"
                )
            }
            RejectReason::FieldCount => {
                "the row has one delimiter fewer than the others, which end with one".to_owned()
            }
            RejectReason::JsonFormat => "the line is not a JSON object with distinct names".to_owned(),
            RejectReason::Encoding => {
                "the object is not valid text in the encoding of the source: set ENCODING if it is another one"
                    .to_owned()
            }
            _ => format!(
                "a quote that opens on this line is not closed within {QUOTE_REACH} bytes or before the source ends; \
                 the next line was read as a new row"
            ),
        };
        Some(Rejection::new(reason, message))
    }
}

/// The unquoted fields of a row.
#[derive(Debug, Clone, Copy)]
pub struct RowFields<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
    /// Which fields are numbers in the source's grammar; empty if it has none.
    numbers: &'a [bool],
    extras: &'a [ExtraField],
}

/// A field that the header lacks: ends of its name and value in the bytes of the row's fields, each starting at the
/// previous end.
#[derive(Debug, Clone, Copy)]
struct ExtraField {
    name_end: usize,
    value_end: usize,
}

impl FieldAccess for RowFields<'_> {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }

    fn is_number(&self, index: usize) -> bool {
        self.numbers.get(index).copied().unwrap_or_default()
    }

    fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = self.ends.last().copied().unwrap_or_default();
        self.extras.iter().map(move |extra| {
            let name = &self.bytes[start..extra.name_end];
            start = extra.value_end;
            (name, &self.bytes[extra.name_end..extra.value_end])
        })
    }
}

/// The fields of a row before they enter a batch.
#[derive(Debug, Default)]
pub(crate) struct FieldsBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    numbers: Vec<bool>,
    extras: Vec<ExtraField>,
}

impl FieldsBuffer {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.numbers.clear();
        self.extras.clear();
    }

    /// Adds the next field of the header, and whether the source's grammar makes it a number. Extra fields come last.
    pub(crate) fn push(&mut self, field: &[u8], is_number: bool) {
        self.bytes.extend_from_slice(field);
        self.ends.push(self.bytes.len());
        self.numbers.push(is_number);
    }

    /// Adds a field that the header lacks.
    pub(crate) fn push_extra(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.extras.push(ExtraField { name_end, value_end: self.bytes.len() });
    }
}

/// The parts of a row in the storage of its batch.
#[derive(Debug)]
struct RowRanges {
    number: u64,
    line: u64,
    raw: Range<usize>,
    raw_bytes: usize,
    malformed: Option<RejectReason>,
    fields: Range<usize>,
    ends: Range<usize>,
    numbers: Range<usize>,
    extras: Range<usize>,
    end_line: u64,
    end_offset: u64,
}

/// A batch of this size is full, however few its rows.
pub(crate) const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The batches of one decoder: an error is held back until the rows before it are returned, and storage is reused.
#[derive(Debug, Default)]
pub(crate) struct BatchOutput {
    /// The error after the last batch.
    failed: Option<SourceError>,
    /// The storage of the last batch.
    spare: Option<Arc<BatchStorage>>,
}

impl BatchOutput {
    /// Storage for the next batch, or the error after the last one.
    pub(crate) fn begin(&mut self) -> Result<BatchStorage, SourceError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // Reused unless the last batch is still referenced.
        let mut rows = self.spare.take().and_then(Arc::into_inner).unwrap_or_default();
        rows.clear();
        Ok(rows)
    }

    /// The filled batch, if it has rows. An error is returned now, or after its rows.
    pub(crate) fn finish(
        &mut self,
        rows: BatchStorage,
        error: Option<SourceError>,
    ) -> Result<Option<RowBatch>, SourceError> {
        if rows.rows() == 0 {
            return error.map_or(Ok(None), Err);
        }
        self.failed = error;
        let rows = Arc::new(rows);
        self.spare = Some(Arc::clone(&rows));
        Ok(Some(RowBatch(rows)))
    }
}

/// A decoder that fills batches.
pub(crate) trait BatchDecoder {
    fn output(&mut self) -> &mut BatchOutput;

    /// Reads on and adds rows to a batch that has room, at most `max_rows`; returns whether more may follow.
    async fn fill(&mut self, rows: &mut BatchStorage, max_rows: usize) -> Result<bool, SourceError>;

    /// See [`RowReader::next_batch`](crate::RowReader::next_batch).
    async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        let mut rows = self.output().begin()?;
        let mut read = Ok(true);
        while matches!(read, Ok(true)) && rows.has_room(max_rows) {
            read = self.fill(&mut rows, max_rows).await;
        }
        self.output().finish(rows, read.err())
    }
}

/// The storage of a batch: once grown, no allocation per row or field.
#[derive(Debug, Default)]
pub(crate) struct BatchStorage {
    raw: Vec<u8>,
    fields: Vec<u8>,
    ends: Vec<usize>,
    numbers: Vec<bool>,
    extras: Vec<ExtraField>,
    rows: Vec<RowRanges>,
}

/// The bounds of a row in its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowBounds {
    pub(crate) number: u64,
    pub(crate) line: u64,
    pub(crate) end_line: u64,
    pub(crate) end_offset: u64,
}

impl BatchStorage {
    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.fields.clear();
        self.ends.clear();
        self.numbers.clear();
        self.extras.clear();
        self.rows.clear();
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Its size. With thousands of columns, field ends are most of it.
    pub(crate) fn bytes(&self) -> usize {
        let places = size_of_val(&*self.ends) + size_of_val(&*self.numbers) + size_of_val(&*self.extras);
        self.raw.len() + self.fields.len() + places
    }

    /// Whether another row fits; a batch holds at least one.
    pub(crate) fn has_room(&self, max_rows: usize) -> bool {
        self.rows() < max_rows.max(1) && self.bytes() < MAX_BATCH_BYTES
    }

    /// Adds a CSV row, without fields if it is malformed.
    pub(crate) fn push_record(
        &mut self,
        bounds: RowBounds,
        raw: &[u8],
        raw_bytes: usize,
        fields: Result<&ByteRecord, RejectReason>,
    ) {
        let from = self.stored();
        let malformed = match fields {
            Ok(record) => {
                self.fields.extend_from_slice(record.as_slice());
                self.ends.extend((0..record.len()).filter_map(|index| record.range(index)).map(|field| field.end));
                None
            }
            Err(reason) => Some(reason),
        };
        self.finish(from, bounds, raw, raw_bytes, malformed);
    }

    /// Begins a row whose fields are added one by one.
    pub(crate) fn open(&mut self) -> OpenRow<'_> {
        let (bytes, ends, ..) = self.stored();
        OpenRow { field: bytes, bytes, ends, storage: self }
    }

    /// Like [`BatchStorage::push_record`], for other fields.
    pub(crate) fn push_fields(
        &mut self,
        bounds: RowBounds,
        raw: &[u8],
        raw_bytes: usize,
        fields: Result<&FieldsBuffer, RejectReason>,
    ) {
        let from = self.stored();
        let malformed = match fields {
            Ok(fields) => {
                self.fields.extend_from_slice(&fields.bytes);
                self.ends.extend_from_slice(&fields.ends);
                self.numbers.extend_from_slice(&fields.numbers);
                self.extras.extend_from_slice(&fields.extras);
                None
            }
            Err(reason) => Some(reason),
        };
        self.finish(from, bounds, raw, raw_bytes, malformed);
    }

    /// The sizes of fields, ends, numbers and extras.
    fn stored(&self) -> (usize, usize, usize, usize) {
        (self.fields.len(), self.ends.len(), self.numbers.len(), self.extras.len())
    }

    /// Adds a row whose fields were stored since `from`.
    fn finish(
        &mut self,
        (fields, ends, numbers, extras): (usize, usize, usize, usize),
        bounds: RowBounds,
        raw: &[u8],
        raw_bytes: usize,
        malformed: Option<RejectReason>,
    ) {
        let raw_from = self.raw.len();
        self.raw.extend_from_slice(&raw[..raw.len().min(MAX_RAW_KEPT)]);
        self.rows.push(RowRanges {
            number: bounds.number,
            line: bounds.line,
            raw: raw_from..self.raw.len(),
            raw_bytes,
            malformed,
            fields: fields..self.fields.len(),
            ends: ends..self.ends.len(),
            numbers: numbers..self.numbers.len(),
            extras: extras..self.extras.len(),
            end_line: bounds.end_line,
            end_offset: bounds.end_offset,
        });
    }

    fn row(&self, row: &RowRanges) -> SourceRow<'_> {
        SourceRow {
            number: row.number,
            line: row.line,
            raw: &self.raw[row.raw.clone()],
            raw_bytes: row.raw_bytes,
            malformed: row.malformed.clone(),
            fields: RowFields {
                bytes: &self.fields[row.fields.clone()],
                ends: &self.ends[row.ends.clone()],
                numbers: &self.numbers[row.numbers.clone()],
                extras: &self.extras[row.extras.clone()],
            },
            end: Position { row: row.number + 1, line: row.end_line, offset: row.end_offset },
        }
    }
}

/// A row being added field by field, without copies. Finish or clear it.
pub(crate) struct OpenRow<'a> {
    storage: &'a mut BatchStorage,
    /// Start of its fields.
    bytes: usize,
    ends: usize,
    /// Start of the current field.
    field: usize,
}

impl OpenRow<'_> {
    /// Appends to the current field.
    #[inline]
    pub(crate) fn put(&mut self, text: &[u8]) {
        self.storage.fields.extend_from_slice(text);
    }

    /// The current field so far.
    pub(crate) fn open_field(&self) -> &[u8] {
        &self.storage.fields[self.field..]
    }

    /// Empties the current field.
    pub(crate) fn clear_field(&mut self) {
        self.storage.fields.truncate(self.field);
    }

    /// Ends the current field and begins the next.
    #[inline]
    pub(crate) fn end_field(&mut self) {
        self.field = self.storage.fields.len();
        self.storage.ends.push(self.field - self.bytes);
    }

    /// Number of ended fields.
    pub(crate) fn count(&self) -> usize {
        self.storage.ends.len() - self.ends
    }

    /// The last ended field.
    pub(crate) fn last_field(&self) -> &[u8] {
        let ends = &self.storage.ends[self.ends..];
        let start = ends.len().checked_sub(2).map_or(0, |before| ends[before]);
        &self.storage.fields[self.bytes + start..self.field]
    }

    /// Removes the last ended field.
    pub(crate) fn drop_field(&mut self) {
        self.field -= self.last_field().len();
        self.storage.fields.truncate(self.field);
        self.storage.ends.pop();
    }

    /// Removes all fields.
    pub(crate) fn clear(&mut self) {
        self.storage.fields.truncate(self.bytes);
        self.storage.ends.truncate(self.ends);
        self.field = self.bytes;
    }

    /// Adds the row to the batch, without fields if it is malformed.
    pub(crate) fn finish(mut self, bounds: RowBounds, raw: &[u8], raw_bytes: usize, malformed: Option<RejectReason>) {
        if malformed.is_some() {
            self.clear();
        }
        let (_, _, numbers, extras) = self.storage.stored();
        self.storage.finish((self.bytes, self.ends, numbers, extras), bounds, raw, raw_bytes, malformed);
    }
}

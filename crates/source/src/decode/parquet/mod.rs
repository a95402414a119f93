//! Parquet: reads a file in ranges, its index at the end first, then row group by row group.
//!
//! Values become the text of a CSV source: decimals as digits, floating-point numbers as their shortest digits, dates
//! and times in ISO 8601, in UTC if the column says so. Null is empty. A row's bytes are these texts as a JSON object,
//! its line is its number, its offset the number of rows before it.
//!
//! The library is synchronous, so batches are decoded on a blocking thread. Memory is bounded by a batch, a page of
//! each column, and the cached blocks of the file.

mod int96;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use assay_transaction::{MAX_ROW_BYTES, Position, ReadingRules, RejectReason};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::data_type::Decimal;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader as _, Length, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::record::{Field, Row};
use tokio::runtime::Handle;

use self::int96::Int96Column;
use crate::decode::batch::{BatchOutput, BatchStorage, FieldsBuffer, RowBatch, RowBounds};
use crate::{FoundSource, SourceError, SourceUrl, Sources};

/// Size of a range read from the file.
const BLOCK_BYTES: u64 = 256 * 1024;
/// Most cached blocks: several per column of a wide file.
const MAX_BLOCKS: usize = 64;

/// Reads rows in batches.
pub(crate) struct ParquetReader {
    /// None while a batch is decoded.
    decoder: Option<Box<ParquetDecoder>>,
    position: Position,
    output: BatchOutput,
}

impl ParquetReader {
    /// Reads the index of a file, to read rows from a position.
    pub(crate) async fn open(
        sources: &Sources,
        url: &SourceUrl,
        found: &FoundSource,
        rules: ReadingRules,
        from: Position,
    ) -> Result<Self, SourceError> {
        let ranges = FileRanges::new(sources, url, found);
        let decoder = blocking(move || ParquetDecoder::open(ranges, rules, from.offset)).await??;
        Ok(Self { decoder: Some(Box::new(decoder)), position: from, output: BatchOutput::default() })
    }

    /// The names of its columns.
    pub(crate) fn names(&self) -> Vec<String> {
        let columns = self.decoder.iter().flat_map(|decoder| &decoder.columns);
        columns.map(|column| column.name.trim().to_owned()).collect()
    }

    /// Counts the bytes read from the file.
    pub(crate) fn bytes_read(&self) -> Arc<AtomicU64> {
        self.decoder.as_ref().map(|decoder| Arc::clone(&decoder.ranges.0.bytes_read)).unwrap_or_default()
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.decoder.as_ref().map_or(0, |decoder| decoder.rows)
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// See [`RowReader::next_batch`](crate::RowReader::next_batch).
    pub(crate) async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        let mut rows = self.output.begin()?;
        let Some(mut decoder) = self.decoder.take() else { return Ok(None) };
        let from = self.position;
        let (decoder, rows, (end, error)) = blocking(move || {
            let filled = decoder.fill(&mut rows, from, max_rows);
            (decoder, rows, filled)
        })
        .await?;
        self.decoder = Some(decoder);
        self.position = end;
        self.output.finish(rows, error)
    }
}

/// Runs blocking work. A panic of the library means a damaged file.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| damaged("the decoder panicked"))
}

fn damaged(cause: impl Into<String>) -> SourceError {
    SourceError::Damaged { what: "Parquet", cause: cause.into() }
}

/// How to read the values of a column.
struct ParquetColumn {
    name: String,
    /// Unit of integer timestamps, and whether they are in UTC.
    time: Option<(TimeUnit, bool)>,
    /// Whether its bytes are UUIDs.
    is_uuid: bool,
}

/// The library's reader and its position.
struct ParquetDecoder {
    file: SerializedFileReader<FileRanges>,
    ranges: FileRanges,
    /// V1 has INT96 in milliseconds, and UUIDs as bytes.
    rules: ReadingRules,
    columns: Vec<ParquetColumn>,
    rows: u64,
    /// The next row group.
    group: usize,
    /// Rows to skip before the first wanted one.
    skip: u64,
    current: Option<ReaderIter>,
    /// The INT96 columns of the row group, at the last row.
    int96_columns: Vec<Int96Column>,
    fields: FieldsBuffer,
    raw: Vec<u8>,
}

impl ParquetDecoder {
    fn open(ranges: FileRanges, rules: ReadingRules, skip: u64) -> Result<Self, SourceError> {
        let file = SerializedFileReader::new(ranges.clone()).map_err(|error| ranges.error(&error))?;
        let metadata = file.metadata().file_metadata();
        let rows = u64::try_from(metadata.num_rows()).unwrap_or_default();
        let columns = metadata.schema().get_fields().iter().map(|field| {
            let logical = field.get_basic_info().logical_type_ref();
            let is_uuid = rules != ReadingRules::First && matches!(logical, Some(LogicalType::Uuid));
            let time = match logical {
                Some(LogicalType::Timestamp { is_adjusted_to_u_t_c, unit }) => Some((*unit, *is_adjusted_to_u_t_c)),
                _ => None,
            };
            ParquetColumn { name: field.name().to_owned(), time, is_uuid }
        });
        let columns = columns.collect();
        Ok(Self {
            file,
            ranges,
            rules,
            columns,
            rows,
            group: 0,
            skip,
            current: None,
            int96_columns: Vec::new(),
            fields: FieldsBuffer::default(),
            raw: Vec::new(),
        })
    }

    /// Decodes up to `max_rows`; returns the position after them, and the error that ended them.
    fn fill(&mut self, rows: &mut BatchStorage, from: Position, max_rows: usize) -> (Position, Option<SourceError>) {
        let mut at = from;
        while rows.has_room(max_rows) {
            match self.next() {
                Ok(Some(row)) => at = self.store(&row, at, rows),
                Ok(None) => break,
                Err(error) => return (at, Some(self.ranges.error(&error))),
            }
        }
        (at, None)
    }

    fn next(&mut self) -> Result<Option<Row>, ParquetError> {
        loop {
            if let Some(rows) = &mut self.current {
                let row = rows.next();
                if row.is_some() {
                    self.int96_columns.iter_mut().try_for_each(Int96Column::advance)?;
                }
                match row {
                    Some(row) if self.skip == 0 => return row.map(Some),
                    Some(row) => {
                        row?;
                        self.skip -= 1;
                        continue;
                    }
                    None => self.current = None,
                }
            }
            if self.group >= self.file.num_row_groups() {
                return Ok(None);
            }
            let rows = u64::try_from(self.file.metadata().row_group(self.group).num_rows()).unwrap_or_default();
            if rows <= self.skip {
                self.skip -= rows;
            } else {
                let group = self.file.get_row_group(self.group)?;
                let schema = self.file.metadata().file_metadata().schema_descr_ptr();
                self.int96_columns =
                    if self.rules == ReadingRules::First { Vec::new() } else { Int96Column::of(&*group, &schema)? };
                self.current = Some(TreeBuilder::new().as_iter(schema, &*group)?);
            }
            self.group += 1;
        }
    }

    /// Adds a row to a batch; returns the position after it.
    fn store(&mut self, row: &Row, at: Position, storage: &mut BatchStorage) -> Position {
        self.fields.clear();
        self.raw.clear();
        for (index, ((name, field), column)) in row.get_column_iter().zip(&self.columns).enumerate() {
            let text = match self.int96_columns.iter().find(|int96_columns| int96_columns.column == index) {
                Some(int96_columns) => int96_columns.text().into_bytes(),
                None => text(field, column),
            };
            self.raw.push(if self.raw.is_empty() { b'{' } else { b',' });
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut self.raw, name);
            self.raw.push(b':');
            let _ = serde_json::to_writer(&mut self.raw, &String::from_utf8_lossy(&text));
            self.fields.push(&text, is_number(field));
        }
        self.raw.push(b'}');
        let end = Position { row: at.row + 1, line: at.row + 1, offset: at.offset + 1 };
        let bounds = RowBounds { number: at.row, line: at.row, end_line: end.line, end_offset: end.offset };
        let bytes = self.raw.len();
        let fields = if bytes > MAX_ROW_BYTES { Err(RejectReason::RowTooLarge) } else { Ok(&self.fields) };
        storage.push_fields(bounds, &self.raw, bytes, fields);
        end
    }
}

/// Whether the value is a number, not a text.
fn is_number(field: &Field) -> bool {
    !matches!(field, Field::Null | Field::Str(_) | Field::Bytes(_))
}

/// The text of a value.
fn text(field: &Field, column: &ParquetColumn) -> Vec<u8> {
    let text = match (field, column.time) {
        (Field::Null, _) => String::new(),
        (Field::Long(value), Some((unit, is_utc))) => moment(*value, unit, is_utc),
        (Field::TimestampMillis(value), time) => {
            moment(*value, TimeUnit::MILLIS, time.is_none_or(|(_, is_utc)| is_utc))
        }
        (Field::TimestampMicros(value), time) => {
            moment(*value, TimeUnit::MICROS, time.is_none_or(|(_, is_utc)| is_utc))
        }
        (Field::Date(days), _) => NaiveDate::from_ymd_opt(1970, 1, 1)
            .and_then(|epoch| epoch.checked_add_signed(TimeDelta::days(i64::from(*days))))
            .map_or_else(|| days.to_string(), |date| date.to_string()),
        (Field::Float(value), _) => value.to_string(),
        (Field::Double(value), _) => value.to_string(),
        (Field::Decimal(value), _) => digits(value),
        (Field::Str(text), _) => text.clone(),
        (Field::Bytes(bytes), _) if column.is_uuid => uuid(bytes.data()),
        (Field::Bytes(bytes), _) => return bytes.data().to_vec(),
        (other, _) => other.to_string(),
    };
    text.into_bytes()
}

/// The text of a UUID.
fn uuid(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::with_capacity(36), |mut text, (index, byte)| {
        let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{hyphen}{byte:02x}");
        text
    })
}

/// A point in time, or a local time.
fn moment(value: i64, unit: TimeUnit, is_utc: bool) -> String {
    let at = match unit {
        TimeUnit::MILLIS => DateTime::from_timestamp_millis(value),
        TimeUnit::MICROS => DateTime::from_timestamp_micros(value),
        TimeUnit::NANOS => Some(DateTime::from_timestamp_nanos(value)),
    };
    let zone = if is_utc { "Z" } else { "" };
    at.map_or_else(|| value.to_string(), |at| format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.f")))
}

/// The digits of a decimal, stored as a big-endian integer in two's complement.
fn digits(decimal: &Decimal) -> String {
    let bytes = decimal.data();
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut units = if negative { -1_i128 } else { 0 };
    for byte in bytes {
        // More than 38 digits cannot be an amount, so leading ones may be lost.
        units = units.wrapping_shl(8) | i128::from(*byte);
    }
    let scale = usize::try_from(decimal.scale()).unwrap_or_default();
    let sign = if units < 0 { "-" } else { "" };
    let all = format!("{:0width$}", units.unsigned_abs(), width = scale + 1);
    let (integer, fraction) = all.split_at(all.len() - scale);
    if scale == 0 { format!("{sign}{integer}") } else { format!("{sign}{integer}.{fraction}") }
}

/// The file as seen by the library: ranges of one version, read through cached blocks.
#[derive(Clone)]
struct FileRanges(Arc<CachedFile>);

struct CachedFile {
    sources: Sources,
    url: SourceUrl,
    found: FoundSource,
    runtime: Handle,
    /// Least recently used first.
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
    /// Why a range could not be read.
    failed: Mutex<Option<SourceError>>,
    /// Bytes read, counting repeated blocks again.
    bytes_read: Arc<AtomicU64>,
}

impl FileRanges {
    fn new(sources: &Sources, url: &SourceUrl, found: &FoundSource) -> Self {
        let (sources, url, found, runtime) = (sources.clone(), url.clone(), found.clone(), Handle::current());
        let (blocks, failed, bytes_read) = (Mutex::default(), Mutex::default(), Arc::default());
        Self(Arc::new(CachedFile { sources, url, found, runtime, blocks, failed, bytes_read }))
    }

    /// The meaning of a library error: a failed read, or a damaged file.
    fn error(&self, error: &ParquetError) -> SourceError {
        let failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.unwrap_or_else(|| damaged(error.to_string()))
    }

    /// The block at an offset, from that offset; empty at the end.
    fn from(&self, offset: u64) -> io::Result<Bytes> {
        let CachedFile { sources, url, found, runtime, blocks, failed, bytes_read } = &*self.0;
        let start = offset / BLOCK_BYTES * BLOCK_BYTES;
        let end = found.size.min(start + BLOCK_BYTES);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let from = usize::try_from(offset - start).unwrap_or_default();
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = blocks.iter().position(|(block, _)| *block == start)
            && let Some(block) = blocks.remove(at)
        {
            let rest = block.1.slice(from..);
            blocks.push_back(block);
            return Ok(rest);
        }
        // One at a time: each column waits for its own block anyway.
        match runtime.block_on(sources.read_at(url, &found.identity, start..end)) {
            Ok(block) => {
                bytes_read.fetch_add(block.len() as u64, Ordering::Relaxed);
                if blocks.len() >= MAX_BLOCKS {
                    blocks.pop_front();
                }
                blocks.push_back((start, block.clone()));
                Ok(block.slice(from.min(block.len())..))
            }
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(io::Error::other("the range cannot be read"))
            }
        }
    }
}

impl Length for FileRanges {
    fn len(&self) -> u64 {
        self.0.found.size
    }
}

impl ChunkReader for FileRanges {
    type T = RangeReader;

    fn get_read(&self, start: u64) -> Result<RangeReader, ParquetError> {
        Ok(RangeReader { ranges: self.clone(), at: start, block: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = Vec::new();
        let read = self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        if read == length { Ok(bytes.into()) } else { Err(ParquetError::EOF("the file ends too early".to_owned())) }
    }
}

/// Reads from an offset.
struct RangeReader {
    ranges: FileRanges,
    at: u64,
    block: Bytes,
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            self.block = self.ranges.from(self.at)?;
        }
        let read = self.block.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.block.split_to(read));
        self.at += read as u64;
        Ok(read)
    }
}

//! The reader of rows in any format.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use assay_transaction::{Format, JsonNames, Position, RunSettings};

use crate::decode::compression::{CountingStream, Packing, skip_bytes, unpack};
use crate::decode::json::JsonReader;
use crate::decode::transcode::transcode;
use crate::{ByteStream, CsvLayout, CsvReader, RowBatch, SourceError};

/// Reads rows in batches, in order. Memory is bounded whatever the source holds.
pub struct RowReader {
    rows: FormatDecoder,
    /// Bytes read from the source.
    bytes_read: Arc<AtomicU64>,
}

enum FormatDecoder {
    Csv(CsvReader),
    Json(JsonReader),
    #[cfg(feature = "parquet")]
    Parquet(crate::decode::parquet::ParquetReader),
}

impl fmt::Debug for RowReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RowReader").field("position", &self.position()).finish_non_exhaustive()
    }
}

/// The byte at which to start the stream for a position: the first if offsets count decompressed or transcoded bytes.
pub(crate) fn start_offset(settings: &RunSettings, from: Position) -> u64 {
    if settings.compression.is_none() && !settings.is_transcoded() { from.offset } else { 0 }
}

impl RowReader {
    /// Reads a text source with a run's frozen settings from a position between two rows. The stream begins at
    /// [`start_offset`], or where the compressed data begin.
    pub(crate) fn text(stream: ByteStream, packing: Packing, settings: &RunSettings, from: Position) -> Self {
        let start_offset = start_offset(settings, from);
        let bytes_read = Arc::new(AtomicU64::new(start_offset));
        let mut stream = unpack(Box::pin(CountingStream::new(stream, &bytes_read)), packing);
        if settings.is_transcoded() {
            stream = transcode(stream, settings.dialect.encoding);
        }
        if from.offset > start_offset {
            stream = skip_bytes(stream, from.offset);
        }
        let rows = match settings.format {
            Format::JsonLines => {
                FormatDecoder::Json(JsonReader::new(stream, JsonNames::of_run(settings), settings.reading, from))
            }
            _ => FormatDecoder::Csv(CsvReader::new(stream, &CsvLayout::of_run(settings), from)),
        };
        Self { rows, bytes_read }
    }

    /// Reads one row again from the bytes that a run has kept of it: the first of the batch, perhaps cut into several if it is
    /// malformed.
    pub fn of_row(raw: Vec<u8>, settings: &RunSettings) -> Self {
        // Kept bytes are unpacked, and converted to UTF-8 if the rows of the run are.
        let stream: ByteStream = Box::pin(std::io::Cursor::new(raw));
        match settings.format {
            Format::Csv => CsvReader::new(stream, &CsvLayout::of_run(settings), Position::START).into(),
            // Rows of Parquet are kept as JSON.
            _ => JsonReader::new(stream, JsonNames::of_run(settings), settings.reading, Position::START).into(),
        }
    }

    /// The position after the last row of the last batch.
    pub fn position(&self) -> Position {
        match &self.rows {
            FormatDecoder::Csv(rows) => rows.position(),
            FormatDecoder::Json(rows) => rows.position(),
            #[cfg(feature = "parquet")]
            FormatDecoder::Parquet(rows) => rows.position(),
        }
    }

    /// Bytes read from the source as stored.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The next rows: at most `max_rows`, fewer at the end or if they are long, none after the end. Rows read before an
    /// error are returned first.
    ///
    /// Not cancel safe: rows of an incomplete batch are lost.
    pub async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        match &mut self.rows {
            FormatDecoder::Csv(rows) => rows.next_batch(max_rows).await,
            FormatDecoder::Json(rows) => rows.next_batch(max_rows).await,
            #[cfg(feature = "parquet")]
            FormatDecoder::Parquet(rows) => rows.next_batch(max_rows).await,
        }
    }
}

impl From<CsvReader> for RowReader {
    fn from(rows: CsvReader) -> Self {
        Self { rows: FormatDecoder::Csv(rows), bytes_read: Arc::default() }
    }
}

impl From<JsonReader> for RowReader {
    fn from(rows: JsonReader) -> Self {
        Self { rows: FormatDecoder::Json(rows), bytes_read: Arc::default() }
    }
}

#[cfg(feature = "parquet")]
impl From<crate::decode::parquet::ParquetReader> for RowReader {
    fn from(rows: crate::decode::parquet::ParquetReader) -> Self {
        let bytes_read = rows.bytes_read();
        Self { rows: FormatDecoder::Parquet(rows), bytes_read }
    }
}

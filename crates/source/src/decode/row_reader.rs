//! Rows of a source, whatever format it holds them in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use assay_transaction::{Format, JsonNames, Position, RunSettings};

use crate::decode::compression::{CountingStream, Packing, skip_bytes, unpack};
use crate::decode::json::JsonReader;
use crate::decode::transcode::transcode;
use crate::{ByteStream, CsvLayout, CsvReader, RowBatch, SourceError};

/// Reads rows in batches, in the order of the source. Memory is bounded whatever the source holds.
pub struct RowReader {
    rows: FormatDecoder,
    /// Bytes of the source that were taken.
    taken: Arc<AtomicU64>,
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

/// Which byte of the source its reader begins at: that of a place, or the first where offsets are those of what it is made into.
pub(crate) fn start_offset(settings: &RunSettings, from: Position) -> u64 {
    if settings.compression.is_none() && !settings.is_transcoded() { from.offset } else { 0 }
}

impl RowReader {
    /// Reads a text source as its run has frozen it, from a place between two rows on. The stream begins at that place;
    /// where offsets are those of what it is made into, where its packing begins.
    pub(crate) fn text(stream: ByteStream, packing: Packing, settings: &RunSettings, from: Position) -> Self {
        let start_offset = start_offset(settings, from);
        let taken = Arc::new(AtomicU64::new(start_offset));
        let mut stream = unpack(Box::pin(CountingStream::new(stream, &taken)), packing);
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
        Self { rows, taken }
    }

    /// Where the next row is looked for: behind the last row of the last batch.
    pub fn position(&self) -> Position {
        match &self.rows {
            FormatDecoder::Csv(rows) => rows.position(),
            FormatDecoder::Json(rows) => rows.position(),
            #[cfg(feature = "parquet")]
            FormatDecoder::Parquet(rows) => rows.position(),
        }
    }

    /// How many bytes of the source were taken, packed as it is.
    pub fn bytes_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The next rows: at most `max_rows`, fewer at the end or where they are long, none behind the end. What was read before
    /// an error comes first, and then the error.
    ///
    /// Not to be cancelled: the rows of a batch that is dropped half read are lost to this reader.
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
        Self { rows: FormatDecoder::Csv(rows), taken: Arc::default() }
    }
}

impl From<JsonReader> for RowReader {
    fn from(rows: JsonReader) -> Self {
        Self { rows: FormatDecoder::Json(rows), taken: Arc::default() }
    }
}

#[cfg(feature = "parquet")]
impl From<crate::decode::parquet::ParquetReader> for RowReader {
    fn from(rows: crate::decode::parquet::ParquetReader) -> Self {
        let taken = rows.taken();
        Self { rows: FormatDecoder::Parquet(rows), taken }
    }
}

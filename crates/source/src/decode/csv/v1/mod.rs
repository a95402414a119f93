//! V1: `csv-async` splits rows, and the [window] below it locates them. Kept unchanged for runs that began with it.

mod window;

use assay_transaction::{Delimiter, MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason};
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind};

use crate::decode::batch::{BatchDecoder, BatchOutput, BatchStorage, RowBounds};
use crate::{ByteStream, SourceError};
use window::RowWindow;

/// Bytes of the window that the CSV reader buffers.
const CSV_BUFFER_BYTES: usize = 64 * 1024;

/// See [`CsvReader`](super::CsvReader).
pub(super) struct CsvReaderV1 {
    csv: AsyncReader<RowWindow>,
    record: ByteRecord,
    /// The difference between the CSV reader's count of bytes and the source offset; it wraps.
    shift: u64,
    next: Position,
    output: BatchOutput,
}

impl CsvReaderV1 {
    /// Reads a stream that begins at `from`, with rows of at most `reach` bytes.
    pub(super) fn new(stream: ByteStream, delimiter: Delimiter, from: Position, reach: usize) -> Self {
        let window = RowWindow::new(stream, from.offset, from.line, reach);
        let csv = AsyncReaderBuilder::new()
            .delimiter(delimiter.byte())
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(CSV_BUFFER_BYTES)
            .create_reader(window);
        Self {
            csv,
            record: ByteRecord::new(),
            shift: from.offset.wrapping_sub(RowWindow::PRIMER),
            next: from,
            output: BatchOutput::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.next
    }
}

impl BatchDecoder for CsvReaderV1 {
    fn output(&mut self) -> &mut BatchOutput {
        &mut self.output
    }

    /// Adds one row, if any.
    async fn fill(&mut self, rows: &mut BatchStorage, _: usize) -> Result<bool, SourceError> {
        let found = self.csv.read_byte_record(&mut self.record).await.map_err(stream_error)?;
        let consumed = self.csv.position().byte();
        let window = self.csv.get_mut();
        window.skip_blank_lines();
        let (number, line) = (self.next.row, window.line());
        if found {
            self.next.row += 1;
            if window.was_cut() {
                let first = window.take_line(MAX_RAW_KEPT).await?;
                self.shift = window.offset().wrapping_sub(consumed);
                let bounds = RowBounds { number, line, end_line: window.line(), end_offset: window.offset() };
                rows.push_record(bounds, &first.kept, first.bytes, Err(cut_reason(first.bytes)));
            } else {
                let row = window.finish_row(self.shift.wrapping_add(consumed));
                let bounds = RowBounds { number, line, end_line: window.line(), end_offset: window.offset() };
                let raw = window.bytes(row);
                let fields = if raw.len() > MAX_ROW_BYTES { Err(RejectReason::RowTooLarge) } else { Ok(&self.record) };
                rows.push_record(bounds, raw, raw.len(), fields);
            }
            self.next.line = window.line();
            self.next.offset = window.offset();
        }
        Ok(found)
    }
}

/// Why a row is cut, from the length of its first line.
fn cut_reason(bytes: usize) -> RejectReason {
    if bytes > MAX_ROW_BYTES { RejectReason::RowTooLarge } else { RejectReason::UnterminatedQuote }
}

fn stream_error(error: csv_async::Error) -> SourceError {
    let cause = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) => error.into(),
        _ => SourceError::Read { cause },
    }
}

#[cfg(test)]
mod tests;

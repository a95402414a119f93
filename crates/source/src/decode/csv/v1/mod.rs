//! The first rules: `csv-async` splits rows, the [window] below it knows where they stand. They are kept as they are for the runs
//! that began under them.

mod window;

use assay_transaction::{Delimiter, MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason};
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind};

use crate::decode::batch::{Batches, Filling, Place, Storage};
use crate::{ByteStream, SourceError};
use window::Window;

/// What the CSV reader holds of the window's bytes.
const CSV_BUFFER_BYTES: usize = 64 * 1024;

/// See [`CsvReader`](super::CsvReader).
pub(super) struct Reader {
    csv: AsyncReader<Window>,
    record: ByteRecord,
    /// What makes the CSV reader's count of bytes an offset of the source; it wraps.
    shift: u64,
    next: Position,
    batches: Batches,
}

impl Reader {
    /// Reads a stream whose first byte is the first of the row at `from`, of rows that may reach so far.
    pub(super) fn new(stream: ByteStream, delimiter: Delimiter, from: Position, reach: usize) -> Self {
        let window = Window::new(stream, from.offset, from.line, reach);
        let csv = AsyncReaderBuilder::new()
            .delimiter(delimiter.byte())
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(CSV_BUFFER_BYTES)
            .create_reader(window);
        Self {
            csv,
            record: ByteRecord::new(),
            shift: from.offset.wrapping_sub(Window::PRIMER),
            next: from,
            batches: Batches::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.next
    }
}

impl Filling for Reader {
    fn batches(&mut self) -> &mut Batches {
        &mut self.batches
    }

    /// One row, where there is one.
    async fn fill(&mut self, rows: &mut Storage, _: usize) -> Result<bool, SourceError> {
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
                let place = Place { number, line, end_line: window.line(), end_offset: window.offset() };
                rows.push_record(place, &first.kept, first.bytes, Err(why_cut(first.bytes)));
            } else {
                let row = window.finish_row(self.shift.wrapping_add(consumed));
                let place = Place { number, line, end_line: window.line(), end_offset: window.offset() };
                let raw = window.bytes(row);
                let fields = if raw.len() > MAX_ROW_BYTES { Err(RejectReason::RowTooLarge) } else { Ok(&self.record) };
                rows.push_record(place, raw, raw.len(), fields);
            }
            self.next.line = window.line();
            self.next.offset = window.offset();
        }
        Ok(found)
    }
}

/// Why a row whose end was given up is rejected, by the length of its first line.
fn why_cut(bytes: usize) -> RejectReason {
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

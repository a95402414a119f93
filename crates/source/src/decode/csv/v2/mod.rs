//! V2: a field is quoted if its quote opens after a delimiter and closes before one; any other quote that opens a field
//! costs its physical line.
//!
//! The [splitter](split) finds rows and fields in the [buffer](crate::decode::buffer); this reader counts rows and
//! lines, and skips the line of a malformed row. Why the quoting is our own: `docs/decisions/0018-our-own-quotes.md`.

mod split;

use assay_transaction::{MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason};

use super::CsvLayout;
use crate::decode::batch::{BatchDecoder, BatchOutput, BatchStorage, RowBounds};
use crate::decode::buffer::{LineEnds, NoRow, ReadBuffer, count_lines, is_line_end};
use crate::{ByteStream, SourceError};
use split::Splitter;

/// See [`CsvReader`](super::CsvReader).
pub(super) struct CsvReaderV2 {
    buffer: ReadBuffer,
    splitter: Splitter,
    /// After the last row.
    next: Position,
    /// After the blank lines that follow it: the start of the current row.
    here: Position,
    output: BatchOutput,
}

impl CsvReaderV2 {
    /// Reads a stream that begins at `from`, with rows of at most `reach` bytes.
    pub(super) fn new(stream: ByteStream, layout: &CsvLayout<'_>, from: Position, reach: usize) -> Self {
        Self {
            buffer: ReadBuffer::new(stream, from.offset),
            splitter: Splitter::new(layout, reach),
            next: from,
            here: from,
            output: BatchOutput::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.next
    }

    /// Adds complete rows to a batch. None: the batch is full or the source has ended.
    fn take_rows(&mut self, rows: &mut BatchStorage, max_rows: usize) -> Option<NoRow> {
        while rows.has_room(max_rows) {
            self.pass_blank_lines();
            let (rest, has_ended) = (self.buffer.rest(), self.buffer.has_ended());
            if rest.is_empty() {
                return (!has_ended).then_some(NoRow::NeedsMore);
            }
            let mut row = rows.open();
            let found = match self.splitter.split(rest, has_ended, &mut row) {
                Ok(found) => found,
                Err(no_row) => {
                    row.clear();
                    return Some(no_row);
                }
            };
            let Position { row: number, line, offset } = self.here;
            let end = Position { row: number + 1, line: line + found.lines, offset: offset + found.consumed as u64 };
            let bounds = RowBounds { number, line, end_line: end.line, end_offset: end.offset };
            let malformed = if found.bytes > MAX_ROW_BYTES { Some(RejectReason::RowTooLarge) } else { found.malformed };
            row.finish(bounds, &rest[..found.bytes], found.bytes, malformed);
            self.buffer.consume(found.consumed);
            self.reached(end);
        }
        None
    }

    /// Cuts the current row to its first physical line, and continues with the next line.
    async fn take_line(&mut self, rows: &mut BatchStorage) -> Result<(), SourceError> {
        let Position { row: number, line, .. } = self.here;
        let first = self.buffer.skip_line(LineEnds::Any, MAX_RAW_KEPT).await?;
        let reason = if first.bytes > MAX_ROW_BYTES { RejectReason::RowTooLarge } else { RejectReason::QuoteMalformed };
        let end_line = line + u64::from(first.has_end);
        let end_offset = self.buffer.offset();
        self.reached(Position { row: number + 1, line: end_line, offset: end_offset });
        let bounds = RowBounds { number, line, end_line, end_offset };
        rows.open().finish(bounds, &first.kept, first.bytes, Some(reason));
        Ok(())
    }

    fn reached(&mut self, end: Position) {
        self.next = end;
        self.here = end;
    }

    fn pass_blank_lines(&mut self) {
        let rest = self.buffer.rest();
        if !rest.first().is_some_and(|byte| is_line_end(*byte)) {
            return;
        }
        let mut blank = rest.iter().take_while(|byte| is_line_end(**byte)).count();
        // A `\n` may follow the last `\r`.
        if blank == rest.len() && !self.buffer.has_ended() && rest.last() == Some(&b'\r') {
            blank -= 1;
        }
        self.here.line += count_lines(&rest[..blank]);
        self.here.offset += blank as u64;
        self.buffer.consume(blank);
    }
}

impl BatchDecoder for CsvReaderV2 {
    fn output(&mut self) -> &mut BatchOutput {
        &mut self.output
    }

    async fn fill(&mut self, rows: &mut BatchStorage, max_rows: usize) -> Result<bool, SourceError> {
        match self.take_rows(rows, max_rows) {
            None => return Ok(false),
            Some(NoRow::Malformed) => self.take_line(rows).await?,
            // One more byte, as a row's end may depend on the byte after a `\r`.
            Some(NoRow::NeedsMore) => self.buffer.grow(self.splitter.reach() + 1).await?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

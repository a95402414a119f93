//! The bytes below the CSV reader: keeps the current row, bounds its length, and counts lines.
//!
//! `csv-async` splits fields, but neither keeps a row's bytes nor bounds its length: an unclosed quote would read a
//! whole source into memory. Through a [`RowWindow`] it reads
//!
//! - every byte from the start of the current row, which is kept;
//! - an end of the source where a row is too long, so that memory stays bounded;
//! - a final line end, so that a row that only ends with the source has an open quote;
//! - a `\r` only with the byte after it, so that row ends do not depend on chunks;
//! - again from any kept byte, and after a skipped line of any length.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::ByteStream;
use crate::decode::buffer::{READ_BYTES, count_lines, is_line_end};

pub(super) struct RowWindow {
    stream: ByteStream,
    /// Only `..filled` is from the source.
    bytes: Vec<u8>,
    filled: usize,
    /// Start of the current row.
    start: usize,
    /// End of what the CSV reader has read.
    given: usize,
    /// Offset of `bytes[0]` in the source.
    base: u64,
    /// The physical line of `start`.
    line: u64,
    /// The longest row.
    reach: usize,
    /// Whether the initial blank line was read: it keeps the CSV reader from taking the first bytes of a row for a byte
    /// order mark.
    primed: bool,
    end: SourceEnd,
    /// Whether the CSV reader has seen an end of the source.
    cut: bool,
}

/// The state of the source's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceEnd {
    NotReached,
    /// The last byte held is the source's last.
    Reached,
    /// The last byte held is an added line end.
    Closed,
}

/// The first physical line of a row.
pub(super) struct FirstLine {
    /// Its size without the line end.
    pub(super) bytes: usize,
    /// Its first bytes.
    pub(super) kept: Vec<u8>,
}

impl RowWindow {
    /// Size of the initial blank line, which is not from the source.
    pub(super) const PRIMER: u64 = 1;

    /// Starts at an offset and a line of the source.
    pub(super) fn new(stream: ByteStream, offset: u64, line: u64, reach: usize) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            filled: 0,
            start: 0,
            given: 0,
            base: offset,
            line,
            reach,
            primed: false,
            end: SourceEnd::NotReached,
            cut: false,
        }
    }

    /// Offset of the current row in the source.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start.min(self.real_end()) as u64
    }

    /// Its first physical line.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether the last row was cut, as it was too long or not closed at the end of the source.
    pub(super) fn was_cut(&self) -> bool {
        self.cut
    }

    /// Skips blank lines before a row.
    pub(super) fn skip_blank_lines(&mut self) {
        let rest = &self.bytes[self.start..self.filled];
        let mut blank = rest.iter().take_while(|byte| is_line_end(**byte)).count();
        // A `\n` may follow the last `\r`.
        if blank == rest.len() && !self.has_ended() && rest.last() == Some(&b'\r') {
            blank -= 1;
        }
        if blank > 0 {
            self.advance(self.start + blank);
        }
    }

    /// Advances past a row that ends at an offset; returns its bytes without the line end.
    pub(super) fn finish_row(&mut self, end_offset: u64) -> Range<usize> {
        let start = self.start;
        let mut end = usize::try_from(end_offset - self.base).map_or(self.filled, |end| end.min(self.filled));
        if end > start && self.bytes[end - 1] == b'\r' && end < self.filled && self.bytes[end] == b'\n' {
            end += 1;
        }
        self.advance(end);
        let line_end = match &self.bytes[start..end] {
            [.., b'\r', b'\n'] => 2,
            [.., b'\n' | b'\r'] => 1,
            _ => 0,
        };
        start..end - line_end
    }

    /// The bytes of a finished row, until the next read.
    pub(super) fn bytes(&self, row: Range<usize>) -> &[u8] {
        &self.bytes[row]
    }

    /// Cuts the current row to its first physical line, and continues with the next line.
    pub(super) async fn take_line(&mut self, keep: usize) -> io::Result<FirstLine> {
        let mut line = FirstLine { bytes: 0, kept: Vec::new() };
        loop {
            let rest = &self.bytes[self.start..self.filled];
            let found = memchr::memchr2(b'\r', b'\n', rest);
            let part = found.unwrap_or(rest.len());
            let wanted = keep.saturating_sub(line.kept.len()).min(part);
            line.kept.extend_from_slice(&rest[..wanted]);
            line.bytes += part;
            self.start += part;
            match found {
                Some(_) if self.end_is_known() => break,
                None if self.has_ended() => break,
                _ => {}
            }
            self.given = self.start;
            poll_fn(|context| self.poll_fill(context)).await?;
        }
        let end = match &self.bytes[self.start..self.filled] {
            [b'\r', b'\n', ..] => 2,
            [_, ..] => 1,
            [] => 0,
        };
        self.advance(self.start + end);
        self.given = self.start;
        self.cut = false;
        Ok(line)
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.bytes.capacity()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.filled
    }

    /// Whether the byte after a `\r` at `start` is known.
    fn end_is_known(&self) -> bool {
        self.bytes[self.start] != b'\r' || self.start + 1 < self.filled || self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.end != SourceEnd::NotReached
    }

    /// End of the source's own bytes.
    fn real_end(&self) -> usize {
        self.filled - usize::from(self.end == SourceEnd::Closed)
    }

    fn advance(&mut self, to: usize) {
        let passed = &self.bytes[self.start..to.min(self.real_end())];
        self.line += count_lines(passed);
        self.start = to;
    }

    /// Reads once; keeps the current row and unread bytes.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unneeded = self.start.min(self.given);
        if unneeded > 0 {
            self.bytes.copy_within(unneeded..self.filled, 0);
            self.filled -= unneeded;
            self.start -= unneeded;
            self.given -= unneeded;
            self.base += unneeded as u64;
        }
        if self.bytes.len() < self.filled + READ_BYTES {
            self.bytes.resize(self.filled + READ_BYTES, 0);
        }
        let mut free = ReadBuf::new(&mut self.bytes[self.filled..]);
        ready!(self.stream.as_mut().poll_read(context, &mut free))?;
        let read = free.filled().len();
        self.filled += read;
        if read == 0 {
            self.end = SourceEnd::Reached;
            let open = self.start < self.filled && !is_line_end(self.bytes[self.filled - 1]);
            if open {
                self.bytes[self.filled] = b'\n';
                self.filled += 1;
                self.end = SourceEnd::Closed;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// End of the bytes that the CSV reader may read now.
    fn givable(&self) -> usize {
        let known = match self.bytes[..self.filled].last() {
            Some(b'\r') if !self.has_ended() => self.filled - 1,
            _ => self.filled,
        };
        known.min(self.start + self.reach)
    }
}

impl AsyncRead for RowWindow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let window = &mut *self;
        if !window.primed {
            window.primed = true;
            buffer.put_slice(b"\n");
            return Poll::Ready(Ok(()));
        }
        loop {
            window.skip_blank_lines();
            let givable = window.givable();
            if window.given < givable {
                let end = givable.min(window.given + buffer.remaining());
                buffer.put_slice(&window.bytes[window.given..end]);
                window.given = end;
                return Poll::Ready(Ok(()));
            }
            if window.has_ended() || window.given >= window.start + window.reach {
                window.cut = true;
                return Poll::Ready(Ok(()));
            }
            ready!(window.poll_fill(context))?;
        }
    }
}

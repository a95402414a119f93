//! The bytes under the CSV reader: it remembers those of the row in work, bounds how far a row may reach, and counts lines.
//!
//! `csv-async` splits fields, but it keeps neither a row's own bytes nor a bound on its length: one quote that is never
//! closed would pull a whole source into memory. So it reads through a [`RowWindow`], which
//!
//! - keeps every byte from the start of the row in work, to be given as the row's own;
//! - pretends that the source ends where a row reaches too far, so that memory stays bounded;
//! - ends every source with a line end, so that a row which needs the end of the source to end has an open quote;
//! - never gives a `\r` before it knows what follows, so that a row's end does not depend on how its bytes arrive;
//! - can go back to any byte it keeps, and skip a line of any length.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::ByteStream;
use crate::decode::buffer::{READ_BYTES, count_lines, is_line_end};

/// See the module.
pub(super) struct RowWindow {
    stream: ByteStream,
    /// What is kept; only `..filled` is of the source.
    bytes: Vec<u8>,
    filled: usize,
    /// Where the row in work starts.
    start: usize,
    /// What the CSV reader has been given.
    given: usize,
    /// The source's offset of `bytes[0]`.
    base: u64,
    /// The physical line of `start`.
    line: u64,
    /// How many bytes a row may reach.
    reach: usize,
    /// The very first thing that is given: a blank line, which keeps the CSV reader from taking the first three bytes of
    /// a row for a byte order mark.
    primed: bool,
    end: SourceEnd,
    /// The CSV reader was told that the source ends.
    cut: bool,
}

/// What is known of the source's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SourceEnd {
    NotReached,
    /// The last byte kept is the source's last.
    Reached,
    /// The last byte kept is a line end that the source does not have.
    Closed,
}

/// A physical line, kept up to a bound.
pub(super) struct FirstLine {
    /// How many bytes it has, its end not counted.
    pub(super) bytes: usize,
    /// The start of it.
    pub(super) kept: Vec<u8>,
}

impl RowWindow {
    /// How many bytes the CSV reader is given that are not of the source: the blank line at the start.
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

    /// Where the row in work starts, in the source.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start.min(self.real_end()) as u64
    }

    /// The physical line it starts at.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether the row that the CSV reader just gave was cut short: it reached too far, or to the end of the source.
    pub(super) fn was_cut(&self) -> bool {
        self.cut
    }

    /// Passes over the blank lines before a row.
    pub(super) fn skip_blank_lines(&mut self) {
        let rest = &self.bytes[self.start..self.filled];
        let mut blank = rest.iter().take_while(|byte| is_line_end(**byte)).count();
        // What follows a last `\r` may still belong to it.
        if blank == rest.len() && !self.has_ended() && rest.last() == Some(&b'\r') {
            blank -= 1;
        }
        if blank > 0 {
            self.advance(self.start + blank);
        }
    }

    /// Where the bytes of a row are that ends at an offset of the source, without its line end; the window goes on
    /// behind that.
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

    /// The bytes of a finished row, until the CSV reader reads on.
    pub(super) fn bytes(&self, row: Range<usize>) -> &[u8] {
        &self.bytes[row]
    }

    /// Gives up the row in work but for its first physical line, and goes on behind that: what the CSV reader is given
    /// next is the line after it.
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

    /// How many bytes it holds room for.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many bytes it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.filled
    }

    /// Whether what follows a `\r` at `start` is known.
    fn end_is_known(&self) -> bool {
        self.bytes[self.start] != b'\r' || self.start + 1 < self.filled || self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.end != SourceEnd::NotReached
    }

    /// Where the source's own bytes end.
    fn real_end(&self) -> usize {
        self.filled - usize::from(self.end == SourceEnd::Closed)
    }

    fn advance(&mut self, to: usize) {
        let passed = &self.bytes[self.start..to.min(self.real_end())];
        self.line += count_lines(passed);
        self.start = to;
    }

    /// Reads on, once; keeps the row in work and what was not given yet.
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

    /// Up to where the CSV reader may be given bytes now.
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

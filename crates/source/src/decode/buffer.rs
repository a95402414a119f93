//! The bytes from the start of the current row, for decoders that bound the size of a row themselves.
//!
//! Guarantee: holds no more than requested plus one read.

use tokio::io::AsyncReadExt as _;

use crate::{ByteStream, SourceError};

/// Bytes requested from the source at a time.
pub(crate) const READ_BYTES: usize = 128 * 1024;

pub(crate) struct ReadBuffer {
    stream: ByteStream,
    /// Only `..filled` is from the source.
    bytes: Vec<u8>,
    filled: usize,
    /// Start of the current row.
    start: usize,
    /// Offset of `bytes[0]` in the source.
    base: u64,
    /// Whether the source has ended.
    has_ended: bool,
}

/// Why a decoder cannot take the next row from the bytes held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRow {
    /// The row may continue after the bytes held.
    NeedsMore,
    /// The row is malformed or too long: it costs its line.
    Malformed,
}

/// What ends a physical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// `\n`, `\r\n` and `\r`.
    Any,
    /// `\n` alone; a `\r` before it is part of the line end.
    Newline,
}

/// A skipped physical line.
pub(crate) struct SkippedLine {
    /// Its size without the line end.
    pub(crate) bytes: usize,
    /// Its first bytes.
    pub(crate) kept: Vec<u8>,
    /// Whether it has a line end.
    pub(crate) has_end: bool,
}

impl ReadBuffer {
    /// Starts at an offset of the source.
    pub(crate) fn new(stream: ByteStream, offset: u64) -> Self {
        Self { stream, bytes: Vec::new(), filled: 0, start: 0, base: offset, has_ended: false }
    }

    /// The bytes held from the start of the current row.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }

    /// Whether nothing follows the rest.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Offset of the current row in the source.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Removes bytes; the next row starts after them.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Reads until the rest has doubled, has `most` bytes, or the source ends. Scanning the rest from its start each
    /// time then costs two passes on average, however small the reads.
    pub(crate) async fn grow(&mut self, most: usize) -> Result<(), SourceError> {
        let held = self.filled - self.start;
        let wanted = most.min(2 * held).max(held + 1);
        while !self.has_ended && self.filled - self.start < wanted {
            self.fill().await?;
        }
        Ok(())
    }

    /// Skips the rest of a physical line of any length, including its end; returns its first bytes.
    pub(crate) async fn skip_line(&mut self, ends: LineEnds, keep: usize) -> Result<SkippedLine, SourceError> {
        let mut line = SkippedLine { bytes: 0, kept: Vec::new(), has_end: false };
        loop {
            let rest = &self.bytes[self.start..self.filled];
            let found = match ends {
                LineEnds::Any => memchr::memchr2(b'\r', b'\n', rest),
                LineEnds::Newline => {
                    memchr::memchr(b'\n', rest).map(|at| at - usize::from(rest[..at].ends_with(b"\r")))
                }
            };
            // A `\n` may follow the last `\r`.
            let is_open = !self.has_ended && rest.last() == Some(&b'\r');
            let part = found.unwrap_or(rest.len() - usize::from(is_open));
            let wanted = keep.saturating_sub(line.kept.len()).min(part);
            line.kept.extend_from_slice(&rest[..wanted]);
            line.bytes += part;
            let end = match &rest[part..] {
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if is_open => 0,
                [_, ..] => 1,
                [] => 0,
            };
            self.start += part + end;
            line.has_end = end > 0;
            if line.has_end || self.has_ended {
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Reads once.
    async fn fill(&mut self) -> Result<(), SourceError> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.filled, 0);
            self.base += self.start as u64;
            self.filled -= self.start;
            self.start = 0;
        }
        if self.bytes.len() < self.filled + READ_BYTES {
            self.bytes.resize(self.filled + READ_BYTES, 0);
        }
        let read = self.stream.read(&mut self.bytes[self.filled..]).await?;
        self.filled += read;
        self.has_ended = read == 0;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.filled
    }
}

pub(crate) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Counts line ends: `\n`, `\r\n` and a lone `\r`.
pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr2_iter(b'\r', b'\n', bytes)
        .map(|at| u64::from(bytes[at] == b'\n' || bytes.get(at + 1) != Some(&b'\n')))
        .sum()
}

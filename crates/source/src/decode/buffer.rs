//! The bytes of a source from the row in work on, and the line ends among them: under the decoders of text that bound by
//! themselves how far a row may reach.
//!
//! Guarantee: it holds no more than what its user asks for and one read.

use tokio::io::AsyncReadExt as _;

use crate::{ByteStream, SourceError};

/// How much is asked of the source at a time.
pub(crate) const READ_BYTES: usize = 128 * 1024;

/// See the module.
pub(crate) struct ReadBuffer {
    stream: ByteStream,
    /// Only `..filled` is of the source.
    bytes: Vec<u8>,
    filled: usize,
    /// Where the row in work starts.
    start: usize,
    /// The source's offset of `bytes[0]`.
    base: u64,
    /// The last byte held is the source's last.
    has_ended: bool,
}

/// Why a decoder cannot take the next row from the bytes held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRow {
    /// The row may continue behind the bytes held.
    NeedsMore,
    /// The row is malformed or too long: it costs its line.
    Malformed,
}

/// What ends a physical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// `\n`, `\r\n` and `\r`.
    Any,
    /// `\n` alone; a `\r` before it belongs to the end.
    Newline,
}

/// A physical line that was passed over, kept up to a bound.
pub(crate) struct SkippedLine {
    /// How many bytes it has, its end not counted.
    pub(crate) bytes: usize,
    /// The start of it.
    pub(crate) kept: Vec<u8>,
    /// Whether it has an end.
    pub(crate) has_end: bool,
}

impl ReadBuffer {
    /// Starts at an offset of the source.
    pub(crate) fn new(stream: ByteStream, offset: u64) -> Self {
        Self { stream, bytes: Vec::new(), filled: 0, start: 0, base: offset, has_ended: false }
    }

    /// What is held of the row in work, and of what follows it.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }

    /// Whether nothing follows the rest.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Where the row in work starts, in the source.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Passes over bytes of the rest: the next row starts behind them.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Reads until the rest is twice as long as it is, `most` bytes, or all that the source has. Who looks at the rest from its
    /// start each time looks at no byte more than twice on average, however little one read gives.
    pub(crate) async fn grow(&mut self, most: usize) -> Result<(), SourceError> {
        let held = self.filled - self.start;
        let wanted = most.min(2 * held).max(held + 1);
        while !self.has_ended && self.filled - self.start < wanted {
            self.fill().await?;
        }
        Ok(())
    }

    /// Passes over the rest of a physical line, however long it is, and over its end; keeps its first bytes.
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
            // What follows a last `\r` may still belong to it.
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

    /// Reads on, once.
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

    /// How many bytes it has room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How many bytes it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.filled
    }
}

pub(crate) fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// How many line ends there are: `\n`, `\r\n`, and `\r` alone.
pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr2_iter(b'\r', b'\n', bytes)
        .map(|at| u64::from(bytes[at] == b'\n' || bytes.get(at + 1) != Some(&b'\n')))
        .sum()
}

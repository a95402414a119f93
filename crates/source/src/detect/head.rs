//! The head of a text source, and what its bytes alone reveal.

use assay_transaction::{Encoding, Format, Position, json_members};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::decode::batch::SourceRow;
use crate::decode::json;
use crate::decode::transcode::transcode_head;
use crate::detect::encoding;
use crate::detect::other_formats::OtherFormat;
use crate::{ByteStream, FormatOptions, SourceError};

/// Size of the head: the header must end within it, and its rows are the sample for detection.
pub const HEAD_BYTES: usize = 256 * 1024;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
/// First bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";

/// The first bytes of a source, decompressed.
pub(crate) struct Head {
    bytes: Bytes,
    bom: usize,
    /// The encoding, if it is set or marked. The bytes are UTF-8 if it [is transcoded](Encoding::is_transcoded).
    pub(crate) encoding: Option<Encoding>,
    /// Whether the source ends here.
    pub(crate) is_whole: bool,
}

impl Head {
    /// Reads the head of a stream. A source damaged further on still has a head.
    pub(crate) async fn read(stream: &mut ByteStream, options: &FormatOptions) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        // One more byte shows whether the source ends here.
        let read = stream.take(HEAD_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(SourceError::from);
        let is_whole = match read {
            Ok(_) => bytes.len() <= HEAD_BYTES,
            Err(SourceError::Damaged { .. }) if !bytes.is_empty() => false,
            Err(error) => return Err(error),
        };
        let is_parquet = bytes.starts_with(PARQUET);
        let encoding = if is_parquet { None } else { encoding::declared(&bytes, options)? };
        if let Some(encoding) = encoding.filter(|encoding| encoding.is_transcoded()) {
            bytes = transcode_head(&bytes, encoding, is_whole);
        }
        // Some programs add a mark to a text that has one.
        let mut bom = 0;
        while bytes[bom..].starts_with(UTF8_BOM) {
            bom += UTF8_BOM.len();
        }
        Ok(Self { bytes: bytes.into(), bom, encoding, is_whole })
    }

    /// The head in UTF-8 if its encoding is a single-byte one, for JSON.
    pub(crate) fn in_utf8(&self) -> Self {
        let single_byte = self.encoding.filter(|encoding| *encoding != Encoding::UTF_8 && !encoding.is_transcoded());
        let bytes = match single_byte {
            Some(encoding) => transcode_head(&self.bytes, encoding, self.is_whole).into(),
            None => self.bytes.clone(),
        };
        Self { bytes, ..*self }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_parquet(&self) -> bool {
        self.bytes.starts_with(PARQUET)
    }

    /// The position after the byte order marks.
    pub(crate) fn start(&self) -> Position {
        Position { offset: self.bom as u64, ..Position::START }
    }

    /// The bytes from an offset.
    pub(crate) fn from(&self, offset: u64) -> Bytes {
        let from = usize::try_from(offset).map_or(self.bytes.len(), |offset| offset.min(self.bytes.len()));
        self.bytes.slice(from..)
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the row ends within the head.
    pub(crate) fn has_whole(&self, row: &SourceRow<'_>) -> bool {
        self.is_before_end(row.end)
    }

    /// Whether a position lies within the head.
    pub(crate) fn is_before_end(&self, end: Position) -> bool {
        self.is_whole || end.offset < self.bytes.len() as u64
    }

    /// The unsupported format of this head, if it is one.
    pub(crate) fn other_format(&self, is_format_given: bool) -> Option<OtherFormat> {
        OtherFormat::detect(&self.bytes[self.bom..], is_format_given)
    }

    /// The format of the content.
    pub(crate) fn format(&self) -> Result<Format, SourceError> {
        let text = &self.bytes[self.bom..];
        if self.is_parquet() {
            return Ok(Format::Parquet);
        }
        // Each text of a JSON sequence begins with a separator.
        let text = text.trim_ascii_start();
        match text.strip_prefix(b"\x1e").unwrap_or(text).first() {
            Some(b'{') => match self.in_utf8().objects().next() {
                Some(object) if json_members(object).is_ok() => Ok(Format::JsonLines),
                // All lines together show later whether this is another encoding.
                Some(object) if std::str::from_utf8(object).is_err() => Ok(Format::JsonLines),
                // A header may also begin like this.
                _ if self.lines().next().is_some_and(|line| line.contains(&b'"') || line == b"{") => {
                    Err(SourceError::NotJsonLines("its first line is not a complete object"))
                }
                _ => Ok(Format::Csv),
            },
            Some(b'[') => Err(SourceError::NotJsonLines("it is an array")),
            _ => Ok(Format::Csv),
        }
    }

    /// The complete JSON objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &[u8]> {
        json::objects(&self.bytes[self.bom..])
    }

    /// The complete lines from a position, with their numbers.
    pub(crate) fn whole_lines_from(&self, from: Position) -> impl Iterator<Item = (u64, &[u8])> + Clone {
        let end = self.bytes.len() as u64;
        let lines = self
            .lines_from(from)
            .filter(move |(start, line)| self.is_whole || start.offset + (line.len() as u64) < end);
        lines.map(|(start, line)| (start.line, line))
    }

    /// The physical lines from a position, including blank ones, with their positions; the last may be cut.
    pub(crate) fn lines_from(&self, from: Position) -> PhysicalLines<'_> {
        let offset = usize::try_from(from.offset).map_or(self.bytes.len(), |offset| offset.min(self.bytes.len()));
        PhysicalLines { bytes: &self.bytes, next: from, offset }
    }

    /// The lines that are not blank; the last may be cut.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes[self.bom..].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    }
}

/// Physical lines of a head.
#[derive(Debug, Clone)]
pub(crate) struct PhysicalLines<'a> {
    bytes: &'a [u8],
    next: Position,
    offset: usize,
}

impl PhysicalLines<'_> {
    /// The position after the next line.
    pub(crate) fn behind_next(mut self) -> Position {
        self.next();
        self.next
    }
}

impl<'a> Iterator for PhysicalLines<'a> {
    type Item = (Position, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line_end = if rest[length..].starts_with(b"\r\n") { 2 } else { usize::from(length < rest.len()) };
        let start = self.next;
        self.offset += length + line_end;
        self.next =
            Position { row: start.row, line: start.line + 1, offset: start.offset + (length + line_end) as u64 };
        Some((start, &rest[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_in_three_ways() {
        let mut stream: ByteStream = Box::pin(std::io::Cursor::new(b"\xef\xbb\xbfa\nb\r\n\rc\r".to_vec()));
        let head = Head::read(&mut stream, &FormatOptions::default()).await.unwrap();
        let lines: Vec<_> = head.lines_from(head.start()).map(|(at, line)| (at.line, at.offset, line)).collect();
        assert_eq!(lines, [(1, 3, &b"a"[..]), (2, 5, b"b"), (3, 8, b""), (4, 9, b"c")]);
    }
}

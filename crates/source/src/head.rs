//! The first bytes of a text source, and what can be told of it from them alone.

use assay_transaction::{Format, Position};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::batch::Row;
use crate::foreign::Foreign;
use crate::{ByteStream, SourceError, json};

/// How much of a source is looked at: the header must end within it, and what a source does not say itself is recognised
/// from the rows in it.
pub(crate) const HEAD_BYTES: usize = 256 * 1024;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
const UTF16_BOMS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";

/// The first bytes of a source, unpacked.
pub(crate) struct Head {
    bytes: Bytes,
    bom: usize,
    /// There is nothing behind them.
    pub(crate) is_whole: bool,
}

impl Head {
    /// Reads them from a stream. A source that is damaged further on has a head all the same.
    pub(crate) async fn read(stream: &mut ByteStream) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        // One byte more tells whether this is all.
        let read = stream.take(HEAD_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(SourceError::from);
        let is_whole = match read {
            Ok(_) => bytes.len() <= HEAD_BYTES,
            Err(SourceError::Damaged { .. }) if !bytes.is_empty() => false,
            Err(error) => return Err(error),
        };
        if UTF16_BOMS.iter().any(|bom| bytes.starts_with(bom)) {
            return Err(SourceError::Utf16);
        }
        let bom = if bytes.starts_with(UTF8_BOM) { UTF8_BOM.len() } else { 0 };
        Ok(Self { bytes: bytes.into(), bom, is_whole })
    }

    /// Behind a byte order mark.
    pub(crate) fn start(&self) -> Position {
        Position { offset: self.bom as u64, ..Position::START }
    }

    /// The bytes from an offset on.
    pub(crate) fn from(&self, offset: u64) -> Bytes {
        let from = usize::try_from(offset).map_or(self.bytes.len(), |offset| offset.min(self.bytes.len()));
        self.bytes.slice(from..)
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether a row of the head ends within it.
    pub(crate) fn has_whole(&self, row: &Row<'_>) -> bool {
        self.is_whole || row.end.offset < self.bytes.len() as u64
    }

    /// What it is the start of, where that is a file of another kind.
    pub(crate) fn foreign(&self, is_format_given: bool) -> Option<Foreign> {
        Foreign::tell(&self.bytes[self.bom..], is_format_given)
    }

    /// The format that the content is of.
    pub(crate) fn format(&self) -> Result<Format, SourceError> {
        let text = &self.bytes[self.bom..];
        if text.starts_with(PARQUET) {
            return Ok(Format::Parquet);
        }
        match text.trim_ascii_start().first() {
            Some(b'{') => match self.lines().next() {
                Some(line) if json::is_object(line) => Ok(Format::JsonLines),
                // A header may begin so.
                _ if self.lines().next().is_some_and(|line| line.contains(&b'"') || line == b"{") => {
                    Err(SourceError::NotJsonLines("its first line is no whole object"))
                }
                _ => Ok(Format::Csv),
            },
            Some(b'[') => Err(SourceError::NotJsonLines("it is an array")),
            _ => Ok(Format::Csv),
        }
    }

    /// The lines that are not blank; the last one may be cut.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes[self.bom..].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    }
}

//! The first bytes of a text source, and what can be told of it from them alone.

use assay_transaction::{Encoding, Format, Position, json_members};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::batch::Row;
use crate::foreign::Foreign;
use crate::transcode::{bom, transcode_head};
use crate::{ByteStream, SourceError, json};

/// How much of a source is looked at: the header must end within it, and what a source does not say itself is recognised
/// from the rows in it.
pub(crate) const HEAD_BYTES: usize = 256 * 1024;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
/// The encodings of which a byte order mark says which it is.
const UTF16: [Encoding; 2] = [Encoding::UTF_16LE, Encoding::UTF_16BE];
/// The first bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";

/// The first bytes of a source, unpacked.
pub(crate) struct Head {
    bytes: Bytes,
    bom: usize,
    /// What it was encoded in, where that is said: by somebody, or by a byte order mark of UTF-16. The bytes are UTF-8 where it
    /// [is transcoded](Encoding::is_transcoded).
    pub(crate) encoding: Option<Encoding>,
    /// There is nothing behind them.
    pub(crate) is_whole: bool,
}

impl Head {
    /// Reads them from a stream of which somebody may know the encoding. A source that is damaged further on has a head all the same.
    pub(crate) async fn read(stream: &mut ByteStream, declared: Option<Encoding>) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        // One byte more tells whether this is all.
        let read = stream.take(HEAD_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(SourceError::from);
        let is_whole = match read {
            Ok(_) => bytes.len() <= HEAD_BYTES,
            Err(SourceError::Damaged { .. }) if !bytes.is_empty() => false,
            Err(error) => return Err(error),
        };
        // Which UTF-16 it is, a mark says better than a declaration.
        let marked = bom(&bytes).filter(|_| declared.is_none_or(|declared| UTF16.contains(&declared)));
        let encoding = marked.or(declared).filter(|_| !bytes.starts_with(PARQUET));
        if let Some(encoding) = encoding.filter(|encoding| encoding.is_transcoded()) {
            bytes = transcode_head(&bytes, encoding, is_whole);
        }
        // Programs that put one before what has one already make it two.
        let mut bom = 0;
        while bytes[bom..].starts_with(UTF8_BOM) {
            bom += UTF8_BOM.len();
        }
        Ok(Self { bytes: bytes.into(), bom, encoding, is_whole })
    }

    /// It in UTF-8, if it is in an encoding of single bytes. JSON is read so.
    pub(crate) fn in_utf8(&self) -> Self {
        let single_byte = self.encoding.filter(|encoding| *encoding != Encoding::UTF_8 && !encoding.is_transcoded());
        let bytes = match single_byte {
            Some(encoding) => transcode_head(&self.bytes, encoding, self.is_whole).into(),
            None => self.bytes.clone(),
        };
        Self { bytes, ..*self }
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
        // A sequence of JSON texts has a separator before each.
        let text = text.trim_ascii_start();
        match text.strip_prefix(b"\x1e").unwrap_or(text).first() {
            Some(b'{') => match self.objects().next() {
                Some(object) if json_members(object).is_ok() => Ok(Format::JsonLines),
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

    /// The objects of a source of JSON that are whole.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &[u8]> {
        json::objects(&self.bytes[self.bom..])
    }

    /// The lines that are not blank; the last one may be cut.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes[self.bom..].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty())
    }
}

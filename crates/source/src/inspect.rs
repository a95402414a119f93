//! The head of a source: its header, and the dialect that its first rows are written in.

use std::io::Cursor;

use assay_transaction::{
    Checkpoint, Columns, DecimalMark, Delimiter, Dialect, Encoding, Fields, HeaderError, Mapping, REQUIRED_COLUMNS,
};
use tokio::io::AsyncReadExt as _;

use crate::{ByteStream, FormatOptions, RowReader, SourceError};

/// How much of a source is looked at: the header must end within it, and the decimal mark is recognised from the rows in it.
const HEAD_BYTES: usize = 256 * 1024;

/// How much of a first line that is no header an error shows.
const SHOWN_CHARACTERS: usize = 80;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
const UTF16_BOMS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// What the head of a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// How its rows are written.
    pub dialect: Dialect,
    /// The names of its columns, trimmed; the required ones are among them.
    pub header: Vec<String>,
    /// The offset right behind the header.
    pub data_start: u64,
    /// The physical line there.
    pub first_line: u64,
}

impl Layout {
    /// The position right behind the header, for a [`RowReader`].
    pub fn start(&self) -> Checkpoint {
        Checkpoint { line: self.first_line, offset: self.data_start, ..Checkpoint::START }
    }
}

/// Reads the head of a source from its first byte on, and settles what the options leave open.
///
/// The delimiter is the one that finds all required columns in the header, or those that the mapping names; the decimal mark is the one that amounts show.
/// A source with a header and no rows is fine.
pub async fn inspect(stream: &mut ByteStream, options: &FormatOptions) -> Result<Layout, SourceError> {
    let mut head = Vec::new();
    // One byte more tells whether this is all.
    stream.take(HEAD_BYTES as u64 + 1).read_to_end(&mut head).await?;
    let is_whole = head.len() <= HEAD_BYTES;
    if UTF16_BOMS.iter().any(|bom| head.starts_with(bom)) {
        return Err(SourceError::Utf16);
    }
    let head = Head { bom: if head.starts_with(UTF8_BOM) { UTF8_BOM.len() } else { 0 }, bytes: head.into(), is_whole };
    let (encoding, mapping) = (options.encoding.unwrap_or_default(), options.mapping.as_deref());
    let (delimiter, header, columns) = match options.delimiter {
        Some(delimiter) => {
            let header = head.header(delimiter).await?;
            let columns = header.columns(encoding, mapping)?;
            (delimiter, header, columns)
        }
        None => recognise_delimiter(&head, encoding, mapping).await?,
    };
    let decimal_mark = match options.decimal_mark {
        Some(mark) => mark,
        None => recognise_decimal_mark(&head, delimiter, header.end, &columns).await?,
    };
    Ok(Layout {
        dialect: Dialect { delimiter, decimal_mark, encoding },
        header: columns.names().to_vec(),
        data_start: header.end.offset,
        first_line: header.end.line,
    })
}

/// The first bytes of a source.
struct Head {
    bytes: bytes::Bytes,
    bom: usize,
    /// There is nothing behind them.
    is_whole: bool,
}

/// A header as one delimiter splits it.
struct Header {
    fields: Vec<Vec<u8>>,
    end: Checkpoint,
}

impl Header {
    fn columns(&self, encoding: Encoding, mapping: Option<&Mapping>) -> Result<Columns, HeaderError> {
        let fields: Vec<&[u8]> = self.fields.iter().map(Vec::as_slice).collect();
        Columns::from_header(&fields[..], splitting(Delimiter::Comma, encoding), mapping)
    }

    /// How many of the required columns it has, or of those that the mapping names.
    fn required(&self, mapping: Option<&Mapping>) -> usize {
        let has =
            |wanted: &str| self.fields.iter().any(|name| name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()));
        match mapping {
            Some(mapping) => mapping.columns().into_iter().filter(|wanted| has(wanted)).count(),
            None => REQUIRED_COLUMNS.iter().filter(|wanted| has(wanted)).count(),
        }
    }
}

/// A dialect as far as it is known before the amounts are looked at.
fn splitting(delimiter: Delimiter, encoding: Encoding) -> Dialect {
    Dialect { delimiter, decimal_mark: DecimalMark::Point, encoding }
}

impl Head {
    /// Reads rows of the head from an offset on.
    fn rows(&self, delimiter: Delimiter, from: Checkpoint) -> RowReader {
        let rest = usize::try_from(from.offset).map_or(self.bytes.len(), |offset| offset.min(self.bytes.len()));
        let dialect = splitting(delimiter, Encoding::Utf8);
        RowReader::new(Box::pin(Cursor::new(self.bytes.slice(rest..))), dialect, from)
    }

    async fn header(&self, delimiter: Delimiter) -> Result<Header, SourceError> {
        let start = Checkpoint { offset: self.bom as u64, ..Checkpoint::START };
        let first = self.rows(delimiter, start).next_batch(1).await?.ok_or(SourceError::Empty)?;
        let row = first.rows().next().ok_or(SourceError::Empty)?;
        let is_cut = !self.is_whole && row.end_offset >= self.bytes.len() as u64;
        if row.malformed.is_some() || is_cut {
            return Err(SourceError::HeaderTooLong { limit: HEAD_BYTES });
        }
        let fields = (0..row.fields.count()).filter_map(|index| row.fields.get(index)).map(<[u8]>::to_vec).collect();
        Ok(Header { fields, end: Checkpoint { line: row.end_line, offset: row.end_offset, ..Checkpoint::START } })
    }

    /// The start of the first line, fit to be shown.
    fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes[self.bom..]);
        let line = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or_default();
        let shown: String = line.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
        if line.chars().nth(SHOWN_CHARACTERS).is_some() { shown + "…" } else { shown }
    }
}

/// The delimiter under which the header has every required column; else the error of the one that comes closest.
async fn recognise_delimiter(
    head: &Head,
    encoding: Encoding,
    mapping: Option<&Mapping>,
) -> Result<(Delimiter, Header, Columns), SourceError> {
    let mut closest: (usize, SourceError) = (0, SourceError::Undecidable { first_line: head.first_line() });
    for delimiter in Delimiter::ALL {
        let header = match head.header(delimiter).await {
            Ok(header) => header,
            // A quote that another delimiter would not open.
            Err(error @ SourceError::HeaderTooLong { .. }) => {
                if closest.0 == 0 {
                    closest.1 = error;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        match header.columns(encoding, mapping) {
            Ok(columns) => return Ok((delimiter, header, columns)),
            Err(error) if header.required(mapping) > closest.0 => closest = (header.required(mapping), error.into()),
            Err(_) => {}
        }
    }
    Err(closest.1)
}

/// The decimal mark that the amounts of the head show. Where they show none or both, it is the point under a comma as
/// delimiter; else the one that more amounts show, or the comma under a semicolon, which is there to leave it free.
async fn recognise_decimal_mark(
    head: &Head,
    delimiter: Delimiter,
    data_start: Checkpoint,
    columns: &Columns,
) -> Result<DecimalMark, SourceError> {
    let (mut points, mut commas) = (0_u64, 0_u64);
    let mut rows = head.rows(delimiter, data_start);
    while let Some(batch) = rows.next_batch(1000).await? {
        // The last row of a head that is not the whole source is cut somewhere.
        let whole = batch.rows().filter(|row| head.is_whole || row.end_offset < head.bytes.len() as u64);
        for row in whole.filter(|row| row.fields.count() == columns.count()) {
            let amount = columns.amount().and_then(|index| row.fields.get(index)).unwrap_or_default();
            match (amount.contains(&b'.'), amount.contains(&b',')) {
                (true, false) => points += 1,
                (false, true) => commas += 1,
                _ => {}
            }
        }
    }
    Ok(match (points, commas) {
        (1.., 0) => DecimalMark::Point,
        (0, 1..) => DecimalMark::Comma,
        _ if delimiter == Delimiter::Comma => DecimalMark::Point,
        _ if points == commas && delimiter == Delimiter::Semicolon => DecimalMark::Comma,
        _ if commas > points => DecimalMark::Comma,
        _ => DecimalMark::Point,
    })
}

//! JSON Lines: each object is a row; its values keep their text (`JsonNames`).
//!
//! In [`v1`] a line is a row, in [`v2`] each object of a line. Both guarantee that malformed input costs at most the
//! rest of its line, and that memory is bounded by a batch and the longest allowed row.

mod scan;
mod v1;
mod v2;

use assay_transaction::{FieldAccess as _, JsonNames, Position, ReadingRules, RejectReason};

use crate::decode::batch::{BatchDecoder as _, FieldsBuffer, RowBatch};
use crate::detect::head::Head;
use crate::{ByteStream, SourceError};

/// Reads rows in batches. Memory is bounded by a batch and the longest allowed row.
pub(crate) struct JsonReader {
    rows: JsonDecoder,
}

enum JsonDecoder {
    V1(Box<v1::JsonReaderV1>),
    V2(Box<v2::JsonReaderV2>),
}

impl JsonReader {
    /// Reads a stream that begins at `from`.
    pub(crate) fn new(stream: ByteStream, names: JsonNames, rules: ReadingRules, from: Position) -> Self {
        let rows = match rules {
            ReadingRules::First => JsonDecoder::V1(Box::new(v1::JsonReaderV1::new(stream, names, from))),
            ReadingRules::Second => JsonDecoder::V2(Box::new(v2::JsonReaderV2::new(stream, names, from))),
        };
        Self { rows }
    }

    pub(crate) fn position(&self) -> Position {
        match &self.rows {
            JsonDecoder::V1(rows) => rows.position(),
            JsonDecoder::V2(rows) => rows.position(),
        }
    }

    /// See [`RowReader::next_batch`](crate::RowReader::next_batch).
    pub(crate) async fn next_batch(&mut self, max_rows: usize) -> Result<Option<RowBatch>, SourceError> {
        match &mut self.rows {
            JsonDecoder::V1(rows) => rows.next_batch(max_rows).await,
            JsonDecoder::V2(rows) => rows.next_batch(max_rows).await,
        }
    }
}

/// Puts the values of an object into the order of the header.
fn read_fields(names: &JsonNames, object: &[u8], into: &mut FieldsBuffer) -> Result<(), RejectReason> {
    into.clear();
    let fields = names.fields(object)?;
    for place in 0..fields.count() {
        into.push(fields.get(place).unwrap_or_default(), fields.is_number(place));
    }
    for (name, value) in fields.extras() {
        into.push_extra(name, value);
    }
    Ok(())
}

/// The complete objects of a head.
pub(crate) fn objects(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[scan::blanks(rest)..];
            match scan::object(rest, true) {
                _ if rest.is_empty() => return None,
                Ok(found) => {
                    let object = &rest[..found.bytes];
                    rest = &rest[found.consumed..];
                    return Some(object);
                }
                Err(_) => rest = memchr::memchr(b'\n', rest).map_or(&[], |end| &rest[end..]),
            }
        }
    })
}

/// Reads the rows of a head.
pub(crate) fn reader(head: &Head, names: JsonNames, from: Position) -> JsonReader {
    let stream = Box::pin(std::io::Cursor::new(head.from(from.offset)));
    JsonReader::new(stream, names, ReadingRules::Second, from)
}

//! V2: each object is a row, also several on a line, with or without blanks or record separators between them. A
//! malformed object, or one followed by something else, costs the rest of its line.

use assay_transaction::{JsonNames, MAX_ROW_BYTES, Position, RejectReason};

use super::{read_fields, scan};
use crate::decode::batch::{BatchDecoder, BatchOutput, BatchStorage, FieldsBuffer, RowBounds};
use crate::decode::buffer::{LineEnds, NoRow, ReadBuffer};
use crate::decode::csv::QUOTE_REACH;
use crate::{ByteStream, SourceError};

/// See [`JsonReader`](super::JsonReader).
pub(super) struct JsonReaderV2 {
    buffer: ReadBuffer,
    names: JsonNames,
    fields: FieldsBuffer,
    /// After the last row.
    next: Position,
    /// After the blanks that follow it: the start of the current row.
    here: Position,
    output: BatchOutput,
}

impl JsonReaderV2 {
    pub(super) fn new(stream: ByteStream, names: JsonNames, from: Position) -> Self {
        let buffer = ReadBuffer::new(stream, from.offset);
        Self { buffer, names, fields: FieldsBuffer::default(), next: from, here: from, output: BatchOutput::default() }
    }

    pub(super) fn position(&self) -> Position {
        self.next
    }

    /// Adds complete rows to a batch. None: the batch is full or the source has ended.
    fn take_rows(&mut self, rows: &mut BatchStorage, max_rows: usize) -> Option<NoRow> {
        while rows.has_room(max_rows) {
            self.pass_blanks();
            let (rest, has_ended) = (self.buffer.rest(), self.buffer.has_ended());
            if rest.is_empty() {
                return (!has_ended).then_some(NoRow::NeedsMore);
            }
            let found = match scan::object(rest, has_ended) {
                Ok(found) => found,
                Err(no_row) => return Some(no_row),
            };
            let Position { row: number, line, offset } = self.here;
            let end = Position {
                row: number + 1,
                line: line + u64::from(found.ends_line),
                offset: offset + found.consumed as u64,
            };
            let bounds = RowBounds { number, line, end_line: end.line, end_offset: end.offset };
            let object = &rest[..found.bytes];
            let fields = if found.bytes > MAX_ROW_BYTES {
                Err(RejectReason::RowTooLarge)
            } else {
                read_fields(&self.names, object, &mut self.fields).map(|()| &self.fields)
            };
            rows.push_fields(bounds, object, found.bytes, fields);
            self.buffer.consume(found.consumed);
            (self.next, self.here) = (end, end);
        }
        None
    }

    /// Makes the rest of the physical line one malformed row.
    async fn take_line(&mut self, rows: &mut BatchStorage) -> Result<(), SourceError> {
        let Position { row: number, line, .. } = self.here;
        let broken = self.buffer.skip_line(LineEnds::Newline, MAX_ROW_BYTES).await?;
        let reason = match std::str::from_utf8(&broken.kept) {
            _ if broken.bytes > MAX_ROW_BYTES => RejectReason::RowTooLarge,
            Ok(_) => RejectReason::JsonFormat,
            Err(_) => RejectReason::Encoding,
        };
        let end = Position { row: number + 1, line: line + u64::from(broken.has_end), offset: self.buffer.offset() };
        let bounds = RowBounds { number, line, end_line: end.line, end_offset: end.offset };
        rows.push_fields(bounds, &broken.kept, broken.bytes, Err(reason));
        (self.next, self.here) = (end, end);
        Ok(())
    }

    fn pass_blanks(&mut self) {
        let rest = self.buffer.rest();
        let blanks = scan::blanks(rest);
        self.here.line += memchr::memchr_iter(b'\n', &rest[..blanks]).count() as u64;
        self.here.offset += blanks as u64;
        self.buffer.consume(blanks);
    }
}

impl BatchDecoder for JsonReaderV2 {
    fn output(&mut self) -> &mut BatchOutput {
        &mut self.output
    }

    async fn fill(&mut self, rows: &mut BatchStorage, max_rows: usize) -> Result<bool, SourceError> {
        match self.take_rows(rows, max_rows) {
            None => return Ok(false),
            Some(NoRow::Malformed) => self.take_line(rows).await?,
            // Includes what follows an object.
            Some(NoRow::NeedsMore) => self.buffer.grow(2 * QUOTE_REACH).await?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use assay_transaction::FieldAccess as _;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::csv::testing::{ChunkedStream, block_on};

    type V2Row = (u64, Position, Vec<u8>, Result<Vec<String>, RejectReason>);

    fn read(bytes: &[u8], from: Position, sizes: &[usize], max_rows: usize) -> Vec<V2Row> {
        let names = JsonNames::new(&["id", "amount"].map(str::to_owned));
        let stream = ChunkedStream::new(&bytes[usize::try_from(from.offset).unwrap()..], sizes);
        let mut reader = JsonReaderV2::new(Box::pin(stream), names, from);
        block_on(async {
            let mut seen = Vec::new();
            while let Some(batch) = reader.next_batch(max_rows).await.unwrap() {
                for row in batch.rows() {
                    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
                    let fields = (0..row.fields.count()).map(|at| text(row.fields.get(at).unwrap())).collect();
                    seen.push((row.line, row.end, row.raw.to_vec(), row.malformed.clone().map_or(Ok(fields), Err)));
                }
                assert_eq!(Some(reader.position()), seen.last().map(|row: &V2Row| row.1));
            }
            seen
        })
    }

    /// The rows: line, and fields or reason.
    fn shown(text: &str) -> Vec<String> {
        let show = |(line, _, _, fields): V2Row| match fields {
            Ok(fields) => format!("{line}: {}", fields.join("|")),
            Err(reason) => format!("{line}: {reason}"),
        };
        read(text.as_bytes(), Position::START, &[], 10).into_iter().map(show).collect()
    }

    #[test]
    fn each_object_of_a_line_is_a_row() {
        for (text, expected) in [
            (r#"{"id":1}{"id":2} {"id":3,"amount":{"a":"}{"}}"#, vec!["1: 1|", "1: 2|", r#"1: 3|{"a":"}{"}"#]),
            ("\n{\"id\":1}{\"id\":2}\r\n\r\n{\"id\":3}\n", vec!["2: 1|", "2: 2|", "4: 3|"]),
            // Several files with byte order marks, concatenated.
            ("{\"id\":1}\n\u{feff}{\"id\":2}\u{feff}{\"id\":3}\n\u{feff}", vec!["1: 1|", "2: 2|", "2: 3|"]),
            ("\x1e{\"id\":1}\n\x1e{\"id\":2}\n\x1e", vec!["1: 1|", "2: 2|"]),
            // Malformed input costs the rest of its line.
            (r#"{"id":1},{"id":2}"#, vec!["1: json_format"]),
            ("{\"id\":1}{\"id\":2},\n{\"id\":3},\n", vec!["1: 1|", "1: json_format", "2: json_format"]),
            (
                "{\"id\":1}{\"id\":\n2}{\"id\":3}\n{\"id\":4}",
                vec!["1: 1|", "1: json_format", "2: json_format", "3: 4|"],
            ),
            ("{\"id\":\"1}\n{\"id\":2}", vec!["1: json_format", "2: 2|"]),
            ("[1]\n{\"id\":2}\n]", vec!["1: json_format", "2: 2|", "3: json_format"]),
            // A malformed object with a known end costs only itself.
            (
                r#"{"id":1,"ID":2}{"id":3}{"id":nul}{"id":"\ud800"}{"id":4}"#,
                vec!["1: json_format", "1: 3|", "1: json_format", "1: json_format", "1: 4|"],
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        let seen = read(b"{\"id\":\"caf\xe9\"}{\"id\":\"\xe9\n", Position::START, &[], 10);
        assert_eq!([&seen[0].3, &seen[1].3], [&Err(RejectReason::Encoding), &Err(RejectReason::Encoding)]);
    }

    #[test]
    fn a_line_of_any_length_is_read_with_little_memory() {
        let mut text = String::new();
        for id in 0..200_000 {
            write!(text, "{{\"id\":{id},\"amount\":{{\"value\":\"1.50\"}}}}").unwrap();
        }
        let large = format!("{{\"id\":\"{}\"}}", "x".repeat(MAX_ROW_BYTES));
        let endless = format!("{{\"id\":\"{}\"}}{{}}", "x".repeat(8 * QUOTE_REACH));
        let text = format!("{text}{large}{{\"id\":7}}{endless}\n{{\"id\":8}}");
        let names = JsonNames::new(&["id".to_owned()]);
        let mut reader = JsonReaderV2::new(Box::pin(std::io::Cursor::new(text)), names, Position::START);
        let mut last = Vec::new();
        let mut count = 0;
        while let Some(batch) = block_on(reader.next_batch(1000)).unwrap() {
            count += batch.len();
            for row in batch.rows() {
                last.push((row.line, row.malformed.clone(), row.raw_bytes));
            }
        }
        let large = (1, Some(RejectReason::RowTooLarge), large.len());
        let endless = (1, Some(RejectReason::RowTooLarge), endless.len());
        assert_eq!((count, &last[200_000..]), (200_004, &[large, (1, None, 8), endless, (2, None, 8)][..]));
        assert!(reader.buffer.capacity() < 4 * QUOTE_REACH, "{}", reader.buffer.capacity());
    }

    proptest! {
        /// Only blanks are between rows, however the bytes arrive and wherever a reader begins.
        #[test]
        fn any_bytes_are_rows(
            text in r#"(\{"id":1\}|\{"id":"\}\\"\}|\{|\}|"|\\|,|\[| |\n|\r\n|\x1e|é|\u{feff}|\{"x":\{\}\}){0,40}"#,
            sizes in proptest::collection::vec(0_usize..9, 0..5),
            max_rows in 1_usize..5,
        ) {
            let bytes = text.as_bytes();
            let seen = read(bytes, Position::START, &[], 100);
            prop_assert_eq!(&read(bytes, Position::START, &sizes, max_rows), &seen);
            let mut at = 0;
            for (index, (_, end, raw, _)) in seen.iter().enumerate() {
                let to = usize::try_from(end.offset).unwrap();
                let span = &bytes[at..to];
                let blanks = scan::blanks(span);
                prop_assert!(span[blanks..].starts_with(raw));
                let behind = &span[blanks + raw.len()..];
                prop_assert_eq!(scan::blanks(behind), behind.len());
                prop_assert_eq!(&read(bytes, *end, &sizes, max_rows)[..], &seen[index + 1..]);
                at = to;
            }
            prop_assert_eq!(scan::blanks(&bytes[at..]), bytes.len() - at, "no byte is lost at the end");
        }
    }
}

//! V1: a line is a row. Kept unchanged for runs that began with it.

use assay_transaction::{JsonNames, MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason};
use tokio::io::AsyncReadExt as _;

use super::read_fields;
use crate::decode::batch::{BatchDecoder, BatchOutput, BatchStorage, FieldsBuffer, RowBounds};
use crate::decode::buffer::READ_BYTES;
use crate::{ByteStream, SourceError};

/// See [`JsonReader`](super::JsonReader).
pub(super) struct JsonReaderV1 {
    lines: LineReader,
    names: JsonNames,
    fields: FieldsBuffer,
    next: Position,
    output: BatchOutput,
}

impl JsonReaderV1 {
    pub(super) fn new(stream: ByteStream, names: JsonNames, from: Position) -> Self {
        Self {
            lines: LineReader { stream, bytes: Vec::new(), start: 0, filled: 0, ended: false },
            names,
            fields: FieldsBuffer::default(),
            next: from,
            output: BatchOutput::default(),
        }
    }

    pub(super) fn position(&self) -> Position {
        self.next
    }
}

impl BatchDecoder for JsonReaderV1 {
    fn output(&mut self) -> &mut BatchOutput {
        &mut self.output
    }

    /// Adds one row, if any.
    async fn fill(&mut self, rows: &mut BatchStorage, _: usize) -> Result<bool, SourceError> {
        loop {
            let Some(line) = self.lines.next().await? else { return Ok(false) };
            let Position { row, line: at_line, offset } = self.next;
            let end = Position { row, line: at_line + 1, offset: offset + line.consumed };
            let text = line.kept.trim_ascii();
            if text.is_empty() {
                self.next = end;
                continue;
            }
            self.next = Position { row: row + 1, ..end };
            let bounds = RowBounds { number: row, line: at_line, end_line: end.line, end_offset: end.offset };
            let fields = if line.bytes > MAX_ROW_BYTES {
                Err(RejectReason::RowTooLarge)
            } else {
                read_fields(&self.names, text, &mut self.fields).map(|()| &self.fields)
            };
            rows.push_fields(bounds, line.kept, line.bytes, fields);
            return Ok(true);
        }
    }
}

/// A line of the source.
struct JsonLine<'a> {
    /// The line without its end; only its start if it is too long.
    kept: &'a [u8],
    /// Its size without the line end.
    bytes: usize,
    /// Its size with the line end.
    consumed: u64,
}

/// Splits a stream at `\n`; a `\r` before it is part of the line end.
struct LineReader {
    stream: ByteStream,
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
    ended: bool,
}

impl LineReader {
    /// The next line. The last one needs no line end, unless it is empty.
    async fn next(&mut self) -> Result<Option<JsonLine<'_>>, SourceError> {
        // Bytes skipped of a line that is too long.
        let mut passed = 0;
        let mut searched = 0;
        loop {
            let rest = &self.bytes[self.start..self.filled];
            let found = memchr::memchr(b'\n', &rest[searched..]).map(|at| searched + at);
            let end = match found {
                Some(at) => Some((at, 1)),
                None if self.ended && rest.is_empty() && passed == 0 => return Ok(None),
                None if self.ended => Some((rest.len(), 0)),
                None => None,
            };
            if let Some((length, line_end)) = end {
                let from = self.start;
                self.start += length + line_end;
                let consumed = passed + (length + line_end) as u64;
                let whole = &self.bytes[from..from + length];
                let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
                // The start of a long line is at the front of the buffer.
                let kept = if passed > 0 { &self.bytes[..MAX_RAW_KEPT] } else { whole };
                let bytes = usize::try_from(passed).unwrap_or(usize::MAX).saturating_add(whole.len());
                return Ok(Some(JsonLine { kept, bytes, consumed }));
            }
            searched = rest.len();
            if rest.len() > MAX_ROW_BYTES {
                // Keep the start, skip the rest.
                let keep_from = if passed == 0 {
                    self.bytes.copy_within(self.start..self.filled, 0);
                    MAX_RAW_KEPT
                } else {
                    self.start
                };
                let held = if passed == 0 { searched } else { self.filled - self.start };
                passed += held as u64;
                self.start = keep_from.max(MAX_RAW_KEPT);
                self.filled = self.start;
                searched = 0;
            }
            self.fill(passed > 0).await?;
        }
    }

    /// Reads once; keeps unread bytes, and the front of the buffer if a long line starts there.
    async fn fill(&mut self, keep_front: bool) -> Result<(), SourceError> {
        let front = if keep_front { MAX_RAW_KEPT } else { 0 };
        if self.start > front {
            self.bytes.copy_within(self.start..self.filled, front);
            self.filled -= self.start - front;
            self.start = front;
        }
        if self.bytes.len() < self.filled + READ_BYTES {
            self.bytes.resize(self.filled + READ_BYTES, 0);
        }
        let read = self.stream.read(&mut self.bytes[self.filled..]).await?;
        self.filled += read;
        self.ended = read == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use assay_transaction::FieldAccess as _;
    use proptest::prelude::*;

    use super::*;

    type V1Row = (Position, Vec<u8>, Result<Vec<String>, RejectReason>, Vec<(String, String)>);

    async fn read(bytes: &[u8], from: Position, max_rows: usize) -> Vec<V1Row> {
        let header = ["id", "amount"].map(str::to_owned);
        let start = usize::try_from(from.offset).unwrap();
        let mut reader =
            JsonReaderV1::new(Box::pin(Cursor::new(bytes[start..].to_vec())), JsonNames::new(&header), from);
        let mut seen = Vec::new();
        while let Some(batch) = reader.next_batch(max_rows).await.unwrap() {
            for row in batch.rows() {
                let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
                let fields = (0..row.fields.count()).map(|at| text(row.fields.get(at).unwrap())).collect();
                let fields = row.malformed.clone().map_or(Ok(fields), Err);
                let extras = row.fields.extras().map(|(name, value)| (text(name), text(value))).collect();
                seen.push((row.end, row.raw.to_vec(), fields, extras));
            }
            assert_eq!(reader.position().row, seen.last().unwrap().0.row);
        }
        seen
    }

    #[tokio::test]
    async fn a_value_keeps_its_text() {
        let cases = [
            (r#"{"id":"a","amount":12.50}"#, Ok(["a", "12.50"]), ""),
            (r#" {"amount": -0.10, "ID ": "é\u20ac\n"} "#, Ok(["é€\n", "-0.10"]), ""),
            (r#"{"id":9007199254740993,"amount":"1,5"}"#, Ok(["9007199254740993", "1,5"]), ""),
            (r#"{"id":null}"#, Ok(["", ""]), ""),
            (r#"{"id":"a","x":{"y": [1, 2]},"amount":1e3,"z":true}"#, Ok(["a", "1e3"]), r#"x={"y": [1, 2]} z=true"#),
            (r#"{"id":"a","Id":"b"}"#, Err(RejectReason::JsonFormat), ""),
            (r#"{"id":"a","x":1,"x":2}"#, Err(RejectReason::JsonFormat), ""),
            (r#"["a", 1]"#, Err(RejectReason::JsonFormat), ""),
            (r#"{"id":"a"} {"id":"b"}"#, Err(RejectReason::JsonFormat), ""),
            (r#"{"id":"a""#, Err(RejectReason::JsonFormat), ""),
            (r#"{"id":"\ud800"}"#, Err(RejectReason::JsonFormat), ""),
        ];
        for (line, expected, extras) in cases {
            let seen = read(line.as_bytes(), Position::START, 10).await;
            let [(_, raw, fields, found)] = &seen[..] else { panic!("{line}: {seen:?}") };
            assert_eq!(raw, line.as_bytes());
            assert_eq!(*fields, expected.map(|fields| fields.map(str::to_owned).to_vec()), "{line}");
            let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(found.join(" "), extras, "{line}");
        }
        let seen = read(b"{\"id\":\"caf\xe9\"}\r\n", Position::START, 10).await;
        assert_eq!(seen[0].2, Err(RejectReason::Encoding));
    }

    #[tokio::test]
    async fn rows_know_their_lines_and_offsets() {
        let text = "\n{\"id\":1}\r\n\r\n{\"id\":2}\n  \n{\"id\":3}";
        let seen = read(text.as_bytes(), Position::START, 2).await;
        let ends: Vec<_> = seen.iter().map(|(end, ..)| (end.row, end.line, end.offset)).collect();
        assert_eq!(ends, [(2, 3, 11), (3, 5, 22), (4, 7, 33)]);
        for (at, (end, ..)) in seen.iter().enumerate() {
            assert_eq!(read(text.as_bytes(), *end, 2).await, seen[at + 1..]);
        }
    }

    #[tokio::test]
    async fn an_endless_line_costs_only_itself_and_no_memory() {
        let long = format!("{{\"id\":\"{}\"}}", "x".repeat(20 * 1024 * 1024));
        let text = format!("{{\"id\":1}}\n{long}\n{{\"id\":3}}\n{long}");
        let header = ["id".to_owned()];
        let stream = Box::pin(Cursor::new(text.clone().into_bytes()));
        let mut reader = JsonReaderV1::new(stream, JsonNames::new(&header), Position::START);
        let mut found = Vec::new();
        while let Some(batch) = reader.next_batch(1).await.unwrap() {
            for row in batch.rows() {
                let is_prefix = text.as_bytes().windows(row.raw.len().min(40)).any(|part| row.raw.starts_with(part));
                assert!(is_prefix && row.raw.len() <= MAX_RAW_KEPT);
                found.push((row.number, row.line, row.raw_bytes, row.malformed.clone(), row.end.offset));
            }
        }
        let end = text.len() as u64;
        let too_large = Some(RejectReason::RowTooLarge);
        let second = 10 + long.len() as u64;
        assert_eq!(
            found,
            [
                (1, 1, 8, None, 9),
                (2, 2, long.len(), too_large.clone(), second),
                (3, 3, 8, None, second + 9),
                (4, 4, long.len(), too_large, end),
            ]
        );
        assert!(reader.lines.bytes.capacity() < 2 * 1024 * 1024, "{}", reader.lines.bytes.capacity());
    }

    proptest! {
        /// Each line that is not blank is a row, and a read from any row's end returns the rows after it.
        #[test]
        fn any_bytes_are_rows(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'{'), any::<u8>()], 0..200), max_rows in 1_usize..5) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let seen = runtime.block_on(read(&bytes, Position::START, max_rows));
            let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
            prop_assert_eq!(seen.len(), lines.len());
            for (at, (end, raw, ..)) in seen.iter().enumerate() {
                prop_assert_eq!(raw.as_slice(), lines[at].strip_suffix(b"\r").unwrap_or(lines[at]));
                let resumed = runtime.block_on(read(&bytes, *end, max_rows));
                prop_assert_eq!(&resumed[..], &seen[at + 1..]);
            }
        }
    }
}

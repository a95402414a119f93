//! Shared by the tests of both versions: chunked streams, owned rows, generated sources, and what both must do with them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use assay_transaction::{Delimiter, FieldAccess as _, MAX_RAW_KEPT, MAX_ROW_BYTES, Position, RejectReason};
use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::QUOTE_REACH;
use crate::decode::batch::{BatchDecoder, MAX_BATCH_BYTES};
use crate::decode::buffer::{READ_BYTES, is_line_end};
use crate::{ByteStream, RowBatch, SourceRow};

/// Returns its bytes in chunks of these sizes, pending at a size of 0.
pub(crate) struct ChunkedStream {
    bytes: Vec<u8>,
    at: usize,
    sizes: Vec<usize>,
    turn: usize,
}

impl ChunkedStream {
    pub(crate) fn new(bytes: &[u8], sizes: &[usize]) -> Self {
        // Only zeros would never end.
        let sizes = if sizes.iter().all(|size| *size == 0) { vec![] } else { sizes.to_vec() };
        Self { bytes: bytes.to_vec(), at: 0, sizes, turn: 0 }
    }

    /// The largest chunk.
    pub(crate) fn most(&self) -> usize {
        self.sizes.iter().max().copied().unwrap_or(READ_BYTES)
    }
}

impl AsyncRead for ChunkedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.sizes.get(self.turn % self.sizes.len().max(1)).copied().unwrap_or(usize::MAX);
        self.turn += 1;
        if size == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let end = self.bytes.len().min(self.at.saturating_add(size.min(buffer.remaining())));
        buffer.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// An owned row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OwnedRow {
    pub(super) number: u64,
    pub(super) line: u64,
    pub(super) raw: Vec<u8>,
    pub(super) raw_bytes: usize,
    pub(super) malformed: Option<RejectReason>,
    pub(super) fields: Vec<Vec<u8>>,
    pub(super) end: Position,
}

impl OwnedRow {
    pub(super) fn of(row: &SourceRow<'_>) -> Self {
        Self {
            number: row.number,
            line: row.line,
            raw: row.raw.to_vec(),
            raw_bytes: row.raw_bytes,
            malformed: row.malformed.clone(),
            fields: (0..row.fields.count()).map(|index| row.fields.get(index).unwrap().to_vec()).collect(),
            end: row.end,
        }
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A reader of either version.
pub(super) trait TestedReader: BatchDecoder {
    fn position(&self) -> Position;

    /// Bytes held.
    fn held(&self) -> usize;
}

/// Reads all rows in batches.
pub(super) fn read_all(mut reader: impl TestedReader, most_held: usize, batch: usize) -> Vec<OwnedRow> {
    block_on(async {
        let mut rows = Vec::new();
        while let Some(batch) = reader.next_batch(batch).await.unwrap() {
            assert_eq!(batch.len(), batch.rows().count());
            let held = reader.held();
            assert!(held <= most_held, "{held} bytes are held, more than {most_held}");
            rows.extend(batch.rows().map(|row| OwnedRow::of(&row)));
            assert_eq!(Some(reader.position()), rows.last().map(|row: &OwnedRow| row.end));
        }
        assert_eq!(reader.next_batch(1).await.unwrap().map(|batch| batch.len()), None, "it stays at the end");
        rows
    })
}

/// Reads bytes from a position, in chunks of these sizes and batches of so many rows.
pub(super) type ReadRows<'a> = &'a dyn Fn(&[u8], Position, &[usize], usize) -> Vec<OwnedRow>;

/// Each row is read once and in place, however its bytes arrive and wherever a reader begins.
pub(super) fn expect_rows_in_place(bytes: &[u8], sizes: &[usize], batch: usize, read: ReadRows<'_>) {
    let rows = read(bytes, Position::START, &[], 1000);
    assert!(rows.iter().map(|row| row.number).eq(1..=rows.len() as u64));
    assert_eq!(read(bytes, Position::START, sizes, batch), rows);
    assert_eq!(read(bytes, Position::START, &[1], 1), rows);
    let (mut at, mut line) = (0, 1);
    for (index, row) in rows.iter().enumerate() {
        let end = usize::try_from(row.end.offset).unwrap();
        let span = &bytes[at..end];
        let blank = span.iter().take_while(|byte| is_line_end(**byte)).count();
        assert_eq!(&span[blank..blank + row.raw_bytes], &row.raw[..], "a row's own bytes");
        assert!(span[blank + row.raw_bytes..].iter().all(|byte| is_line_end(*byte)));
        assert!(row.line >= line && row.end.line >= row.line);
        assert_eq!(row.malformed.is_none(), !row.fields.is_empty());
        (at, line) = (end, row.end.line);
        assert_eq!(read(bytes, row.end, sizes, batch), rows[index + 1..], "from row {} on", row.number + 1);
    }
    assert!(bytes[at..].iter().all(|byte| is_line_end(*byte)), "no byte is lost at the end");
}

/// Rows of any length and with an open quote, rejected for this reason, cost no other row.
pub(super) fn expect_long_rows_alone(open_quote: RejectReason, read: ReadRows<'_>) {
    let long = |bytes: usize| "x".repeat(bytes);
    let many = "7;seven\n".repeat(400_000);
    let large = Some(RejectReason::RowTooLarge);
    let cases: Vec<(&str, String, Option<RejectReason>, usize)> = vec![
        ("just not too long", long(MAX_ROW_BYTES), None, MAX_ROW_BYTES),
        ("too long", long(MAX_ROW_BYTES + 1), large.clone(), MAX_ROW_BYTES + 1),
        ("too long, with CRLF", long(MAX_ROW_BYTES + 1) + "\r", large.clone(), MAX_ROW_BYTES + 1),
        ("longer than a row may reach", long(3 * QUOTE_REACH), large.clone(), 3 * QUOTE_REACH),
        ("the same in quotes", format!("1;\"{}\"", long(3 * QUOTE_REACH)), large.clone(), 3 * QUOTE_REACH + 4),
        ("lines in closed quotes", format!("1;\"{}\"", "line\n".repeat(60_000)), large.clone(), 300_004),
        ("delimiters alone", ";".repeat(MAX_ROW_BYTES + 1), large, MAX_ROW_BYTES + 1),
        ("an unclosed quote", "1;\"oops;2".to_owned(), Some(open_quote), 9),
    ];
    for (name, row, malformed, raw_bytes) in cases {
        for tail in ["8;eight\n9;nine", &many] {
            let text = format!("0;zero\n{row}\n{tail}");
            let rows = read(text.as_bytes(), Position::START, &[], 1000);
            assert_eq!(rows.len(), 2 + tail.lines().count(), "{name}");
            assert_eq!((rows[1].malformed.clone(), rows[1].raw_bytes), (malformed.clone(), raw_bytes), "{name}");
            assert_eq!(rows[1].raw, row.as_bytes()[..raw_bytes.min(MAX_RAW_KEPT)], "{name}");
            assert_eq!(rows[1].fields.is_empty(), malformed.is_some(), "{name}");
            assert_eq!(rows[2].raw, tail.lines().next().unwrap().as_bytes(), "{name}");
            assert_eq!(usize::try_from(rows.last().unwrap().line).unwrap(), text.lines().count(), "{name}");
            assert!(read(text.as_bytes(), rows[1].end, &[70_000], 1000) == rows[2..], "{name}: resumed after it");
        }
    }
}

/// A batch that is kept is not overwritten by the next one.
pub(super) fn expect_kept_batches<R: BatchDecoder>(open: impl Fn(ByteStream) -> R) {
    let mut reader = open(Box::pin(io::Cursor::new("1;a\n2;b\n3;c\n")));
    let first = block_on(reader.next_batch(1)).unwrap().unwrap();
    let second = block_on(reader.next_batch(1)).unwrap().unwrap();
    let raw = |batch: &RowBatch| batch.rows().next().unwrap().raw.to_vec();
    assert_eq!((raw(&first), raw(&second)), (b"1;a".to_vec(), b"2;b".to_vec()));
}

/// Batches are bounded for any row, and so is the reader.
pub(super) fn expect_bounded_memory<R: BatchDecoder>(open: impl Fn(ByteStream) -> R, is_bounded: impl Fn(&R) -> bool) {
    let endless = format!("1;\"{}", "z".repeat(64 * 1024 * 1024));
    let rows = format!("1;\"{}", "2;two\n".repeat(4_000_000));
    for text in [endless, rows] {
        let mut reader = open(Box::pin(io::Cursor::new(text)));
        while let Some(batch) = block_on(reader.next_batch(1_000_000)).unwrap() {
            assert!(batch.0.bytes() <= MAX_BATCH_BYTES + 2 * QUOTE_REACH);
            assert!(is_bounded(&reader));
        }
    }
}

/// The lines, fields, bytes and ends of rows.
pub(super) fn summaries(rows: Vec<OwnedRow>) -> Vec<(u64, String, String, u64, u64)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let summary = |row: OwnedRow| {
        let fields: Vec<_> = row.fields.into_iter().map(text).collect();
        (row.line, fields.join("|"), text(row.raw), row.end.line, row.end.offset)
    };
    rows.into_iter().map(summary).collect()
}

/// Rows written in a dialect are read back, in any chunks and from any row.
pub(super) fn expect_read_back(text: &str, expected: &[OwnedRow], sizes: &[usize], batch: usize, read: ReadRows<'_>) {
    assert_eq!(read(text.as_bytes(), Position::START, sizes, batch), expected);
    for (index, row) in expected.iter().enumerate() {
        assert_eq!(read(text.as_bytes(), row.end, sizes, batch), expected[index + 1..]);
    }
}

/// A field with characters that matter to CSV, and others.
pub(super) fn any_field() -> impl Strategy<Value = String> {
    "[a-c0-9é€ ,;|\t\"\r\n]{0,12}"
}

/// Writes rows in a dialect; returns the text and the expected rows.
pub(super) fn write(
    rows: &[Vec<String>],
    delimiter: Delimiter,
    line_end: &str,
    quote_all: bool,
    blanks: &[bool],
) -> (String, Vec<OwnedRow>) {
    let mut text = String::new();
    let mut expected = Vec::new();
    let separator = char::from(delimiter.byte());
    let lines = |text: &str| 1 + text.replace("\r\n", "\n").matches(['\r', '\n']).count() as u64;
    for (index, row) in rows.iter().enumerate() {
        if !blanks.is_empty() && blanks[index % blanks.len()] {
            text += line_end;
        }
        let (line, start) = (lines(&text), text.len());
        let fields: Vec<String> = row
            .iter()
            .map(|field| {
                let plain = !quote_all && row.len() > 1 && !field.contains(['"', '\r', '\n', separator]);
                if plain { field.clone() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
            })
            .collect();
        text += &fields.join(&separator.to_string());
        let raw = text.as_bytes()[start..].to_vec();
        text += line_end;
        expected.push(OwnedRow {
            number: index as u64 + 1,
            line,
            raw_bytes: raw.len(),
            raw,
            malformed: None,
            fields: row.iter().map(|field| field.clone().into_bytes()).collect(),
            end: Position { row: index as u64 + 2, line: lines(&text), offset: text.len() as u64 },
        });
    }
    (text, expected)
}

/// Texts that matter to CSV.
const PIECES: &[&[u8]] = &[
    b"a",
    b"\"",
    b"\"\"",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b";",
    b"\t",
    b"|",
    b"\0",
    b"\\",
    b"#",
    b"\x1a",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xe9",
    b"\xf0\x9f\x92\xb8",
    b"\"a\nb\"",
    b"id;amount\n",
    b"=1+1",
    b"'",
];

/// These, and any bytes.
pub(super) fn any_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => (prop::sample::select(&b"a\";\n\r"[..]), 1..50_usize).prop_map(|(byte, times)| vec![byte; times]),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

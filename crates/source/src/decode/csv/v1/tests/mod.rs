//! Well-formed rows, malformed rows, and any bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::*;
use crate::QUOTE_REACH;
use crate::RowBatch;
use crate::decode::batch::MAX_BATCH_BYTES;
use crate::decode::csv::testing::{ChunkedStream, OwnedRow, any_field, block_on, write};

mod malformed_input;

const SEMICOLON: Delimiter = Delimiter::Semicolon;

async fn rest(
    bytes: &[u8],
    delimiter: Delimiter,
    from: Position,
    reach: usize,
    sizes: &[usize],
    batch: usize,
) -> Vec<OwnedRow> {
    let at = usize::try_from(from.offset).unwrap();
    let stream = ChunkedStream::new(&bytes[at..], sizes);
    // The current row and one read, plus a pending line end and an added one.
    let most_held = reach + stream.most() + 2;
    let mut reader = CsvReaderV1::new(Box::pin(stream), delimiter, from, reach);
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch(batch).await.unwrap() {
        assert_eq!(batch.len(), batch.rows().count());
        let held = reader.csv.get_ref().held();
        assert!(held <= most_held, "{held} bytes are held, of rows that may reach {reach}");
        rows.extend(batch.rows().map(|row| OwnedRow::of(&row)));
        let last = rows.last().unwrap();
        let next = last.end;
        assert_eq!(reader.position(), next);
    }
    assert_eq!(reader.next_batch(1).await.unwrap().map(|batch| batch.len()), None, "it stays at the end");
    rows
}

fn all(bytes: &[u8]) -> Vec<OwnedRow> {
    block_on(rest(bytes, SEMICOLON, Position::START, QUOTE_REACH, &[], 100))
}

fn after(row: &OwnedRow) -> Position {
    row.end
}

#[test]
fn rows_know_their_lines_and_offsets() {
    let text = b"\r\n1;a\r\n\n\"2\n\r\n\";\"b\"\"c\"\n3;\"d;e\"f\r4;\r\n\"\"\r\n\n5;g";
    let found: Vec<_> = all(text)
        .into_iter()
        .map(|row| {
            let fields = row.fields.iter().map(|field| String::from_utf8(field.clone()).unwrap()).collect::<Vec<_>>();
            (row.line, fields.join("|"), String::from_utf8(row.raw).unwrap(), row.end.line, row.end.offset)
        })
        .collect();
    let row = |line, fields: &str, raw: &str, end_line, end| (line, fields.to_owned(), raw.to_owned(), end_line, end);
    assert_eq!(
        found,
        [
            row(2, "1|a", "1;a", 3, 7),
            row(4, "2\n\r\n|b\"c", "\"2\n\r\n\";\"b\"\"c\"", 7, 22),
            row(7, "3|d;ef", "3;\"d;e\"f", 8, 31),
            row(8, "4|", "4;", 9, 35),
            row(9, "", "\"\"", 10, 39),
            row(11, "5|g", "5;g", 11, 43),
        ]
    );
}

#[test]
fn a_byte_order_mark_is_only_removed_at_the_start_of_a_source() {
    let text = "1;a\n\u{feff}2;b\n".as_bytes();
    let rows = all(text);
    assert_eq!(rows[1].fields[0], "\u{feff}2".as_bytes());
    assert_eq!(block_on(rest(text, SEMICOLON, after(&rows[0]), QUOTE_REACH, &[], 1)), rows[1..]);
}

#[test]
fn a_row_that_is_too_long_or_unclosed_costs_only_itself() {
    let long = |bytes: usize| "x".repeat(bytes);
    let many = "7;seven\n".repeat(400_000);
    let (large, open) = (Some(RejectReason::RowTooLarge), Some(RejectReason::UnterminatedQuote));
    let cases: Vec<(&str, String, Option<RejectReason>, usize)> = vec![
        ("just not too long", long(MAX_ROW_BYTES), None, MAX_ROW_BYTES),
        ("too long", long(MAX_ROW_BYTES + 1), large.clone(), MAX_ROW_BYTES + 1),
        ("too long, with CRLF", long(MAX_ROW_BYTES + 1) + "\r", large.clone(), MAX_ROW_BYTES + 1),
        ("longer than a row may reach", long(3 * QUOTE_REACH), large.clone(), 3 * QUOTE_REACH),
        ("the same in quotes", format!("1;\"{}\"", long(3 * QUOTE_REACH)), large.clone(), 3 * QUOTE_REACH + 4),
        ("lines in closed quotes", format!("1;\"{}\"", "line\n".repeat(60_000)), large.clone(), 300_004),
        ("delimiters alone", ";".repeat(MAX_ROW_BYTES + 1), large, MAX_ROW_BYTES + 1),
        ("a quote that is never closed", "1;\"oops;2".to_owned(), open, 9),
    ];
    for (name, row, malformed, raw_bytes) in cases {
        for tail in ["8;eight\n9;nine", &many] {
            let text = format!("0;zero\n{row}\n{tail}");
            let rows = all(text.as_bytes());
            assert_eq!(rows.len(), 2 + tail.lines().count(), "{name}");
            assert_eq!((rows[1].malformed.clone(), rows[1].raw_bytes), (malformed.clone(), raw_bytes), "{name}");
            assert_eq!(rows[1].raw, row.as_bytes()[..raw_bytes.min(MAX_RAW_KEPT)], "{name}");
            assert_eq!(rows[1].fields.is_empty(), malformed.is_some(), "{name}");
            assert_eq!(rows[2].raw, tail.lines().next().unwrap().as_bytes(), "{name}");
            assert_eq!(usize::try_from(rows.last().unwrap().line).unwrap(), text.lines().count(), "{name}");
            let resumed = block_on(rest(text.as_bytes(), SEMICOLON, after(&rows[1]), QUOTE_REACH, &[70_000], 1000));
            assert!(resumed == rows[2..], "{name}: resumed behind it");
        }
    }
}

#[test]
fn a_quote_open_at_the_end_costs_its_line() {
    for (text, expected) in [
        ("1;a\n2;\"b", vec![(false, "1;a"), (true, "2;\"b")]),
        ("1;a\n2;\"b\n", vec![(false, "1;a"), (true, "2;\"b")]),
        ("1;a\n\n2;\"b\r\n3;c\r\n", vec![(false, "1;a"), (true, "2;\"b"), (false, "3;c")]),
        ("1;\"a\n\"\"", vec![(true, "1;\"a"), (false, "\"\"")]),
        ("\"", vec![(true, "\"")]),
        ("1;\"a\nb\"", vec![(false, "1;\"a\nb\"")]),
    ] {
        let rows = all(text.as_bytes());
        let found: Vec<_> =
            rows.iter().map(|row| (row.malformed.is_some(), std::str::from_utf8(&row.raw).unwrap())).collect();
        assert_eq!(found, expected, "{text:?}");
    }
}

#[test]
fn a_malformed_row_says_why() {
    let text = format!("1;\"oops\n{}\n", "y".repeat(MAX_ROW_BYTES + 5));
    let mut reader = CsvReaderV1::new(Box::pin(io::Cursor::new(text)), SEMICOLON, Position::START, QUOTE_REACH);
    let batch = block_on(reader.next_batch(10)).unwrap().unwrap();
    let messages: Vec<_> = batch.rows().map(|row| row.rejection().unwrap().message).collect();
    assert!(messages[0].starts_with("a quote that opens on this line is not closed"), "{}", messages[0]);
    assert_eq!(messages[1], "the row has 262149 bytes, more than 262144");
}

#[test]
fn memory_is_bounded_for_any_row() {
    let open = format!("1;\"{}", "z".repeat(64 * 1024 * 1024));
    let rows = format!("1;\"{}", "2;two\n".repeat(4_000_000));
    for text in [open, rows] {
        let mut reader = CsvReaderV1::new(Box::pin(io::Cursor::new(text)), SEMICOLON, Position::START, QUOTE_REACH);
        while let Some(batch) = block_on(reader.next_batch(1_000_000)).unwrap() {
            assert!(batch.0.bytes() <= MAX_BATCH_BYTES + 2 * QUOTE_REACH);
            assert!(reader.csv.get_ref().kept() <= 2 * QUOTE_REACH);
            assert!(reader.record.as_slice().len() <= QUOTE_REACH);
        }
    }
}

#[test]
fn a_kept_batch_is_not_overwritten() {
    let mut reader =
        CsvReaderV1::new(Box::pin(io::Cursor::new("1;a\n2;b\n3;c\n")), SEMICOLON, Position::START, QUOTE_REACH);
    let first = block_on(reader.next_batch(1)).unwrap().unwrap();
    let second = block_on(reader.next_batch(1)).unwrap().unwrap();
    let raw = |batch: &RowBatch| batch.rows().next().unwrap().raw.to_vec();
    assert_eq!((raw(&first), raw(&second)), (b"1;a".to_vec(), b"2;b".to_vec()));
}

#[test]
fn the_error_of_a_stream_is_unwrapped() {
    struct FailingStream;
    impl AsyncRead for FailingStream {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(SourceError::Replaced { location: "s3://b/k".to_owned() })))
        }
    }
    let mut reader = CsvReaderV1::new(Box::pin(FailingStream), SEMICOLON, Position::START, QUOTE_REACH);
    let error = block_on(reader.next_batch(1)).unwrap_err();
    assert!(matches!(error, SourceError::Replaced { .. }), "{error}");
}

proptest! {
    /// Rows written in any dialect are read back, in any chunks and from any row.
    #[test]
    fn well_formed_rows_read_back(
        rows in proptest::collection::vec(proptest::collection::vec(any_field(), 1..5), 0..12),
        delimiter in proptest::sample::select(&Delimiter::ALL[..]),
        line_end in proptest::sample::select(&["\n", "\r\n", "\r"][..]),
        quote_all: bool,
        blanks in proptest::collection::vec(any::<bool>(), 0..4),
        sizes in proptest::collection::vec(0_usize..9, 0..5),
        batch in 1_usize..5,
    ) {
        let (text, expected) = write(&rows, delimiter, line_end, quote_all, &blanks);
        let found = block_on(rest(text.as_bytes(), delimiter, Position::START, QUOTE_REACH, &sizes, batch));
        prop_assert_eq!(&found, &expected);
        for (index, row) in expected.iter().enumerate() {
            let resumed = block_on(rest(text.as_bytes(), delimiter, after(row), QUOTE_REACH, &sizes, batch));
            prop_assert_eq!(&resumed[..], &expected[index + 1..]);
        }
    }

    /// Neither chunks nor the start of a read matter, and only line ends are between rows.
    #[test]
    fn any_bytes_give_the_same_rows_however_they_arrive(
        text in "([a;\"\r\n]|\"\"|\r\n|\u{feff}){0,60}",
        reach in 4_usize..40,
        sizes in proptest::collection::vec(0_usize..9, 0..5),
    ) {
        let text = text.as_bytes();
        let rows = block_on(rest(text, SEMICOLON, Position::START, reach, &[], 3));
        prop_assert_eq!(&block_on(rest(text, SEMICOLON, Position::START, reach, &sizes, 1)), &rows);
        let mut end = 0;
        for (index, row) in rows.iter().enumerate() {
            let resumed = block_on(rest(text, SEMICOLON, after(row), reach, &sizes, 2));
            prop_assert_eq!(&resumed[..], &rows[index + 1..]);
            let to = usize::try_from(row.end.offset).unwrap();
            let span = &text[end..to];
            let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let blank = span.iter().take_while(|byte| is_end(byte)).count();
            prop_assert!(span[blank..].starts_with(&row.raw));
            prop_assert!(span[blank + row.raw.len()..].iter().all(is_end));
            prop_assert_eq!(row.malformed.is_none(), !row.fields.is_empty());
            end = to;
        }
        prop_assert!(text[end..].iter().all(|byte| matches!(byte, b'\r' | b'\n')), "no byte is lost at the end");
    }
}

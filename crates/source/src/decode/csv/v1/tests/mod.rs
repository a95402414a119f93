//! Well-formed rows, malformed rows, and any bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::*;
use crate::QUOTE_REACH;
use crate::decode::csv::testing::{
    ChunkedStream, OwnedRow, TestedReader, any_field, block_on, expect_bounded_memory, expect_kept_batches,
    expect_long_rows_alone, expect_read_back, expect_rows_in_place, read_all, summaries, write,
};

mod malformed_input;

const SEMICOLON: Delimiter = Delimiter::Semicolon;

impl TestedReader for CsvReaderV1 {
    fn position(&self) -> Position {
        self.position()
    }

    fn held(&self) -> usize {
        self.csv.get_ref().held()
    }
}

fn rest(
    bytes: &[u8],
    delimiter: Delimiter,
    from: Position,
    reach: usize,
    sizes: &[usize],
    batch: usize,
) -> Vec<OwnedRow> {
    let stream = ChunkedStream::new(&bytes[usize::try_from(from.offset).unwrap()..], sizes);
    // The current row and one read, plus a pending line end and an added one.
    let most_held = reach + stream.most() + 2;
    read_all(CsvReaderV1::new(Box::pin(stream), delimiter, from, reach), most_held, batch)
}

fn all(bytes: &[u8]) -> Vec<OwnedRow> {
    rest(bytes, SEMICOLON, Position::START, QUOTE_REACH, &[], 100)
}

fn reader(stream: ByteStream) -> CsvReaderV1 {
    CsvReaderV1::new(stream, SEMICOLON, Position::START, QUOTE_REACH)
}

#[test]
fn rows_know_their_lines_and_offsets() {
    let text = b"\r\n1;a\r\n\n\"2\n\r\n\";\"b\"\"c\"\n3;\"d;e\"f\r4;\r\n\"\"\r\n\n5;g";
    let found = summaries(all(text));
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
    assert_eq!(rest(text, SEMICOLON, rows[0].end, QUOTE_REACH, &[], 1), rows[1..]);
}

#[test]
fn a_row_that_is_too_long_or_unclosed_costs_only_itself() {
    expect_long_rows_alone(RejectReason::UnterminatedQuote, &|bytes, from, sizes, batch| {
        rest(bytes, SEMICOLON, from, QUOTE_REACH, sizes, batch)
    });
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
    let mut reader = reader(Box::pin(io::Cursor::new(text)));
    let batch = block_on(reader.next_batch(10)).unwrap().unwrap();
    let messages: Vec<_> = batch.rows().map(|row| row.rejection().unwrap().message).collect();
    assert!(messages[0].starts_with("a quote that opens on this line is not closed"), "{}", messages[0]);
    assert_eq!(messages[1], "the row has 262149 bytes, more than 262144");
}

#[test]
fn memory_is_bounded_for_any_row() {
    expect_bounded_memory(reader, |reader| {
        reader.csv.get_ref().kept() <= 2 * QUOTE_REACH && reader.record.as_slice().len() <= QUOTE_REACH
    });
}

#[test]
fn a_kept_batch_is_not_overwritten() {
    expect_kept_batches(reader);
}

#[test]
fn the_error_of_a_stream_is_unwrapped() {
    struct FailingStream;
    impl AsyncRead for FailingStream {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::other(SourceError::Replaced { location: "s3://b/k".to_owned() })))
        }
    }
    let mut reader = reader(Box::pin(FailingStream));
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
        expect_read_back(&text, &expected, &sizes, batch, &|bytes, from, sizes, batch| {
            rest(bytes, delimiter, from, QUOTE_REACH, sizes, batch)
        });
    }

    /// Neither chunks nor the start of a read matter, and only line ends are between rows.
    #[test]
    fn any_bytes_give_the_same_rows_however_they_arrive(
        text in "([a;\"\r\n]|\"\"|\r\n|\u{feff}){0,60}",
        reach in 4_usize..40,
        sizes in proptest::collection::vec(0_usize..9, 0..5),
    ) {
        expect_rows_in_place(text.as_bytes(), &sizes, 2, &|bytes, from, sizes, batch| {
            rest(bytes, SEMICOLON, from, reach, sizes, batch)
        });
    }
}

//! Well-formed rows, malformed rows, and any bytes.

use assay_transaction::{CsvText, Delimiter, Encoding, Position, ReadingRules};
use proptest::prelude::*;

use super::*;
use crate::QUOTE_REACH;
use crate::RowBatch;
use crate::decode::batch::MAX_BATCH_BYTES;
use crate::decode::csv::testing::{ChunkedStream, OwnedRow, any_field, block_on, write};

mod malformed_input;
mod quotes;
mod text;

/// How a test reads a source.
#[derive(Debug, Clone)]
struct TestLayout {
    delimiter: Delimiter,
    columns: Option<usize>,
    csv: CsvText,
    encoding: Encoding,
    reach: usize,
}

impl Default for TestLayout {
    fn default() -> Self {
        let (delimiter, encoding) = (Delimiter::Semicolon, Encoding::UTF_8);
        Self { delimiter, columns: None, csv: CsvText::default(), encoding, reach: QUOTE_REACH }
    }
}

impl TestLayout {
    fn columns(columns: usize) -> Self {
        Self { columns: Some(columns), ..Self::default() }
    }

    fn layout(&self) -> CsvLayout<'_> {
        let Self { delimiter, columns, csv, encoding, .. } = self;
        let (delimiter, columns, encoding) = (*delimiter, *columns, *encoding);
        CsvLayout { delimiter, columns, csv, encoding, rules: ReadingRules::Second }
    }

    fn reader(&self, stream: ByteStream, from: Position) -> CsvReaderV2 {
        CsvReaderV2::new(stream, &self.layout(), from, self.reach)
    }

    /// The rows from a position, from chunks of these sizes, in batches of `batch`.
    fn rest(&self, bytes: &[u8], from: Position, sizes: &[usize], batch: usize) -> Vec<OwnedRow> {
        let stream = ChunkedStream::new(&bytes[usize::try_from(from.offset).unwrap()..], sizes);
        // The current row and one read, plus a pending line end.
        let most_held = self.reach + stream.most() + 2;
        let mut reader = self.reader(Box::pin(stream), from);
        block_on(async {
            let mut rows = Vec::new();
            while let Some(batch) = reader.next_batch(batch).await.unwrap() {
                let held = reader.buffer.held();
                assert!(held <= most_held, "{held} bytes are held, of rows that may reach {}", self.reach);
                rows.extend(batch.rows().map(|row| OwnedRow::of(&row)));
                assert_eq!(Some(reader.position()), rows.last().map(|row: &OwnedRow| row.end));
            }
            assert_eq!(reader.next_batch(1).await.unwrap().map(|batch| batch.len()), None, "it stays at the end");
            rows
        })
    }

    fn all(&self, bytes: &[u8]) -> Vec<OwnedRow> {
        self.rest(bytes, Position::START, &[], 100)
    }

    /// The fields of each row, joined; for a malformed row the reason and its bytes.
    fn shown(&self, text: &str) -> Vec<String> {
        self.all(text.as_bytes()).iter().map(shown).collect()
    }
}

fn shown(row: &OwnedRow) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match &row.malformed {
        Some(reason) => format!("{reason}: {}", text(&row.raw)),
        None => row.fields.iter().map(|field| text(field)).collect::<Vec<_>>().join("|"),
    }
}

#[test]
fn rows_know_their_lines_and_offsets() {
    let text = b"\r\n1;a\r\n\n\"2\n\r\n\";\"b\"\"c\"\n3;d\"ef\r4;\r\n\"\"\r\n\n5;g";
    let found: Vec<_> = TestLayout::default()
        .all(text)
        .into_iter()
        .map(|row| (row.line, shown(&row), String::from_utf8(row.raw).unwrap(), row.end.line, row.end.offset))
        .collect();
    let row = |line, fields: &str, raw: &str, end_line, end| (line, fields.to_owned(), raw.to_owned(), end_line, end);
    assert_eq!(
        found,
        [
            row(2, "1|a", "1;a", 3, 7),
            row(4, "2\n\r\n|b\"c", "\"2\n\r\n\";\"b\"\"c\"", 7, 22),
            row(7, "3|d\"ef", "3;d\"ef", 8, 29),
            row(8, "4|", "4;", 9, 33),
            row(9, "", "\"\"", 10, 37),
            row(11, "5|g", "5;g", 11, 41),
        ]
    );
}

#[test]
fn a_row_that_is_too_long_or_unclosed_costs_only_itself() {
    let long = |bytes: usize| "x".repeat(bytes);
    let many = "7;seven\n".repeat(400_000);
    let (large, quote) = (Some(RejectReason::RowTooLarge), Some(RejectReason::QuoteMalformed));
    let cases: Vec<(&str, String, Option<RejectReason>, usize)> = vec![
        ("just not too long", long(MAX_ROW_BYTES), None, MAX_ROW_BYTES),
        ("too long", long(MAX_ROW_BYTES + 1), large.clone(), MAX_ROW_BYTES + 1),
        ("too long, with CRLF", long(MAX_ROW_BYTES + 1) + "\r", large.clone(), MAX_ROW_BYTES + 1),
        ("longer than a row may reach", long(3 * QUOTE_REACH), large.clone(), 3 * QUOTE_REACH),
        ("the same in quotes", format!("1;\"{}\"", long(3 * QUOTE_REACH)), large.clone(), 3 * QUOTE_REACH + 4),
        ("lines in closed quotes", format!("1;\"{}\"", "line\n".repeat(60_000)), large.clone(), 300_004),
        ("delimiters alone", ";".repeat(MAX_ROW_BYTES + 1), large, MAX_ROW_BYTES + 1),
        ("a quote that is never closed", "1;\"oops;2".to_owned(), quote, 9),
    ];
    for (name, row, malformed, raw_bytes) in cases {
        for tail in ["8;eight\n9;nine", &many] {
            let text = format!("0;zero\n{row}\n{tail}");
            let rows = TestLayout::columns(2).rest(text.as_bytes(), Position::START, &[], 1000);
            assert_eq!(rows.len(), 2 + tail.lines().count(), "{name}");
            assert_eq!((rows[1].malformed.clone(), rows[1].raw_bytes), (malformed.clone(), raw_bytes), "{name}");
            assert_eq!(rows[1].raw, row.as_bytes()[..raw_bytes.min(MAX_RAW_KEPT)], "{name}");
            assert_eq!(rows[1].fields.is_empty(), malformed.is_some(), "{name}");
            assert_eq!(rows[2].raw, tail.lines().next().unwrap().as_bytes(), "{name}");
            assert_eq!(usize::try_from(rows.last().unwrap().line).unwrap(), text.lines().count(), "{name}");
            let resumed = TestLayout::columns(2).rest(text.as_bytes(), rows[1].end, &[70_000], 1000);
            assert!(resumed == rows[2..], "{name}: resumed behind it");
        }
    }
}

#[test]
fn memory_is_bounded_for_any_row() {
    let open = format!("1;\"{}", "z".repeat(64 * 1024 * 1024));
    let rows = format!("1;\"{}", "2;two\n".repeat(4_000_000));
    for text in [open, rows] {
        let mut reader = TestLayout::columns(2).reader(Box::pin(std::io::Cursor::new(text)), Position::START);
        while let Some(batch) = block_on(reader.next_batch(1_000_000)).unwrap() {
            assert!(batch.0.bytes() <= MAX_BATCH_BYTES + 2 * QUOTE_REACH);
            assert!(reader.buffer.capacity() <= 2 * QUOTE_REACH + 2 * crate::decode::buffer::READ_BYTES);
        }
    }
}

#[test]
fn a_kept_batch_is_not_overwritten() {
    let mut reader = TestLayout::default().reader(Box::pin(std::io::Cursor::new("1;a\n2;b\n3;c\n")), Position::START);
    let first = block_on(reader.next_batch(1)).unwrap().unwrap();
    let second = block_on(reader.next_batch(1)).unwrap().unwrap();
    let raw = |batch: &RowBatch| batch.rows().next().unwrap().raw.to_vec();
    assert_eq!((raw(&first), raw(&second)), (b"1;a".to_vec(), b"2;b".to_vec()));
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
        let layout = TestLayout { delimiter, ..TestLayout::default() };
        prop_assert_eq!(&layout.rest(text.as_bytes(), Position::START, &sizes, batch), &expected);
        for (index, row) in expected.iter().enumerate() {
            prop_assert_eq!(&layout.rest(text.as_bytes(), row.end, &sizes, batch)[..], &expected[index + 1..]);
        }
    }
}

//! Well-formed rows, malformed rows, and any bytes.

use assay_transaction::{CsvSyntax, Delimiter, Encoding, Position, ReadingRules};
use proptest::prelude::*;

use super::*;
use crate::QUOTE_REACH;
use crate::decode::buffer::READ_BYTES;
use crate::decode::csv::testing::{
    ChunkedStream, OwnedRow, TestedReader, any_field, block_on, expect_bounded_memory, expect_kept_batches,
    expect_long_rows_alone, expect_read_back, expect_rows_in_place, read_all, summaries, write,
};

mod malformed_input;
mod quotes;
mod text;

impl TestedReader for CsvReaderV2 {
    fn position(&self) -> Position {
        self.position()
    }

    fn held(&self) -> usize {
        self.buffer.held()
    }
}

/// How a test reads a source.
#[derive(Debug, Clone)]
struct TestLayout {
    delimiter: Delimiter,
    columns: Option<usize>,
    csv: CsvSyntax,
    encoding: Encoding,
    reach: usize,
}

impl Default for TestLayout {
    fn default() -> Self {
        let (delimiter, encoding) = (Delimiter::Semicolon, Encoding::UTF_8);
        Self { delimiter, columns: None, csv: CsvSyntax::default(), encoding, reach: QUOTE_REACH }
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
        read_all(self.reader(Box::pin(stream), from), most_held, batch)
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
    let found = summaries(TestLayout::default().all(text));
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
    let layout = TestLayout::columns(2);
    expect_long_rows_alone(RejectReason::QuoteMalformed, &|bytes, from, sizes, batch| {
        layout.rest(bytes, from, sizes, batch)
    });
}

#[test]
fn memory_is_bounded_for_any_row() {
    let layout = TestLayout::columns(2);
    expect_bounded_memory(
        |stream| layout.reader(stream, Position::START),
        |reader| reader.buffer.capacity() <= 2 * QUOTE_REACH + 2 * READ_BYTES,
    );
}

#[test]
fn a_kept_batch_is_not_overwritten() {
    expect_kept_batches(|stream| TestLayout::default().reader(stream, Position::START));
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
        expect_read_back(&text, &expected, &sizes, batch, &|bytes, from, sizes, batch| {
            layout.rest(bytes, from, sizes, batch)
        });
    }
}

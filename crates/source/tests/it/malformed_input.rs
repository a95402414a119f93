//! Malformed and hostile sources are rejected in one line, or read to their end.
//!
//! `tests/corpus` holds small ones; [`EXPECTED`] lists them.

use std::path::Path;
use std::time::{Duration, Instant};

use assay_source::{ByteStream, CsvReader, FormatOptions, SourceError, SourceLayout, inspect};
use assay_transaction::{DecimalMark, Delimiter, Encoding, Exit, Position};
use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tokio_util::io::StreamReader;

/// Longest error, as it is logged.
const LONGEST_ERROR: usize = 1500;

/// The bytes in chunks of at most this size.
fn in_parts(bytes: &[u8], size: usize) -> ByteStream {
    let parts: Vec<std::io::Result<Bytes>> = bytes.chunks(size).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    Box::pin(StreamReader::new(stream::iter(parts)))
}

/// A row: its number, line, own bytes, fields or reason, and end.
type RowSeen = (u64, u64, Vec<u8>, String, u64);

async fn rows(bytes: &[u8], layout: &SourceLayout, from: Position, size: usize) -> Vec<RowSeen> {
    let start = usize::try_from(from.offset).unwrap();
    let mut reader = CsvReader::new(in_parts(&bytes[start..], size), &layout.into(), from);
    let mut seen = Vec::new();
    while let Some(batch) = reader.next_batch(7).await.unwrap() {
        seen.extend(batch.rows().map(|row| {
            let fields = row.malformed.as_ref().map_or_else(|| joined(&row), |reason| format!("malformed: {reason}"));
            (row.number, row.line, row.raw.to_vec(), fields, row.end.offset)
        }));
    }
    seen
}

fn joined(row: &assay_source::SourceRow<'_>) -> String {
    use assay_transaction::FieldAccess as _;
    let fields = (0..row.fields.count()).map(|at| String::from_utf8_lossy(row.fields.get(at).unwrap()).into_owned());
    fields.collect::<Vec<_>>().join("\u{1f}")
}

/// Reads a source like a loader: whole and in chunks, from the start and from rows in between.
async fn read(bytes: &[u8], options: &FormatOptions) -> Result<(SourceLayout, Vec<RowSeen>), SourceError> {
    let whole = inspect(&mut in_parts(bytes, usize::MAX), options).await.map(|inspected| inspected.layout);
    for size in [1, 7] {
        let in_parts = inspect(&mut in_parts(bytes, size), options).await.map(|inspected| inspected.layout);
        match (&whole, in_parts) {
            (Ok(whole), Ok(in_parts)) => assert_eq!(*whole, in_parts),
            (Err(whole), Err(in_parts)) => assert_eq!(whole.to_string(), in_parts.to_string()),
            (whole, in_parts) => panic!("whole: {whole:?}, in parts of {size}: {in_parts:?}"),
        }
    }
    let layout = match whole {
        Ok(layout) => layout,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.len() <= LONGEST_ERROR && !text.contains(char::is_control),
                "{} bytes: {text:.500}",
                text.len()
            );
            assert_eq!(error.exit(), Exit::SourceUnreadable, "{text}");
            return Err(error);
        }
    };
    // Offsets count transcoded bytes.
    let encoding = layout.dialect.encoding;
    let in_utf8 = encoding.is_transcoded().then(|| encoding.decode(&bytes[2..]).unwrap().into_owned());
    let bytes = in_utf8.as_ref().map_or(bytes, String::as_bytes);
    assert!(usize::try_from(layout.start.offset).unwrap() <= bytes.len());
    let all = rows(bytes, &layout, layout.start, usize::MAX).await;
    assert!(all.iter().map(|row| row.0).eq(1..=all.len() as u64), "each row is counted once");
    assert_eq!(rows(bytes, &layout, layout.start, 1).await, all);
    for (at, row) in all.iter().enumerate().step_by(1 + all.len() / 20) {
        // Only the reader knows the line; it counts from the number given.
        let from = Position { row: row.0 + 1, line: 1, offset: row.4 };
        let rest = rows(bytes, &layout, from, 5).await;
        let without_line =
            |rows: &[RowSeen]| rows.iter().cloned().map(|row| (row.0, row.2, row.3, row.4)).collect::<Vec<_>>();
        assert_eq!(without_line(&rest), without_line(&all[at + 1..]));
    }
    Ok((layout, all))
}

/// Part of the error, or the delimiter and the numbers of rows and malformed rows.
enum ExpectedRead {
    Refused(&'static str),
    Rows(Delimiter, usize, usize),
}

const EXPECTED: &[(&str, ExpectedRead)] = {
    use Delimiter::{Comma, Pipe, Semicolon, Tab};
    use ExpectedRead::{Refused, Rows};
    &[
        ("nothing.csv", Refused("the source is empty")),
        ("bom-alone.csv", Refused("the source is empty")),
        ("blank-lines-alone.csv", Refused("the source is empty")),
        ("header-alone.csv", Rows(Comma, 0, 0)),
        ("header-without-line-end.csv", Rows(Semicolon, 0, 0)),
        ("header-over-lines.csv", Rows(Semicolon, 1, 0)),
        ("header-in-capitals-and-blanks.csv", Rows(Tab, 1, 0)),
        ("header-with-empty-names.csv", Rows(Comma, 1, 0)),
        ("header-with-a-name-twice.csv", Refused("occurs twice")),
        ("header-with-a-name-of-control-characters-twice.csv", Rows(Comma, 0, 0)),
        ("header-with-an-open-quote.csv", Refused("a quote after a delimiter is not closed")),
        ("header-not-utf8.csv", Refused("in windows-1252 it is `é`")),
        ("header-with-nul.csv", Refused("holds a NUL byte")),
        ("header-missing-columns-with-control-characters.csv", Refused("missing required column")),
        ("excel-sep-line.csv", Rows(Semicolon, 1, 0)),
        ("utf16-le.csv", Rows(Comma, 1, 0)),
        ("utf16-be.csv", Rows(Comma, 1, 0)),
        ("json.csv", Refused("write one object on each line")),
        ("html.csv", Refused("no header found")),
        ("parquet.csv", Refused("no header found")),
        ("gzip.csv", Refused("no header found")),
        ("zip.csv", Refused("missing required column `id`")),
        ("all-bytes.csv", Refused("no header found")),
        ("terminal-escapes.csv", Refused("no header found")),
        ("quotes-alone.csv", Refused("does not end within")),
        ("delimiters-of-every-kind.csv", Rows(Pipe, 2, 0)),
        ("line-ends-of-every-kind.csv", Rows(Comma, 4, 0)),
        ("carriage-returns.csv", Rows(Comma, 3, 0)),
        ("no-last-line-end.csv", Rows(Comma, 1, 0)),
        ("last-byte-a-carriage-return.csv", Rows(Comma, 1, 0)),
        ("quote-open-at-the-end.csv", Rows(Comma, 3, 1)),
        ("quote-open-in-every-row.csv", Rows(Comma, 4, 3)),
        ("quotes-in-the-middle-of-fields.csv", Rows(Comma, 3, 0)),
        ("text-behind-a-closing-quote.csv", Rows(Comma, 2, 2)),
        ("quoted-line-ends.csv", Rows(Semicolon, 2, 0)),
        ("bom-in-the-middle.csv", Rows(Comma, 2, 0)),
        ("nul-bytes.csv", Rows(Comma, 3, 0)),
        ("control-z-at-the-end.csv", Rows(Comma, 2, 0)),
        ("comments-and-backslashes.csv", Rows(Comma, 3, 0)),
        ("formulas.csv", Rows(Semicolon, 3, 0)),
        ("latin-1-in-utf8.csv", Rows(Comma, 2, 0)),
        ("overlong-and-surrogates.csv", Refused("ENCODING=utf-8 to reject such rows")),
        ("far-too-many-fields.csv", Rows(Comma, 2, 0)),
        ("ragged.csv", Rows(Comma, 5, 0)),
        ("amounts-of-every-kind.csv", Refused("two decimal marks")),
    ]
};

#[tokio::test]
async fn the_corpus_is_read_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut unexpected = Vec::new();
    for (name, expected) in EXPECTED {
        let bytes = std::fs::read(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        match (expected, read(&bytes, &FormatOptions::default()).await) {
            (ExpectedRead::Refused(words), Err(error)) if error.to_string().contains(words) => {}
            (ExpectedRead::Rows(delimiter, count, malformed), Ok((layout, rows)))
                if (layout.dialect.delimiter, rows.len()) == (*delimiter, *count)
                    && rows.iter().filter(|row| row.3.starts_with("malformed: ")).count() == *malformed => {}
            (_, Ok((layout, rows))) => {
                let fields: Vec<&str> = rows.iter().map(|row| row.3.as_str()).collect();
                unexpected.push(format!("{name}: {:?} and {} rows: {fields:?}", layout.dialect.delimiter, rows.len()));
            }
            (_, Err(error)) => unexpected.push(format!("{name}: {error}")),
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let there = std::fs::read_dir(directory).unwrap().count();
    assert_eq!(there, EXPECTED.len(), "each file of the corpus is named here");
}

fn any_options() -> impl Strategy<Value = FormatOptions> {
    let marks = [DecimalMark::Point, DecimalMark::Comma];
    let encodings = [Encoding::UTF_8, Encoding::WINDOWS_1252];
    (
        prop::option::weighted(0.2, prop::sample::select(&Delimiter::ALL[..])),
        prop::option::weighted(0.2, prop::sample::select(marks.to_vec())),
        prop::option::weighted(0.2, prop::sample::select(encodings.to_vec())),
    )
        .prop_map(|(delimiter, decimal_mark, encoding)| FormatOptions {
            delimiter,
            decimal_mark,
            encoding,
            ..FormatOptions::default()
        })
}

/// A rough header and rough rows.
fn any_source() -> impl Strategy<Value = Vec<u8>> {
    let delimiters = prop::sample::select(&[",", ";", "\t", "|"][..]);
    let header = prop_oneof![
        8 => Just("id,description,amount,timestamp,operation_type,side,merchant"),
        1 => Just("\"id\",\"description\",AMOUNT,timestamp , operation_type,\"si\"\"de\",side,"),
        1 => Just("id,amount"),
        1 => Just(""),
    ];
    let pieces = prop_oneof![
        4 => prop::sample::select(
            &["\"", "\"\"", "\n", "\r", "\r\n", ",", ";", "\t", "|", "1,5", "1.5", "\0", "\u{feff}", "é", "a"][..]
        ).prop_map(|piece| piece.as_bytes().to_vec()),
        2 => Just(b"1;Card;1,5;2026-01-01 10:00:00;x;debit;EDF\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    (prop::sample::select(&["", "\u{feff}", "\n\r\n"][..]), header, delimiters, prop::collection::vec(pieces, 0..40))
        .prop_map(|(start, header, delimiter, pieces)| {
            let mut source = [start, &header.replace(',', delimiter), "\n"].concat().into_bytes();
            source.extend(pieces.concat());
            source
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2048,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_source_is_rejected_or_read(source in any_source(), options in any_options()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read(&source, &options));
    }

    #[test]
    fn any_bytes_are_rejected_or_read(source in prop::collection::vec(any::<u8>(), 0..300), options in any_options()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(read(&source, &options));
    }
}

/// Heads of maximum size, each expensive to inspect.
#[tokio::test]
async fn a_large_head_is_rejected_quickly_and_briefly() {
    const SIZE: usize = 256 * 1024 - 1;
    let line = |text: String| text.into_bytes().into_iter().take(SIZE).chain(*b"\n").collect::<Vec<u8>>();
    let names = |separator: &str| (0..60_000).map(|name| format!("{name:x}")).collect::<Vec<_>>().join(separator);
    let heads = [
        ("many names", line(format!("id,{}", names(",")))),
        ("many names under another delimiter", line(format!("id;{}", names(";")))),
        ("empty names", line(format!("id{}", ",".repeat(SIZE)))),
        ("one long name", line(format!("id,{}", "x".repeat(SIZE)))),
        ("one long name twice", line(format!("id,{0},{0}", "x".repeat(SIZE / 2 - 10)))),
        ("quotes", line("\"".repeat(SIZE))),
        ("names of quotes", line("id,\"\"\"\",".repeat(SIZE / 8))),
        ("no line end", vec![b'x'; 2 * SIZE]),
        ("lines alone", vec![b'\n'; 2 * SIZE]),
    ];
    for (what, head) in heads {
        let began = Instant::now();
        let error = inspect(&mut in_parts(&head, 64 * 1024), &FormatOptions::default()).await.unwrap_err().to_string();
        assert!(
            error.len() <= LONGEST_ERROR && !error.contains(char::is_control),
            "{what}: {} bytes: {error:.300}",
            error.len()
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
    }
}

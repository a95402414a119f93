//! Writes invalid rows in the dialect and encoding of their source: the header, and the rows byte for byte, but for card numbers
//! that are to be masked. Rows of JSON and
//! Parquet sources become JSON Lines, without a header.
//!
//! Guarantee: memory is constant, and the same settings parse the file into the same rows, unless stray quotes of two of the
//! last rows combine to one field.

use std::borrow::Cow;
use std::io::Write;

use assay_store::{InvalidRecord, Store};
use assay_transaction::{
    DecidedBy, DecisionSubject, Delimiter, Format, MAX_RAW_KEPT, RejectReason, Run, RunSettings,
    mask_card_numbers_in_bytes,
};

use super::encoder::LineEncoder;
use super::{InvalidPages, Masking};
use crate::error::CommandError;

/// Rows that were written and skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CsvCounts {
    pub(super) rows: u64,
    /// Rows of which only the start is stored, or whose encoding cannot write their text.
    pub(super) left_out: u64,
    /// Rows with card numbers that were masked.
    pub(super) masked: u64,
}

/// Writes the first `limit` invalid rows of a run.
pub(super) async fn write(
    store: &dyn Store,
    run: &Run,
    (limit, masking): (u64, Masking),
    out: &mut impl Write,
) -> Result<CsvCounts, CommandError> {
    let mut written = CsvCounts::default();
    let encoder = LineEncoder::for_run(&run.settings);
    out.write_all(&encoder.byte_order_mark()).map_err(CommandError::Print)?;
    if run.settings.format == Format::Csv {
        let header = encoder.text(&(separator(&run.settings) + &header(&run.settings)));
        let header = header.ok_or_else(|| CommandError::Stage("the header does not fit its encoding".to_owned()))?;
        out.write_all(&header).map_err(CommandError::Print)?;
    }
    let mut has_open_quotes = false;
    let mut pages = InvalidPages::new(store, run, limit);
    while let Some(page) = pages.next().await? {
        for record in page {
            match kind(&record) {
                RawKind::Cut => written.left_out += 1,
                RawKind::OpenQuote => has_open_quotes = true,
                RawKind::Whole => {
                    let row = written.masked_row(&encoder, &record, masking);
                    written.count(line(out, row)?);
                }
            }
        }
    }
    // A second pass, as they may be too many to keep in memory.
    let mut pages = InvalidPages::new(store, run, if has_open_quotes { limit } else { 0 });
    while let Some(page) = pages.next().await? {
        for record in page.iter().filter(|record| kind(record) == RawKind::OpenQuote) {
            let row = written.masked_row(&encoder, record, masking);
            written.count(line(out, row)?);
        }
    }
    out.flush().map_err(CommandError::Print)?;
    Ok(written)
}

impl CsvCounts {
    /// The line of a row, and counts it if it is masked.
    fn masked_row(&mut self, encoder: &LineEncoder, record: &InvalidRecord, masking: Masking) -> Option<Vec<u8>> {
        let raw = match masking {
            Masking::CardNumbers => mask_card_numbers_in_bytes(&record.raw),
            Masking::None => Cow::Borrowed(record.raw.as_slice()),
        };
        self.masked += u64::from(matches!(raw, Cow::Owned(_)));
        encoder.row(&raw)
    }

    fn count(&mut self, is_written: bool) {
        self.rows += u64::from(is_written);
        self.left_out += u64::from(!is_written);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawKind {
    Whole,
    /// Only its start is stored.
    Cut,
    /// It may swallow the rows after it.
    OpenQuote,
}

fn kind(record: &InvalidRecord) -> RawKind {
    let reason = RejectReason::from(record.reason.as_str());
    if reason == RejectReason::RowTooLarge || record.raw.len() >= MAX_RAW_KEPT {
        RawKind::Cut
    } else if matches!(reason, RejectReason::UnterminatedQuote | RejectReason::QuoteMalformed) {
        RawKind::OpenQuote
    } else {
        RawKind::Whole
    }
}

/// Writes a line, if present; returns whether it was.
fn line(out: &mut impl Write, line: Option<Vec<u8>>) -> Result<bool, CommandError> {
    let Some(line) = line else { return Ok(false) };
    out.write_all(&line).map_err(CommandError::Print)?;
    Ok(true)
}

/// The `sep=` line, if the delimiter was not set and only such a line makes it known.
fn separator(settings: &RunSettings) -> String {
    let delimiter = settings.dialect.delimiter;
    let is_told =
        Delimiter::ALL.contains(&delimiter) || settings.decided_by(DecisionSubject::Delimiter) == DecidedBy::Set;
    if is_told { String::new() } else { format!("sep={}\n", char::from(delimiter.byte())) }
}

/// The header's names, quoted where they have to be.
fn header(settings: &RunSettings) -> String {
    let delimiter = char::from(settings.dialect.delimiter.byte());
    let name = |name: &String| {
        let name = match settings.csv.escape {
            Some(escape) => name.replace(escape, &format!("{escape}{escape}")),
            None => name.clone(),
        };
        if name.contains([delimiter, '"', '\n', '\r']) || settings.csv.null_values.contains(&name) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name
        }
    };
    let names: Vec<String> = settings.header.iter().map(name).collect();
    names.join(&delimiter.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::{CsvSyntax, DecimalMark, Decision, Dialect, Encoding};

    fn record(reason: &str, bytes: usize) -> InvalidRecord {
        InvalidRecord {
            run_id: "run".parse().unwrap(),
            row: 1,
            line: 2,
            reason: reason.to_owned(),
            message: String::new(),
            raw: vec![b'x'; bytes],
        }
    }

    #[test]
    fn tells_what_cannot_be_written_as_it_was() {
        let cases = [
            ("amount_scale", 100, RawKind::Whole),
            ("amount_scale", MAX_RAW_KEPT, RawKind::Cut),
            ("row_too_large", 100, RawKind::Cut),
            ("unterminated_quote", 100, RawKind::OpenQuote),
            ("quote_malformed", 100, RawKind::OpenQuote),
            ("a_newer_reason", 100, RawKind::Whole),
        ];
        for (reason, bytes, expected) in cases {
            assert_eq!(kind(&record(reason, bytes)), expected, "{reason} {bytes}");
        }
    }

    #[test]
    fn the_header_is_in_the_dialect_and_the_encoding_of_the_source() {
        let header_of = |delimiter, encoding, csv: CsvSyntax| {
            let header = ["id", "libellé", "a;b", "say \"x\"", "NULL"].map(str::to_owned).to_vec();
            let dialect = Dialect { delimiter, decimal_mark: DecimalMark::Comma, encoding };
            let settings = RunSettings { header, dialect, csv, ..RunSettings::example() };
            LineEncoder::for_run(&settings).text(&super::header(&settings)).unwrap()
        };
        let plain = header_of(Delimiter::Semicolon, Encoding::UTF_8, CsvSyntax::default());
        assert_eq!(plain, "id;libellé;\"a;b\";\"say \"\"x\"\"\";\"NULL\"\n".as_bytes());
        let windows = header_of(
            Delimiter::Tab,
            Encoding::WINDOWS_1252,
            CsvSyntax { null_values: vec![], ..CsvSyntax::default() },
        );
        assert_eq!(windows, b"id\tlibell\xe9\ta;b\t\"say \"\"x\"\"\"\tNULL\n");
        let escaping =
            header_of(Delimiter::Other(b'b'), Encoding::UTF_8, CsvSyntax { escape: Some('l'), ..CsvSyntax::default() });
        assert!(escaping.starts_with("idb\"llibellll".as_bytes()), "{}", String::from_utf8_lossy(&escaping));
    }

    #[test]
    fn a_delimiter_that_only_the_source_named_is_named_again() {
        for (delimiter, by, expected) in [
            (Delimiter::Other(b'^'), DecidedBy::Recognised, "sep=^\n"),
            (Delimiter::Other(b'^'), DecidedBy::Set, ""),
            (Delimiter::Semicolon, DecidedBy::Recognised, ""),
        ] {
            let example = RunSettings::example();
            let dialect = Dialect { delimiter, ..example.dialect };
            let decision =
                Decision { what: DecisionSubject::Delimiter, value: String::new(), by, evidence: String::new() };
            let settings = RunSettings { dialect, decisions: vec![decision], ..example };
            assert_eq!(separator(&settings), expected, "{delimiter:?} {by}");
        }
    }
}

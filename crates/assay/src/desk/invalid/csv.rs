//! Rejected rows as a file in their source's own dialect and encoding: the header, and the rows byte for byte.
//!
//! Guarantee: memory is constant, and what is written parses into the same rows again, but for the very last of them where
//! a quote is never closed.

use std::io::Write;

use assay_store::{InvalidRecord, Store};
use assay_transaction::{Encoding, MAX_RAW_KEPT, RejectReason, Run, RunSettings};

use super::Pages;
use crate::error::CommandError;

/// How much was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    /// Rows of which only the start was kept.
    pub(super) left_out: u64,
}

/// Writes the first `limit` rejected rows of a run.
pub(super) async fn write(
    store: &dyn Store,
    run: &Run,
    limit: u64,
    out: &mut impl Write,
) -> Result<Written, CommandError> {
    let mut written = Written::default();
    line(out, &header(&run.settings)?)?;
    let mut has_open_quotes = false;
    let mut pages = Pages::new(store, run, limit);
    while let Some(page) = pages.next().await? {
        for record in page {
            match kind(&record) {
                Kind::Cut => written.left_out += 1,
                Kind::OpenQuote => has_open_quotes = true,
                Kind::Whole => {
                    line(out, &record.raw)?;
                    written.rows += 1;
                }
            }
        }
    }
    // Once more, as they may be too many to be kept in memory until here.
    let mut pages = Pages::new(store, run, if has_open_quotes { limit } else { 0 });
    while let Some(page) = pages.next().await? {
        for record in page.iter().filter(|record| kind(record) == Kind::OpenQuote) {
            line(out, &record.raw)?;
            written.rows += 1;
        }
    }
    out.flush().map_err(CommandError::Print)?;
    Ok(written)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    /// Only its start was kept.
    Cut,
    /// It swallows what is written behind it.
    OpenQuote,
}

fn kind(record: &InvalidRecord) -> Kind {
    let reason = RejectReason::from(record.reason.as_str());
    if reason == RejectReason::RowTooLarge || record.raw.len() >= MAX_RAW_KEPT {
        Kind::Cut
    } else if reason == RejectReason::UnterminatedQuote {
        Kind::OpenQuote
    } else {
        Kind::Whole
    }
}

fn line(out: &mut impl Write, bytes: &[u8]) -> Result<(), CommandError> {
    out.write_all(bytes).and_then(|()| out.write_all(b"\n")).map_err(CommandError::Print)
}

/// The header's names, quoted where they have to be.
fn header(settings: &RunSettings) -> Result<Vec<u8>, CommandError> {
    let delimiter = char::from(settings.dialect.delimiter.byte());
    let name = |name: &String| {
        if name.contains([delimiter, '"', '\n', '\r']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.clone()
        }
    };
    let names: Vec<String> = settings.header.iter().map(name).collect();
    encode(settings.dialect.encoding, &names.join(&delimiter.to_string()))
}

fn encode(encoding: Encoding, text: &str) -> Result<Vec<u8>, CommandError> {
    encoding.encode(text).ok_or_else(|| CommandError::Stage("the header does not fit its encoding".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::{DecimalMark, Delimiter, Dialect};

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
            ("amount_scale", 100, Kind::Whole),
            ("amount_scale", MAX_RAW_KEPT, Kind::Cut),
            ("row_too_large", 100, Kind::Cut),
            ("unterminated_quote", 100, Kind::OpenQuote),
            ("a_newer_reason", 100, Kind::Whole),
        ];
        for (reason, bytes, expected) in cases {
            assert_eq!(kind(&record(reason, bytes)), expected, "{reason} {bytes}");
        }
    }

    #[test]
    fn the_header_is_in_the_dialect_and_the_encoding_of_the_source() {
        let header_of = |delimiter, encoding| {
            let header = ["id", "libellé", "a;b", "say \"x\""].map(str::to_owned).to_vec();
            let dialect = Dialect { delimiter, decimal_mark: DecimalMark::Comma, encoding };
            super::header(&RunSettings { header, dialect, ..RunSettings::example() }).unwrap()
        };
        assert_eq!(header_of(Delimiter::Semicolon, Encoding::UTF_8), "id;libellé;\"a;b\";\"say \"\"x\"\"\"".as_bytes());
        let windows = header_of(Delimiter::Tab, Encoding::WINDOWS_1252);
        assert_eq!(windows, b"id\tlibell\xe9\ta;b\t\"say \"\"x\"\"\"");
    }
}

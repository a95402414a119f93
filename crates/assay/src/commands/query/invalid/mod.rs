//! `assay invalid`: lists invalid rows, or writes them to a file to correct and load again.

mod csv;
mod encoder;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use assay_report::raw_text;
use assay_store::{InvalidRecord, Store};
use assay_transaction::{Exit, Run, RunId, mask_card_numbers};
use clap::Args;
use serde::Serialize;
use tracing::{info, warn};

use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::operator::OperatorOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;
use crate::output::{counted, grouped, one_line, print_json, print_text, unmasked_line};

/// Invalid rows of a query, with up to 64 KiB each.
const PAGE: u32 = 100;
/// The default of `--limit`.
const LISTED: u64 = 100;
/// Longest text of a row or message that is shown as text.
const TEXT: usize = 200;

/// List invalid rows
///
/// Shows row number, line, rule and text; card numbers are masked. With --csv, writes a file in the dialect and encoding of
/// the source: its header and the original bytes of the rows, to be corrected and loaded again. Rows of JSON and Parquet sources
/// are written as JSON Lines. With --unmasked, card numbers are shown and written as they are; the table of operations records
/// that, with the operator. Rows over 64 KiB, of which only the start is stored, are skipped and counted on
/// stderr. Rows with a stray quote come last, as they might swallow the next rows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay invalid batch_20260111_100000_3f9a1c
  assay invalid batch_20260111_100000_3f9a1c --csv --output rejected.csv --unmasked --reason 'to correct'")]
pub(crate) struct InvalidArguments {
    /// The run: its name, a source that it loaded, or `latest`
    #[arg(value_name = "RUN")]
    run: String,
    /// Write the header and the original rows as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Write the CSV to this file instead of stdout
    #[arg(long, value_name = "FILE", requires = "csv")]
    output: Option<PathBuf>,
    /// Show card numbers; recorded in the table of operations
    #[arg(long)]
    unmasked: bool,
    /// Rows to list, the first ones [default: 100; with --csv all]
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: OperatorOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Lists invalid rows, or writes them.
pub(crate) async fn invalid(arguments: &InvalidArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("invalid").await?;
    let (run, _) = resolve_run(&*store, &arguments.run).await?;
    let masking = if arguments.unmasked { Masking::None } else { Masking::CardNumbers };
    let limit = arguments.limit.unwrap_or(if arguments.csv { u64::MAX } else { LISTED });
    if masking == Masking::None {
        record_unmasking(&*store, &run, arguments, limit).await?;
    }
    if arguments.csv {
        match &arguments.output {
            Some(path) => {
                let failed = |error| CommandError::Output { path: path.display().to_string(), error };
                let mut file = std::io::BufWriter::new(File::create(path).map_err(failed)?);
                log_written(&csv::write(&*store, &run, (limit, masking), &mut file).await?, path.to_str());
                file.flush().map_err(failed)?;
            }
            None => {
                log_written(&csv::write(&*store, &run, (limit, masking), &mut std::io::stdout().lock()).await?, None);
            }
        }
    } else {
        list(&*store, &run, (limit, masking), arguments.json).await?;
    }
    store.close().await;
    Ok(Exit::Done)
}

/// Whether card numbers are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masking {
    CardNumbers,
    None,
}

/// Records that card numbers are going to be shown: nothing is shown that could not be recorded.
async fn record_unmasking(
    store: &dyn Store,
    run: &Run,
    arguments: &InvalidArguments,
    limit: u64,
) -> Result<(), CommandError> {
    let total: u64 = store.invalid_counts(&run.run_id).await?.iter().map(|(_, count)| count).sum();
    let form = match (arguments.csv, arguments.json) {
        (true, _) => "csv",
        (false, true) => "json",
        (false, false) => "text",
    };
    let details = serde_json::json!({ "command": "invalid", "form": form, "rows": total.min(limit) });
    let context = arguments.operator.audit_context();
    Ok(store.record_operation("unmask", Some(&run.run_id), Some(&details), &context).await?)
}

/// Logs how many rows were written and skipped.
fn log_written(written: &csv::CsvCounts, to: Option<&str>) {
    if let Some(path) = to {
        info!("wrote {} to {path}", counted(written.rows, "row", "rows"));
    }
    if written.masked > 0 {
        let rows = counted(written.masked, "row has a card number", "rows have card numbers");
        warn!("{rows} that was masked: --unmasked writes what the source had, and is recorded");
    }
    if written.left_out > 0 {
        let rows = counted(written.left_out, "row is", "rows are");
        warn!(
            "{rows} left out: only the start is stored, or the encoding cannot write the text; correct them in the source"
        );
    }
}

async fn list(store: &dyn Store, run: &Run, (limit, masking): (u64, Masking), json: bool) -> Result<(), CommandError> {
    let total: u64 = store.invalid_counts(&run.run_id).await?.iter().map(|(_, count)| count).sum();
    let mut pages = InvalidPages::new(store, run, limit);
    let (mut listed, mut all) = (0, Vec::new());
    while let Some(page) = pages.next().await? {
        for record in page {
            listed += 1;
            let shown = InvalidRowLine::new(&record, run, masking);
            if json {
                all.push(shown);
            } else {
                print_text(&shown)?;
            }
        }
    }
    if json {
        return print_json(&all);
    }
    match total {
        0 => print_text("no invalid rows\n"),
        total if total > listed => {
            print_text(&format_args!("\n{} of {} invalid rows; --limit shows more\n", grouped(listed), grouped(total)))
        }
        total => print_text(&format_args!("\n{}\n", counted(total, "invalid row", "invalid rows"))),
    }
}

/// An invalid row.
#[derive(Debug, Serialize)]
struct InvalidRowLine {
    row: u64,
    line: u64,
    reason: String,
    message: String,
    raw: String,
    #[serde(skip)]
    masking: Masking,
}

impl InvalidRowLine {
    fn new(record: &InvalidRecord, run: &Run, masking: Masking) -> Self {
        let masked = |text: &str| match masking {
            Masking::CardNumbers => mask_card_numbers(text).into_owned(),
            Masking::None => text.to_owned(),
        };
        Self {
            row: record.row,
            line: record.line,
            reason: record.reason.clone(),
            message: masked(&record.message),
            raw: masked(&raw_text(record, run)),
            masking,
        }
    }
}

impl std::fmt::Display for InvalidRowLine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { row, line, reason, message, raw, masking } = self;
        let shown = match masking {
            Masking::CardNumbers => one_line,
            Masking::None => unmasked_line,
        };
        let reason = one_line(reason, TEXT);
        writeln!(out, "row {}, line {}: {reason}: {}", grouped(*row), grouped(*line), shown(message, TEXT))?;
        writeln!(out, "    {}", shown(raw, TEXT))
    }
}

/// The invalid rows of a run in order, page by page.
struct InvalidPages<'a> {
    store: &'a dyn Store,
    run_id: &'a RunId,
    from: u64,
    left: u64,
}

impl<'a> InvalidPages<'a> {
    fn new(store: &'a dyn Store, run: &'a Run, limit: u64) -> Self {
        Self { store, run_id: &run.run_id, from: 0, left: limit }
    }

    async fn next(&mut self) -> Result<Option<Vec<InvalidRecord>>, CommandError> {
        let limit = u32::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        if limit == 0 {
            return Ok(None);
        }
        let page = self.store.invalid_rows(self.run_id, None, self.from, limit).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.from = last.row + 1;
        self.left -= page.len() as u64;
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;

    #[test]
    fn a_row_is_shown_masked_on_two_lines() {
        let record = InvalidRecord {
            run_id: example().run_id,
            row: 4_711,
            line: 4_713,
            reason: "amount_format".into(),
            message: "`amount` is not a decimal number: `4111111111111111x`".into(),
            raw: b"7;CB 4111111111111111;\"two\nlines\"".to_vec(),
        };
        let shown = |masking| InvalidRowLine::new(&record, &example(), masking).to_string();
        assert!(shown(Masking::None).contains("    7;CB 4111111111111111;\"two\\nlines\""));
        assert_eq!(
            shown(Masking::CardNumbers),
            "\
row 4,711, line 4,713: amount_format: `amount` is not a decimal number: `************1111x`
    7;CB ************1111;\"two\\nlines\"
"
        );
    }

    #[test]
    fn its_json_is_pinned() {
        let record = InvalidRecord {
            run_id: example().run_id,
            row: 4_711,
            line: 4_713,
            reason: "amount_format".into(),
            message: "`amount` is not a decimal number: `1,2,3`".into(),
            raw: b"7;CB 4111111111111111;1,2,3".to_vec(),
        };
        crate::output::pin_json("invalid", &[InvalidRowLine::new(&record, &example(), Masking::CardNumbers)]);
    }
}

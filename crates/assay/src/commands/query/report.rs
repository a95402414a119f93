//! `assay report`: one run on one page, to keep or to print.

use std::io::Write as _;
use std::path::PathBuf;

use assay_transaction::Exit;
use clap::Args;

use crate::commands::ledger::LedgerOptions;
use crate::commands::ledger::run_argument::resolve_run;
use crate::error::CommandError;

/// Write a report of a run: one HTML page without a script
///
/// Shows what the console shows of a run: what became of its rows, how fast they were stored, reasons, scores, models, settings and
/// operations. The page loads nothing, so it can be kept, sent and printed. Texts are masked.
///
/// Exits 0 when it is written, 2 if there is no such run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay report batch_20260111_100000_3f9a1c > run.html
  assay report latest --output run.html")]
pub(crate) struct ReportArguments {
    /// The run: its name, a source that it loaded, or `latest`
    #[arg(value_name = "RUN")]
    run: String,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
}

/// Writes the report.
pub(crate) async fn report(arguments: &ReportArguments) -> Result<Exit, CommandError> {
    let store = arguments.ledger.open("report").await?;
    let (run, _) = resolve_run(&*store, &arguments.run).await?;
    let page = assay_console::report(&*store, &run.run_id).await?;
    store.close().await;
    let page = page.ok_or_else(|| CommandError::NoRun(run.run_id.to_string()))?;
    if let Some(path) = &arguments.output {
        let failed = |error| CommandError::Output { path: path.display().to_string(), error };
        std::fs::write(path, page).map_err(failed)?;
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(page.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Print)?;
    }
    Ok(Exit::Done)
}

//! `assay generate`: writes transactions for trials.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use assay_generator::{GenerateError, GenerateOptions, GenerateSummary};
use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use clap::Args;
use serde::Serialize;
use tracing::info;

use crate::error::CommandError;
use crate::output::print_json;

/// Write realistic transactions with planted fraud as CSV, on request with invalid rows and duplicates
///
/// The same seed gives the same bytes on every machine. Rows stream to stdout, or to --output.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    #[command(flatten)]
    options: GenerateOptions,
    /// Print what was written as JSON, on stdout
    #[arg(long, requires = "output")]
    json: bool,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Writes to --output, or to stdout, whose reader may stop reading.
pub(crate) fn generate(arguments: &GenerateArguments) -> Result<Exit, CommandError> {
    let options = &arguments.options;
    let mut manifest = options.manifest.as_ref().map(File::create).transpose().map_err(GenerateError::Manifest)?;
    let manifest = manifest.as_mut().map(|file| file as &mut dyn Write);
    let written = match &options.output {
        Some(path) => assay_generator::generate(options, File::create(path).map_err(GenerateError::Output)?, manifest),
        None => assay_generator::generate(options, std::io::stdout().lock(), manifest),
    };
    let summary = match written {
        Err(GenerateError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Done),
        other => other?,
    };
    if let Some(path) = options.output.as_ref().filter(|_| arguments.json) {
        print_json(&GenerateReport::new(path, &summary))?;
    } else if let Some(path) = &options.output {
        let (rows, invalid, duplicates) = (summary.rows, summary.invalid, summary.duplicates);
        info!("wrote {rows} rows to {}: {invalid} invalid, {duplicates} duplicates", path.display());
    }
    Ok(Exit::Done)
}

/// What was written.
#[derive(Debug, Serialize)]
struct GenerateReport {
    output: String,
    rows: u64,
    invalid: u64,
    duplicates: u64,
    fraud: u64,
}

impl GenerateReport {
    fn new(path: &Path, written: &GenerateSummary) -> Self {
        let GenerateSummary { rows, invalid, duplicates, fraud } = *written;
        Self { output: path.display().to_string(), rows, invalid, duplicates, fraud }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_json_is_pinned() {
        let report = GenerateReport { output: "t.csv".into(), rows: 1_000, invalid: 10, duplicates: 5, fraud: 25 };
        crate::output::pin_json("generate", &report);
    }
}

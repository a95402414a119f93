//! `assay generate`.

use std::fs::File;
use std::io::{ErrorKind, Write};

use assay_generator::{GenerateError, GenerateOptions};
use assay_transaction::Exit;
use tracing::info;

use crate::error::CommandError;

/// Generates to the files that the options name, or to stdout. Whoever reads stdout may stop when it has enough.
pub(crate) fn generate(options: &GenerateOptions) -> Result<Exit, CommandError> {
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
    if let Some(path) = &options.output {
        let (rows, invalid, duplicates) = (summary.rows, summary.invalid, summary.duplicates);
        info!("wrote {rows} rows to {}: {invalid} invalid, {duplicates} duplicates", path.display());
    }
    Ok(Exit::Done)
}

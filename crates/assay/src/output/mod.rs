//! Results on stdout: JSON for machines, tables for people. Logs go to stderr, and are not made here.
//!
//! Guarantee: no text from outside reaches a terminal unchanged. [`one_line`] masks card numbers and escapes control
//! characters; what is printed is checked once more as a whole.

#[cfg(test)]
mod pinned;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use assay_transaction::escaped_json;
use serde::Serialize;

use crate::error::CommandError;

#[cfg(test)]
pub(crate) use self::pinned::pin_json;
pub(crate) use assay_report::{
    FieldList, Table, Tone, counted, find_audience, grouped, harmless, human_duration, list_counts, masked_labels,
    moment, one_line, per_second, ranges, seconds_between, toned, unmasked_line, with_separators,
};

/// Prints a result, as JSON or as text.
pub(crate) fn print(result: &(impl Serialize + Display), json: bool) -> Result<(), CommandError> {
    if json { print_json(result) } else { print_text(result) }
}

/// Prints a result as indented JSON.
pub(crate) fn print_json(result: &(impl Serialize + ?Sized)) -> Result<(), CommandError> {
    assay_telemetry::print_json(result).map_err(CommandError::Print)
}

/// Prints a result as text.
pub(crate) fn print_text(result: &(impl Display + ?Sized)) -> Result<(), CommandError> {
    let text = result.to_string();
    let mut out = std::io::stdout().lock();
    out.write_all(harmless(&text).as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Prints a result as JSON on one line.
pub(crate) fn print_json_line(result: &(impl Serialize + ?Sized)) -> Result<(), CommandError> {
    let json = serde_json::to_string(result).map_err(|error| CommandError::Print(error.into()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", escaped_json(&json)).and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Clears the screen of a terminal.
pub(crate) fn clear_screen() -> Result<(), CommandError> {
    // The cursor to the upper left, then everything behind it.
    let mut out = std::io::stdout().lock();
    out.write_all(b"\x1b[H\x1b[J").and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Whether the reader of stdout has stopped reading, which is no failure.
pub(crate) fn is_broken_pipe(error: &CommandError) -> bool {
    matches!(error, CommandError::Print(error) if error.kind() == ErrorKind::BrokenPipe)
}

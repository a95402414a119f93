//! Results on stdout: JSON for machines, tables for people. Logs go to stderr, and are not made here.
//!
//! Guarantee: no text from outside reaches a terminal unchanged. [`one_line`] masks card numbers and escapes control
//! characters.

mod audience;
#[cfg(test)]
mod pinned;
mod table;
mod text;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use crate::error::CommandError;

pub(crate) use self::audience::{Tone, find_audience, grouped, toned, with_separators};
#[cfg(test)]
pub(crate) use self::pinned::pin_json;
pub(crate) use assay_transaction::human_duration;

pub(crate) use self::table::{FieldList, Table};
pub(crate) use self::text::{
    counted, list_counts, masked_labels, moment, one_line, per_second, ranges, seconds_between, unmasked_line,
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
    let mut out = std::io::stdout().lock();
    write!(out, "{result}").and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Whether the reader of stdout has stopped reading, which is no failure.
pub(crate) fn is_broken_pipe(error: &CommandError) -> bool {
    matches!(error, CommandError::Print(error) if error.kind() == ErrorKind::BrokenPipe)
}

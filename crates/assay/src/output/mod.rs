//! What goes to stdout: results as JSON for machines, as tables for people. Logs go to stderr, and are not made here.
//!
//! Guarantee: no text of a source or of a message reaches a terminal as it is. [`one_line`] masks card numbers and takes
//! control characters out of it.

use std::fmt::{self, Display, Write as _};
use std::io::{ErrorKind, Write as _};

use assay_store::PredictionCount;
use assay_transaction::{Timestamp, is_unseen, mask_card_numbers};
use serde::Serialize;

use crate::error::CommandError;

/// Prints a result: as JSON, or as its `Display` shows it.
pub(crate) fn print(result: &(impl Serialize + Display), json: bool) -> Result<(), CommandError> {
    if json { print_json(result) } else { print_text(result) }
}

/// Prints a result as JSON of many lines.
pub(crate) fn print_json(result: &(impl Serialize + ?Sized)) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let printed = serde_json::to_writer_pretty(&mut out, result).map_err(Into::into).and_then(|()| writeln!(out));
    printed.map_err(CommandError::Print)
}

/// Prints a result for a person.
pub(crate) fn print_text(result: &(impl Display + ?Sized)) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    write!(out, "{result}").and_then(|()| out.flush()).map_err(CommandError::Print)
}

/// Whoever reads stdout may stop when it has enough: that is no failure.
pub(crate) fn is_broken_pipe(error: &CommandError) -> bool {
    matches!(error, CommandError::Print(error) if error.kind() == ErrorKind::BrokenPipe)
}

/// `1,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `1,000 rows`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// `2026-01-11 10:00:00`, in UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().chars().take(19).map(|character| if character == 'T' { ' ' } else { character }).collect()
}

/// `40 s`, `12 min 5 s`, `3 h 20 min`.
pub(crate) fn human_duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{} h {minutes} min", grouped(hours)),
    }
}

/// `7-9, 12`.
pub(crate) fn ranges(ranges: &[(u64, u64)]) -> String {
    let range = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// Whole seconds from one moment to another.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.as_datetime() - from.as_datetime()).num_seconds()).unwrap_or_default()
}

/// Text that came from outside, fit to be shown: card numbers masked, on one line, cut after so many characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    unmasked_line(&mask_card_numbers(text), limit)
}

/// The same of what no row holds, such as the version of a source: its digits are no card number, whatever they look like.
pub(crate) fn unmasked_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for (index, character) in text.chars().enumerate() {
        if index == limit {
            line.push('…');
            break;
        }
        match character {
            // A tab is a delimiter, and shows as such.
            '\t' => line.push('\t'),
            character if is_unseen(character) => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line
}

/// Labels, as they are shown: a model may repeat what it was asked for.
pub(crate) fn masked_labels(counts: Vec<PredictionCount>) -> Vec<PredictionCount> {
    let masked = |count: PredictionCount| PredictionCount {
        prediction: mask_card_numbers(&count.prediction).into_owned(),
        ..count
    };
    counts.into_iter().map(masked).collect()
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows under a header, in columns as wide as they have to be.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No rows yet.
    pub(crate) fn new<const N: usize>(columns: [(&'static str, Side); N]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or_default())
            .collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, width), (_, side)) in line.iter().zip(&widths).zip(&self.columns) {
                match side {
                    Side::Left => write!(text, "{cell:<width$}  ")?,
                    Side::Right => write!(text, "{cell:>width$}  ")?,
                }
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Names with their values, one a line, indented.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds a value.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds a value where there is one.
    pub(crate) fn add_some(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

impl Display for Fields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        for (name, value) in &self.0 {
            writeln!(out, "{}", format!("  {name:<width$}  {value}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (725, "12 min 5 s"), (12_000, "3 h 20 min")] {
            assert_eq!(human_duration(seconds), text);
        }
        assert_eq!(counted(1, "row", "rows") + ", " + &counted(1_000, "row", "rows"), "1 row, 1,000 rows");
        assert_eq!(ranges(&[(7, 9), (12, 12)]), "7-9, 12");
        let at = Timestamp::parse(b"2026-01-11T10:00:00.25Z", assay_transaction::TimeZone::UTC).unwrap();
        assert_eq!(moment(at), "2026-01-11 10:00:00");
    }

    #[test]
    fn text_from_outside_is_masked_and_cannot_steer_a_terminal() {
        assert_eq!(one_line("CB 4111111111111111\r\nEDF", 100), "CB 411111******1111\\r\\nEDF");
        assert_eq!(one_line("\u{1b}[2Ja\u{202e}b\tc", 100), "\\u{1b}[2Ja\\u{202e}b\tc");
        assert_eq!(one_line("Café crème", 4), "Café…");
        // Cut after it is masked: half a card number is not known for one.
        assert_eq!(one_line("4111111111111111", 15), "411111******111…");
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new([("class", Side::Left), ("count", Side::Right), ("reason", Side::Left)]);
        table.add(["rejected".to_owned(), grouped(12_345), "HTTP status 422".to_owned()]);
        table.add(["é".to_owned(), grouped(1), String::new()]);
        assert_eq!(
            table.to_string(),
            "class      count  reason\nrejected  12,345  HTTP status 422\né              1\n"
        );
    }
}

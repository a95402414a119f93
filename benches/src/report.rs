//! The results: sections, printed as they arrive, and the table at the end.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A line of the table at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figure {
    pub(crate) measurement: String,
    pub(crate) value: String,
    /// The baseline, measured in the same run.
    pub(crate) baseline: String,
    pub(crate) ratio: String,
    pub(crate) goal: String,
    /// None if this size has no goal.
    pub(crate) met: Option<bool>,
}

/// The results so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sections: Vec<String>,
    figures: Vec<Figure>,
}

impl Report {
    /// Prints a section, and keeps it.
    pub(crate) fn section(&mut self, title: &str, text: &str) {
        let section = format!("## {title}\n\n{}\n", text.trim_end());
        print(&section);
        self.sections.push(section);
    }

    /// Adds a line to the table at the end.
    pub(crate) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Prints the table, and writes everything to the output file, if any.
    pub(crate) fn conclude(self, output: Option<&Path>) -> std::io::Result<()> {
        let cells = |figure: Figure| {
            let met = figure.met.map_or("", |met| if met { "yes" } else { "no" });
            vec![figure.measurement, figure.value, figure.baseline, figure.ratio, figure.goal, met.to_owned()]
        };
        let header = ["measurement", "figure", "baseline of this run", "ratio", "goal", "met"];
        let figures = table(&header, self.figures.into_iter().map(cells).collect());
        print(&figures);
        let Some(path) = output else { return Ok(()) };
        std::fs::write(path, format!("{figures}\n{}", self.sections.join("\n")))
    }
}

/// Formats a table in Markdown.
pub(crate) fn table<const N: usize>(header: &[&str; N], rows: Vec<Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Returns rows per second.
#[expect(clippy::cast_precision_loss, reason = "rows of a file are few for a float")]
pub(crate) fn rate(rows: u64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}

/// Returns the seconds for a million rows.
pub(crate) fn of_a_million(rows: u64, time: Duration) -> f64 {
    1e6 / rate(rows, time)
}

/// Formats a whole number with commas between thousands.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a count with commas between thousands.
#[expect(clippy::cast_precision_loss, reason = "rows of a file are few for a float")]
pub(crate) fn count(number: u64) -> String {
    thousands(number as f64)
}

/// Converts KiB to MB.
#[expect(clippy::cast_precision_loss, reason = "memory in KiB is little for a float")]
pub(crate) fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// Returns the median.
pub(crate) fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).expect("times and rates are comparable"));
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "figures are what the program is for")]
fn print(text: &str) {
    println!("{text}");
}

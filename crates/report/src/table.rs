//! Tables and lists of named values for people.

use std::fmt::{self, Display, Write as _};

use crate::{Tone, toned};

/// Rows under a header, in aligned columns.
#[derive(Debug)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. A column whose name begins with `>` is aligned to the right.
    pub fn new<const N: usize>(columns: [&'static str; N]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<String> = self.columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or_default())
            .collect();
        for (index, line) in lines().enumerate() {
            let mut text = String::new();
            for ((cell, width), column) in line.iter().zip(&widths).zip(&self.columns) {
                if column.starts_with('>') {
                    write!(text, "{cell:>width$}  ")?;
                } else {
                    write!(text, "{cell:<width$}  ")?;
                }
            }
            let text = text.trim_end();
            writeln!(out, "{}", if index == 0 { toned(Tone::Head, text) } else { text.into() })?;
        }
        Ok(())
    }
}

/// Named values, one a line, indented.
#[derive(Debug, Default)]
pub struct FieldList(Vec<(String, String)>);

impl FieldList {
    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// The names and values, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a value, if present.
    pub fn add_some(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

impl Display for FieldList {
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
    use crate::grouped;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(["class", ">count", "reason"]);
        table.add(["rejected".to_owned(), grouped(12_345), "HTTP status 422".to_owned()]);
        table.add(["é".to_owned(), grouped(1), String::new()]);
        assert_eq!(
            table.to_string(),
            "class      count  reason\nrejected  12,345  HTTP status 422\né              1\n"
        );
    }
}

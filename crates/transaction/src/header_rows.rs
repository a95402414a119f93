//! Headers between the rows of a source: files that were put behind each other have one in front of each.
//!
//! The same header once more costs itself and nothing else. Another one says that the rows behind it have other columns: to read
//! them by the first would put values under wrong names. Only rows that broke a rule are looked at, so that good ones cost nothing:
//! no row of names passes as a transaction.

use crate::columns::{Fields, listed};
use crate::names::name_key;
use crate::{Columns, Encoding, Format, ReadingRules, RunSettings};

/// A row that is a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRow {
    /// The one of the source, once more.
    Same,
    /// Another one; how it differs, for a person.
    Other(String),
}

/// Finds the rows of a source that are headers.
#[derive(Debug, Clone)]
pub struct HeaderRows<'a> {
    settings: &'a RunSettings,
    encoding: Encoding,
    /// The names of the source's columns, as they are compared; those at the end that are empty are not among them.
    names: Vec<String>,
    /// One that every header must have: most rows have no such field, and need not be looked at any further.
    needed: String,
}

impl<'a> HeaderRows<'a> {
    /// For a run whose header is resolved; none where its source has no header line, or where the rules it is read by know of none
    /// but the first.
    pub fn of_run(settings: &'a RunSettings, columns: &Columns) -> Option<Self> {
        if settings.format != Format::Csv || settings.reading < ReadingRules::Second {
            return None;
        }
        let is_needed = |index: &usize| columns.fields_of(*index).iter().any(|field| *field != "merchant");
        let needed = name_key(columns.names().get((0..columns.count()).find(is_needed)?)?);
        let names = keys(columns.names());
        Some(Self { settings, encoding: settings.encoding_of_rows(), names, needed })
    }

    /// Whether a row that broke a rule is a header.
    pub fn find(&self, fields: &(impl Fields + ?Sized)) -> Option<HeaderRow> {
        let texts = || (0..fields.count()).map(|index| self.encoding.decode(fields.get(index).unwrap_or_default()));
        // Names of one plain word can be compared as they are.
        let is_plain = self.needed.bytes().all(|byte| byte.is_ascii_graphic());
        let is_needed =
            |text: &str| text.trim().eq_ignore_ascii_case(&self.needed) || !is_plain && name_key(text) == self.needed;
        if !texts().flatten().any(|text| is_needed(&text)) {
            return None;
        }
        let names: Vec<String> = texts().map(|text| text.map(|text| text.trim().to_owned())).collect::<Option<_>>()?;
        let found = keys(&names);
        if found == self.names {
            return Some(HeaderRow::Same);
        }
        Columns::from_names(names, self.settings.mapping.as_deref()).ok()?;
        Some(HeaderRow::Other(self.difference(&found)))
    }

    fn difference(&self, found: &[String]) -> String {
        let missing: Vec<String> = self.names.iter().filter(|name| !found.contains(name)).cloned().collect();
        let more: Vec<String> = found.iter().filter(|name| !self.names.contains(name)).cloned().collect();
        let said = [("lacks", missing), ("has", more)]
            .map(|(verb, names)| if names.is_empty() { String::new() } else { format!("{verb} {}", listed(&names)) });
        match said {
            [lacks, has] if !lacks.is_empty() && !has.is_empty() => format!("it {lacks}, and {has} instead"),
            [lacks, has] if !(lacks.is_empty() && has.is_empty()) => format!("it {lacks}{has}"),
            _ => match self.names.iter().zip(found).position(|(name, found)| name != found) {
                Some(at) => {
                    let [was, is] = [&self.names[at], &found[at]].map(|name| listed(std::slice::from_ref(name)));
                    format!("its order is another one: {is} stands where {was} was, as field {}", at + 1)
                }
                None => "it has a name twice".to_owned(),
            },
        }
    }
}

/// Names as they are compared, but for those at the end that are empty.
fn keys(names: &[String]) -> Vec<String> {
    let count = names.iter().rposition(|name| !name.trim().is_empty()).map_or(0, |last| last + 1);
    names[..count].iter().map(|name| name_key(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "ID;Description;amount;timestamp;merchant;operation_type;side";

    fn find(header: &str, settings: &RunSettings, row: &str) -> Option<HeaderRow> {
        let names = header.split(';').map(str::to_owned).collect();
        let columns = Columns::from_names(names, settings.mapping.as_deref()).unwrap();
        let fields: Vec<&[u8]> = row.split(';').map(str::as_bytes).collect();
        HeaderRows::of_run(settings, &columns)?.find(&fields[..])
    }

    #[test]
    fn a_header_is_told_from_rows() {
        let other = |text: &str| Some(HeaderRow::Other(text.to_owned()));
        let cases = [
            (HEADER, Some(HeaderRow::Same)),
            (" id ;description;Amount;TIMESTAMP;merchant;operation_type;side;;", Some(HeaderRow::Same)),
            (
                "id;merchant;amount;timestamp;description;side;operation_type",
                other("its order is another one: `merchant` stands where `description` was, as field 2"),
            ),
            ("id;description;amount;timestamp;operation_type;side", other("it lacks `merchant`")),
            ("id;description;amount;timestamp;merchant;operation_type;side;country", other("it has `country`")),
            (
                "id;description;amount;timestamp;shop;operation_type;side",
                other("it lacks `merchant`, and has `shop` instead"),
            ),
            // No header, as a name is missing that is needed; or a row that speaks of one.
            ("id;description;amount;merchant;operation_type;side", None),
            ("7;id;1.50;2024-01-01 10:00:00;M;card;debit", None),
            ("7;Shop;x;2024-01-01 10:00:00;M;card;debit", None),
            ("", None),
        ];
        for (row, expected) in cases {
            assert_eq!(find(HEADER, &RunSettings::example(), row), expected, "{row}");
        }
    }

    #[test]
    fn a_mapping_says_which_names_are_needed() {
        let mapping = r#"{"id":"Réf","description":"memo","amount":"amt","timestamp":"when","operation_type":{"constant":"x"},"side":{"constant":"debit"}}"#;
        let settings = RunSettings { mapping: Some(serde_json::from_str(mapping).unwrap()), ..RunSettings::example() };
        let header = "Réf;memo;amt;when";
        assert_eq!(find(header, &settings, "RéF;memo;amt;when"), Some(HeaderRow::Same));
        assert!(matches!(find(header, &settings, "memo;Réf;amt;when"), Some(HeaderRow::Other(_))));
        assert_eq!(find(header, &settings, "Réf;memo;when"), None);
        // More blanks between the words of a name tell no other column.
        let settings = RunSettings {
            mapping: Some(serde_json::from_str(&mapping.replace("Réf", "Booking  ref")).unwrap()),
            ..RunSettings::example()
        };
        let header = "Booking ref;memo;amt;when";
        assert_eq!(find(header, &settings, "booking   REF;memo;amt;when"), Some(HeaderRow::Same));
    }

    #[test]
    fn who_began_under_the_first_rules_is_read_by_them() {
        let settings = RunSettings { reading: ReadingRules::First, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
        let settings = RunSettings { format: Format::JsonLines, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
    }
}

//! Finds headers between the rows of a source: concatenated files have one in front of each.
//!
//! A repeated header costs only itself. A different one means that the rows after it have other columns, and reading
//! them by the first would put values under wrong names. Only rows that broke a rule are checked, so that valid rows
//! cost nothing: no row of names passes as a transaction.

use std::collections::BTreeSet;

use crate::schema::columns::{FieldAccess, LONGEST_NAME, listed};
use crate::schema::names::name_key;
use crate::value::text::trimmed;
use crate::{Columns, Encoding, Format, Mapping, ReadingRules, RunSettings};

/// A row that is a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRow {
    /// The source's header again.
    Same,
    /// A different header; how it differs, for a person.
    Other(String),
}

/// Finds header rows.
#[derive(Debug, Clone)]
pub struct HeaderRowFinder<'a> {
    mapping: Option<&'a Mapping>,
    encoding: Encoding,
    /// The comparison keys of the source's columns, without empty names at the end.
    names: Vec<String>,
    /// The same as a set, without empty names.
    known: BTreeSet<String>,
    /// The names a transaction needs.
    needed: BTreeSet<String>,
}

impl<'a> HeaderRowFinder<'a> {
    /// For a run whose header is resolved; none if the source has no header line, or is read by rules that expect only one.
    pub fn of_run(settings: &'a RunSettings, columns: &Columns) -> Option<Self> {
        if settings.format != Format::Csv || settings.reading < ReadingRules::Second {
            return None;
        }
        Self::new(columns, settings.mapping.as_deref(), settings.encoding_of_rows())
    }

    /// For a CSV header; none if the mapping names all columns by position, as its header may then be anything, including values.
    pub fn new(columns: &Columns, mapping: Option<&'a Mapping>, encoding: Encoding) -> Option<Self> {
        let names = keys(columns.names());
        let known: BTreeSet<String> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
        if mapping.is_some_and(|mapping| !mapping.columns().into_iter().any(|name| known.contains(&name_key(name)))) {
            return None;
        }
        let is_needed = |index: &usize| columns.fields_of(*index).iter().any(|field| *field != "merchant");
        let needed = (0..names.len()).filter(is_needed).map(|index| names[index].clone());
        let needed = needed.filter(|name| !name.is_empty()).collect();
        Some(Self { mapping, encoding, names, known, needed })
    }

    /// Whether a rejected row is a header: the source's own, one with all needed names, or one that shares most of its names.
    pub fn find(&self, fields: &(impl FieldAccess + ?Sized)) -> Option<HeaderRow> {
        let text = |index: usize| self.encoding.decode(fields.get(index).unwrap_or_default());
        let mut shared = BTreeSet::new();
        for text in (0..fields.count()).filter_map(text).filter(|text| text.len() <= LONGEST_NAME) {
            if let Some(name) = self.known.get(&name_key(&text)) {
                shared.insert(name.as_str());
            }
        }
        // Most rows end here: values are not names.
        if shared.is_empty() {
            return None;
        }
        let names: Vec<String> =
            (0..fields.count()).map(|index| trimmed(&text(index).unwrap_or_default()).to_owned()).collect();
        let found = keys(&names);
        if found == self.names {
            return Some(HeaderRow::Same);
        }
        let needed = self.needed.iter().filter(|name| shared.contains(name.as_str())).count();
        let (has_several, is_complete) = (shared.len() > 1, needed > 0 && needed == self.needed.len());
        let has_most = has_several && (shared.len() * 2 >= self.known.len() || needed * 2 > self.needed.len());
        // A single name may be a value.
        let is_complete =
            is_complete && (has_several || self.known.len() == 1) && Columns::from_names(names, self.mapping).is_ok();
        (has_most || is_complete).then(|| HeaderRow::Other(self.difference(&found)))
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
                    format!("its order differs: {is} in place of {was}, as field {}", at + 1)
                }
                None => "it repeats a name".to_owned(),
            },
        }
    }
}

/// The comparison keys of names, without empty ones at the end.
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
        HeaderRowFinder::of_run(settings, &columns)?.find(&fields[..])
    }

    #[test]
    fn headers_are_distinguished_from_rows() {
        let other = |text: &str| Some(HeaderRow::Other(text.to_owned()));
        let cases = [
            (HEADER, Some(HeaderRow::Same)),
            (" id ;description;Amount;TIMESTAMP;merchant;operation_type;side;;", Some(HeaderRow::Same)),
            (
                "id;merchant;amount;timestamp;description;side;operation_type",
                other("its order differs: `merchant` in place of `description`, as field 2"),
            ),
            ("id;description;amount;timestamp;operation_type;side", other("it lacks `merchant`")),
            ("id;description;amount;timestamp;merchant;operation_type;side;country", other("it has `country`")),
            (
                "id;description;amount;timestamp;shop;operation_type;side",
                other("it lacks `merchant`, and has `shop` instead"),
            ),
            // Rows after a header without a name would be read under the names of the first.
            ("id;description;amount;merchant;operation_type;side", other("it lacks `timestamp`")),
            (
                "id;description;fee;timestamp;merchant;operation_type;side",
                other("it lacks `amount`, and has `fee` instead"),
            ),
            (
                "txn;merchant;amount;timestamp;description;operation_type;side",
                other("it lacks `id`, and has `txn` instead"),
            ),
            (
                "\u{feff}id;merchant;amount;timestamp;description;operation_type;side",
                other("its order differs: `merchant` in place of `description`, as field 2"),
            ),
            ("\u{feff}id;description;amount;timestamp;merchant;operation_type;side", Some(HeaderRow::Same)),
            // A row that mentions names.
            ("7;amount;x;2024-01-01 10:00:00;side;card;debit", None),
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
        assert_eq!(find(header, &settings, "Réf;memo;when"), Some(HeaderRow::Other("it lacks `amt`".to_owned())));
        assert_eq!(find(header, &settings, "Réf;memo"), Some(HeaderRow::Other("it lacks `amt`, `when`".to_owned())));
        assert_eq!(find(header, &settings, "memo;1;2;3"), None);
        // Repeated blanks between words do not matter.
        let settings = RunSettings {
            mapping: Some(serde_json::from_str(&mapping.replace("Réf", "Booking  ref")).unwrap()),
            ..RunSettings::example()
        };
        let header = "Booking ref;memo;amt;when";
        assert_eq!(find(header, &settings, "booking   REF;memo;amt;when"), Some(HeaderRow::Same));
    }

    #[test]
    fn columns_by_position_are_not_names() {
        let mapping = r#"{"id":"column_1","description":"column_2","amount":"column_3","timestamp":"column_4","operation_type":{"constant":"x"},"side":{"constant":"debit"}}"#;
        let settings = RunSettings { mapping: Some(serde_json::from_str(mapping).unwrap()), ..RunSettings::example() };
        assert_eq!(find("a;b;c;d", &settings, "1;b;x;2024"), None);
        assert_eq!(find("1;b;2.50;2024", &settings, "2;b;x;2024"), None);
        assert_eq!(find("a;b;c;d", &settings, "b;a;c;d"), None);
    }

    #[test]
    fn a_run_of_the_first_rules_has_one_header() {
        let settings = RunSettings { reading: ReadingRules::First, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
        let settings = RunSettings { format: Format::JsonLines, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
    }
}

//! Headers between the rows of a source: files that were put behind each other have one in front of each.
//!
//! The same header once more costs itself and nothing else. Another one says that the rows behind it have other columns: to read
//! them by the first would put values under wrong names. Only rows that broke a rule are looked at, so that good ones cost nothing:
//! no row of names passes as a transaction.

use std::collections::BTreeSet;

use crate::schema::columns::{Fields, listed};
use crate::schema::names::name_key;
use crate::value::text::trimmed;
use crate::{Columns, Encoding, Format, Mapping, ReadingRules, RunSettings};

/// The longest text that may be a name, in bytes.
const LONGEST_NAME: usize = 1_024;

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
    mapping: Option<&'a Mapping>,
    encoding: Encoding,
    /// The names of the source's columns, as they are compared; those at the end that are empty are not among them.
    names: Vec<String>,
    /// The same in order, without those that are empty.
    known: BTreeSet<String>,
    /// Those that a transaction is made of.
    needed: BTreeSet<String>,
}

impl<'a> HeaderRows<'a> {
    /// For a run whose header is resolved; none where its source has no header line, or where the rules it is read by know of none
    /// but the first.
    pub fn of_run(settings: &'a RunSettings, columns: &Columns) -> Option<Self> {
        if settings.format != Format::Csv || settings.reading < ReadingRules::Second {
            return None;
        }
        Self::new(columns, settings.mapping.as_deref(), settings.encoding_of_rows())
    }

    /// For a header of CSV; none where a mapping names all columns by their places, as its names may be anything then, values too.
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

    /// Whether a row that broke a rule is a header: that of the source, one that has all which is needed too, or one that shares most
    /// of its names with it.
    pub fn find(&self, fields: &(impl Fields + ?Sized)) -> Option<HeaderRow> {
        let text = |index: usize| self.encoding.decode(fields.get(index).unwrap_or_default());
        let mut shared = BTreeSet::new();
        for text in (0..fields.count()).filter_map(text).filter(|text| text.len() <= LONGEST_NAME) {
            if let Some(name) = self.known.get(&name_key(&text)) {
                shared.insert(name.as_str());
            }
        }
        // Most rows end here: a value is no name.
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
        // One name may well be a value.
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
            // What is behind a header that lacks a name would be read under the names of the first one.
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
                other("its order is another one: `merchant` stands where `description` was, as field 2"),
            ),
            ("\u{feff}id;description;amount;timestamp;merchant;operation_type;side", Some(HeaderRow::Same)),
            // A row that speaks of names.
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
        // More blanks between the words of a name tell no other column.
        let settings = RunSettings {
            mapping: Some(serde_json::from_str(&mapping.replace("Réf", "Booking  ref")).unwrap()),
            ..RunSettings::example()
        };
        let header = "Booking ref;memo;amt;when";
        assert_eq!(find(header, &settings, "booking   REF;memo;amt;when"), Some(HeaderRow::Same));
    }

    #[test]
    fn columns_by_their_places_are_no_names() {
        let mapping = r#"{"id":"column_1","description":"column_2","amount":"column_3","timestamp":"column_4","operation_type":{"constant":"x"},"side":{"constant":"debit"}}"#;
        let settings = RunSettings { mapping: Some(serde_json::from_str(mapping).unwrap()), ..RunSettings::example() };
        assert_eq!(find("a;b;c;d", &settings, "1;b;x;2024"), None);
        assert_eq!(find("1;b;2.50;2024", &settings, "2;b;x;2024"), None);
        assert_eq!(find("a;b;c;d", &settings, "b;a;c;d"), None);
    }

    #[test]
    fn who_began_under_the_first_rules_is_read_by_them() {
        let settings = RunSettings { reading: ReadingRules::First, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
        let settings = RunSettings { format: Format::JsonLines, ..RunSettings::example() };
        assert_eq!(find(HEADER, &settings, HEADER), None);
    }
}

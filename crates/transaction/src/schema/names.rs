//! Header names: how they are compared, and which column each refers to.
//!
//! One rule for all formats and everything that names a column: headers, mappings, JSON keys, kept and dropped columns.

use std::collections::{BTreeSet, HashMap};

use crate::value::text::trimmed;

/// The comparison key of a name: it ignores case, invisible characters and white space around it, and the amount of
/// white space between words.
pub fn name_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    for word in trimmed(name).split_whitespace() {
        if !key.is_empty() {
            key.push(' ');
        }
        key.extend(word.chars().flat_map(char::to_lowercase));
    }
    key
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnMatch {
    One(usize),
    Missing,
    /// Several columns with that name.
    Several(Vec<usize>),
}

#[derive(Debug)]
pub(crate) struct HeaderNames<'a> {
    names: &'a [String],
    by_key: HashMap<String, Vec<usize>>,
}

impl<'a> HeaderNames<'a> {
    pub(crate) fn new(names: &'a [String]) -> Self {
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            by_key.entry(name_key(name)).or_default().push(index);
        }
        Self { names, by_key }
    }

    /// The column of a name. `column_9` is the ninth one, whatever its name, unless another column is called that.
    pub(crate) fn find(&self, name: &str) -> ColumnMatch {
        match &self.all(name)[..] {
            [] => self.by_position(name).map_or(ColumnMatch::Missing, ColumnMatch::One),
            [index] => ColumnMatch::One(*index),
            several => ColumnMatch::Several(several.to_vec()),
        }
    }

    /// Every column of a name. If their names differ in ways this key ignores but the one of the first rules did not,
    /// the exact match is meant.
    pub(crate) fn all(&self, name: &str) -> Vec<usize> {
        let found = self.by_key.get(&name_key(name)).map_or(&[][..], Vec::as_slice);
        let before = |index: &usize| self.names[*index].trim().eq_ignore_ascii_case(name.trim());
        match found {
            [_, _, ..] if found.iter().filter(|index| before(index)).count() == 1 => {
                found.iter().copied().filter(before).collect()
            }
            found => found.to_vec(),
        }
    }

    fn by_position(&self, name: &str) -> Option<usize> {
        let number: usize = name_key(name).strip_prefix("column_")?.parse().ok()?;
        number.checked_sub(1).filter(|index| *index < self.names.len())
    }

    /// The attribute name of each column: its name, with its position if an earlier one has that name, and its position
    /// alone if it has none.
    pub(crate) fn titles(&self) -> Vec<String> {
        let mut taken = BTreeSet::new();
        let mut titles = Vec::with_capacity(self.names.len());
        for (index, name) in self.names.iter().enumerate() {
            let is_own = !name.is_empty() && !taken.contains(name.as_str());
            let mut title = match name.as_str() {
                own if is_own => own.to_owned(),
                "" => format!("column_{}", index + 1),
                again => format!("{again}_{}", index + 1),
            };
            while !is_own && (taken.contains(&title) || self.by_key.contains_key(&name_key(&title))) {
                title.push('_');
            }
            taken.insert(title.clone());
            titles.push(title);
        }
        titles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> Vec<String> {
        header.split(';').map(str::to_owned).collect()
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        for (one, other) in [
            ("Amount", " AMOUNT "),
            ("Währung", "WÄHRUNG"),
            ("Débit", "DÉBIT"),
            ("Montant (EUR)", "montant\u{a0}(eur)"),
            ("Paid out", "Paid\r\nout"),
            ("\u{202f}a \t b", "A B"),
            ("\u{feff}Date", "date"),
        ] {
            assert_eq!(name_key(one), name_key(other), "{one:?} {other:?}");
        }
        for (one, other) in [("Amount", "Amounts"), ("Débit", "Debit"), ("ab", "a b"), ("a_b", "a b")] {
            assert_ne!(name_key(one), name_key(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn names_and_positions_lead_to_columns() {
        let header = names("id;Währung;;Column_1;währung;É;é;Id2;id2");
        let names = HeaderNames::new(&header);
        for (name, expected) in [
            ("ID", ColumnMatch::One(0)),
            ("WÄHRUNG", ColumnMatch::Several(vec![1, 4])),
            ("column_3", ColumnMatch::One(2)),
            ("column_5", ColumnMatch::One(4)),
            ("column_1", ColumnMatch::One(3)),
            ("column_9", ColumnMatch::One(8)),
            ("column_10", ColumnMatch::Missing),
            ("column_0", ColumnMatch::Missing),
            ("column_x", ColumnMatch::Missing),
            ("", ColumnMatch::Missing),
            ("é", ColumnMatch::One(6)),
            ("É", ColumnMatch::One(5)),
            ("ID2", ColumnMatch::Several(vec![7, 8])),
        ] {
            assert_eq!(names.find(name), expected, "{name}");
        }
    }

    #[test]
    fn every_column_has_a_unique_title() {
        for (header, expected) in [
            ("a;b;c", "a;b;c"),
            ("a;;A", "a;column_2;A"),
            ("a;;Column_2", "a;column_2_;Column_2"),
            ("Währung;b;Währung", "Währung;b;Währung_3"),
            ("a;a_3;a;a", "a;a_3;a_3_;a_4"),
            ("a;a_2;x;a;a_4", "a;a_2;x;a_4_;a_4"),
            (";;", "column_1;column_2;column_3"),
        ] {
            assert_eq!(HeaderNames::new(&names(header)).titles().join(";"), expected, "{header}");
        }
    }
}

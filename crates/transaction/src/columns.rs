//! Which column of a source is which field of a transaction: by header name, in any order.

use std::collections::HashMap;

use crate::Dialect;

/// Columns that a source must have.
pub const REQUIRED_COLUMNS: [&str; 6] = ["id", "description", "amount", "timestamp", "operation_type", "side"];
/// Columns of a transaction that a source may leave out.
pub const OPTIONAL_COLUMNS: [&str; 1] = ["merchant"];

/// The fields of one row, wherever a decoder keeps them.
pub trait Fields {
    /// How many fields the row has.
    fn count(&self) -> usize;
    /// The bytes of one field, unquoted.
    fn get(&self, index: usize) -> Option<&[u8]>;
    /// Fields that the header does not name, by their own names: what a row of JSON may have more than those before it.
    fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}

impl Fields for [&[u8]] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        <[&[u8]]>::get(self, index).copied()
    }
}

/// Why a header is not one of a source of transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required column is not there.
    #[error("missing required column{} {}; the header has {}", if missing.len() == 1 { "" } else { "s" }, quoted(missing), quoted(found))]
    Missing {
        /// What is not there.
        missing: Vec<String>,
        /// What the header has.
        found: Vec<String>,
    },
    /// A column is there twice, so that its value would be ambiguous.
    #[error("column {} stands twice in the header", quoted_name(.0))]
    Twice(String),
    /// A name that is not text.
    #[error("column {0} of the header is not valid text in the source's encoding")]
    NotText(usize),
}

/// Most names that an error shows, and most characters of one: what is taken for a header may be anything.
const MAX_NAMES: usize = 20;
const MAX_SHOWN: usize = 40;

fn quoted(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| quoted_name(name)).collect();
    match names.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// The start of a name, in one line.
fn quoted_name(name: &str) -> String {
    let mut shown = String::new();
    for character in name.chars() {
        if shown.chars().count() >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    format!("`{shown}`")
}

/// Where each field of a transaction stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pub(crate) id: usize,
    pub(crate) description: usize,
    pub(crate) amount: usize,
    pub(crate) timestamp: usize,
    pub(crate) merchant: Option<usize>,
    pub(crate) operation_type: usize,
    pub(crate) side: usize,
    pub(crate) attributes: Vec<(usize, String)>,
    names: Vec<String>,
}

impl Columns {
    /// Reads a header row. Names match without regard to case and surrounding blanks.
    pub fn from_header(header: &(impl Fields + ?Sized), dialect: Dialect) -> Result<Self, HeaderError> {
        let names = (0..header.count())
            .map(|index| {
                let bytes = header.get(index).unwrap_or_default();
                let text = dialect.encoding.decode(bytes).ok_or(HeaderError::NotText(index + 1))?;
                Ok(text.trim().to_owned())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_names(names)
    }

    /// The same from names, such as those frozen with a run.
    pub fn from_names(names: Vec<String>) -> Result<Self, HeaderError> {
        let mut places = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if places.insert(name.to_ascii_lowercase(), index).is_some() {
                return Err(HeaderError::Twice(name.clone()));
            }
        }
        let find = |wanted: &str| places.get(wanted).copied();
        let missing: Vec<_> =
            REQUIRED_COLUMNS.iter().filter(|name| find(name).is_none()).map(ToString::to_string).collect();
        let [Some(id), Some(description), Some(amount), Some(timestamp), Some(operation_type), Some(side)] =
            REQUIRED_COLUMNS.map(find)
        else {
            return Err(HeaderError::Missing { missing, found: names });
        };
        let is_ours =
            |name: &str| REQUIRED_COLUMNS.iter().chain(&OPTIONAL_COLUMNS).any(|ours| ours.eq_ignore_ascii_case(name));
        let attributes = names
            .iter()
            .enumerate()
            .filter(|(_, name)| !is_ours(name))
            .map(|(index, name)| (index, if name.is_empty() { format!("column_{}", index + 1) } else { name.clone() }))
            .collect();
        let merchant = find(OPTIONAL_COLUMNS[0]);
        Ok(Self { id, description, amount, timestamp, merchant, operation_type, side, attributes, names })
    }

    /// The header's names, to freeze with a run.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the amount stands, for the sniffing of its decimal mark.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Where the timestamp stands, for the recognition of its pattern.
    pub fn timestamp(&self) -> usize {
        self.timestamp
    }

    /// How many fields every row must have.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> Vec<String> {
        header.split(';').map(str::to_owned).collect()
    }

    #[test]
    fn any_order_any_case_and_the_rest_are_attributes() {
        let columns =
            Columns::from_names(names("Side;AMOUNT;country;id;timestamp;operation_type;description;")).unwrap();
        assert_eq!((columns.side, columns.amount, columns.id, columns.merchant), (0, 1, 3, None));
        assert_eq!(columns.attributes, [(2, "country".to_owned()), (7, "column_8".to_owned())]);
    }

    #[test]
    fn what_is_missing_is_named_with_what_is_there() {
        let error = Columns::from_names(names("id;amount;timestamp;operation_type")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing required columns `description`, `side`; the header has `id`, `amount`, `timestamp`, `operation_type`"
        );
    }

    #[test]
    fn an_error_is_one_short_line_whatever_the_header_is() {
        let many = (0..50_000).map(|name| format!("{name}\n{}", "\u{1b}x".repeat(1000))).collect();
        let error = Columns::from_names(many).unwrap_err().to_string();
        assert!(error.len() < 1_500 && error.ends_with(" and 49980 more"), "{error}");
        let long = "\u{1b}[31m\r\n".repeat(1000);
        let twice = Columns::from_names(vec![long.clone(), long]).unwrap_err().to_string();
        assert!(twice.len() < 400, "{twice}");
        assert!(!error.contains(char::is_control) && !twice.contains(char::is_control));
    }

    #[test]
    fn a_column_twice_is_ambiguous() {
        let error =
            Columns::from_names(names("id;amount;Amount;timestamp;operation_type;description;side")).unwrap_err();
        assert_eq!(error, HeaderError::Twice("Amount".into()));
    }
}

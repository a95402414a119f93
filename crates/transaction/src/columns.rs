//! Which column of a source is which field of a transaction: by header name, in any order, or as a mapping says.

use std::collections::{BTreeSet, HashMap};

use crate::derivation::{AmountField, Derivation, Field, Places, Row, TimestampField, key};
use crate::mapping::EVERY_OTHER;
use crate::text::{Decoding, quoted};
use crate::{Dialect, Encoding, Mapping};

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
    /// Whether a field is a number by the grammar of its source, as in JSON or Parquet, and no text that may be one: its decimal mark
    /// is a point, whatever that of texts is.
    fn is_number(&self, _index: usize) -> bool {
        false
    }
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
    #[error("missing required column{} {}; the header has {}", if missing.len() == 1 { "" } else { "s" }, listed(missing), listed(found))]
    Missing {
        /// What is not there.
        missing: Vec<String>,
        /// What the header has.
        found: Vec<String>,
    },
    /// A column is there twice, so that its value would be ambiguous.
    #[error("column {} stands twice in the header", quoted(.0))]
    Twice(String),
    /// A column that the mapping names is not there.
    #[error("{}; the header has {}", unmapped(wanted), listed(found))]
    Unmapped {
        /// What the mapping makes, each with the column that is not there.
        wanted: Vec<(String, String)>,
        /// What the header has.
        found: Vec<String>,
    },
    /// Two columns would become one attribute.
    #[error("two columns become the attribute {}: rename or drop one of them in the mapping's [attributes]", quoted(.0))]
    AttributeTwice(String),
    /// A name that is not text.
    #[error("column {0} of the header is not valid text in the source's encoding")]
    NotText(usize),
}

/// Most names that an error shows: what is taken for a header may be anything.
const MAX_NAMES: usize = 20;

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| quoted(name)).collect();
    match names.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// Which columns a mapping names in vain.
fn unmapped(wanted: &[(String, String)]) -> String {
    let one = |(field, column): &(String, String)| format!("{} for `{field}`", quoted(column));
    let shown: Vec<String> = wanted.iter().take(MAX_NAMES).map(one).collect();
    let column = if wanted.len() == 1 { "a column" } else { "columns" };
    format!("the mapping names {column} that the header lacks: {}", shown.join(", "))
}

/// Where each field of a transaction stands in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pub(crate) id: Field,
    pub(crate) description: Field,
    pub(crate) amount: AmountField,
    pub(crate) timestamp: TimestampField,
    pub(crate) merchant: Option<Field>,
    pub(crate) operation_type: Field,
    pub(crate) side: Field,
    pub(crate) attributes: Vec<(usize, String)>,
    /// What is not kept of the values whose names the header lacks; nothing is where this is none.
    dropped: Option<BTreeSet<String>>,
    names: Vec<String>,
}

impl Columns {
    /// Reads a header row. Names match without regard to case and surrounding blanks.
    pub fn from_header(
        header: &(impl Fields + ?Sized),
        dialect: Dialect,
        mapping: Option<&Mapping>,
    ) -> Result<Self, HeaderError> {
        let names = (0..header.count())
            .map(|index| {
                let bytes = header.get(index).unwrap_or_default();
                let text = dialect.encoding.decode(bytes).ok_or(HeaderError::NotText(index + 1))?;
                Ok(text.trim().to_owned())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_names(names, mapping)
    }

    /// The same from names, such as those frozen with a run.
    pub fn from_names(names: Vec<String>, mapping: Option<&Mapping>) -> Result<Self, HeaderError> {
        let unmapped = Mapping::default();
        let mapping = mapping.unwrap_or(&unmapped);
        let (titles, by_name) = name_all(&names)?;
        let mut places = Places::new(&by_name, names.len());
        let [id, description] = [("id", &mapping.id), ("description", &mapping.description)]
            .map(|(name, from)| places.field(name, from.as_ref()));
        let (amount, timestamp) = (places.amount(mapping), places.timestamp(mapping));
        let [operation_type, side] = [("operation_type", &mapping.operation_type), ("side", &mapping.side)]
            .map(|(name, from)| places.field(name, from.as_ref()));
        let merchant = OPTIONAL_COLUMNS[0];
        let merchant = (mapping.merchant.is_some() || places.has(merchant))
            .then(|| places.field(merchant, mapping.merchant.as_ref()));
        let attributes = attributes(&mut places, mapping, &titles);
        if !places.unknown.is_empty() {
            return Err(lacking(places.unknown, names));
        }
        let mut known = BTreeSet::new();
        if let Some((_, name)) = attributes.iter().find(|(_, name)| !known.insert(name)) {
            return Err(HeaderError::AttributeTwice(name.clone()));
        }
        let keeps_others = mapping.attributes.keep.iter().any(|column| column == EVERY_OTHER);
        let dropped = keeps_others.then(|| mapping.attributes.drop.iter().map(|column| key(column)).collect());
        Ok(Self { id, description, amount, timestamp, merchant, operation_type, side, attributes, dropped, names })
    }

    /// The header's names, to freeze with a run.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the amount stands, for the sniffing of its decimal mark; none where it is not one column.
    pub fn amount(&self) -> Option<usize> {
        match self.amount.field.from {
            Derivation::Column(index) => Some(index),
            _ => None,
        }
    }

    /// What a row has for the date and time, for the recognition of its pattern; none where it is a count.
    pub fn date(&self, number: u64, fields: &(impl Fields + ?Sized), encoding: Encoding) -> Option<String> {
        let TimestampField { field, clock: None } = &self.timestamp else { return None };
        let decoding = Decoding::of(encoding);
        Some(Row { number, fields, decoding }.derive(field).ok()?.into_owned())
    }

    /// The fields of a transaction that are made of a column.
    pub fn fields_of(&self, index: usize) -> Vec<&'static str> {
        let merchant = self.merchant.as_ref().is_some_and(|field| field.uses(index));
        let uses = [
            ("id", self.id.uses(index)),
            ("description", self.description.uses(index)),
            ("amount", self.amount.uses(index)),
            ("timestamp", self.timestamp.field.uses(index)),
            ("merchant", merchant),
            ("operation_type", self.operation_type.uses(index)),
            ("side", self.side.uses(index)),
        ];
        uses.into_iter().filter_map(|(name, uses)| uses.then_some(name)).collect()
    }

    /// How many bytes each transaction's JSON has for its attributes, where all of them are empty.
    pub fn attribute_bytes(&self) -> usize {
        let quoted = |name: &str| serde_json::to_string(name).map_or(name.len() + 2, |text| text.len());
        // With a colon, an empty text and a comma.
        self.attributes.iter().map(|(_, name)| quoted(name) + 4).sum()
    }

    /// The attribute that a column is kept as.
    pub fn attribute_of(&self, index: usize) -> Option<&str> {
        self.attributes.iter().find(|(column, _)| *column == index).map(|(_, name)| name.as_str())
    }

    /// Whether a value is kept whose name the header lacks.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.dropped.as_ref().is_some_and(|dropped| !dropped.contains(&key(name)))
    }

    /// How many fields every row must have.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

/// A name for every column, and the places of all. A column without a name is `column_8`, by its place, or `column_8_` where
/// another one is called that.
fn name_all(names: &[String]) -> Result<(Vec<String>, HashMap<String, usize>), HeaderError> {
    let mut by_name = HashMap::with_capacity(names.len());
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        if by_name.insert(key(name), index).is_some() {
            return Err(HeaderError::Twice(name.clone()));
        }
    }
    let mut titles = names.to_vec();
    for (index, name) in titles.iter_mut().enumerate().filter(|(_, name)| name.is_empty()) {
        *name = format!("column_{}", index + 1);
        while by_name.contains_key(name.as_str()) {
            name.push('_');
        }
        by_name.insert(name.clone(), index);
    }
    Ok((titles, by_name))
}

/// The columns that are kept beside the fields, in the order of the header, each with its name.
fn attributes(places: &mut Places<'_>, mapping: &Mapping, named: &[String]) -> Vec<(usize, String)> {
    let rules = &mapping.attributes;
    let mut kept: Vec<Option<&str>> = vec![None; named.len()];
    let mut keep = |index: usize, name| {
        if let Some(kept) = kept.get_mut(index) {
            *kept = Some(name);
        }
    };
    for column in &rules.keep {
        if column == EVERY_OTHER {
            let unused = (0..named.len()).filter(|index| !places.is_used[*index]);
            unused.for_each(|index| keep(index, &named[index]));
        } else {
            let index = places.find("attributes", column);
            keep(index, named.get(index).map_or("", String::as_str));
        }
    }
    for (ours, theirs) in &rules.rename {
        keep(places.find("attributes", theirs), ours.trim());
    }
    for column in &rules.drop {
        let index = places.find("attributes", column);
        if let Some(kept) = kept.get_mut(index) {
            *kept = None;
        }
    }
    let kept = kept.into_iter().enumerate();
    kept.filter_map(|(index, name)| Some((index, name?.to_owned()))).collect()
}

/// What is not there: columns of our own names, or columns that only a mapping asks for.
fn lacking(unknown: Vec<(String, String)>, found: Vec<String>) -> HeaderError {
    if unknown.iter().all(|(field, column)| field == column) {
        HeaderError::Missing { missing: unknown.into_iter().map(|(field, _)| field).collect(), found }
    } else {
        HeaderError::Unmapped { wanted: unknown, found }
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
            Columns::from_names(names("Side;AMOUNT;country;id;timestamp;operation_type;description;"), None).unwrap();
        let places = [&columns.side, &columns.id].map(|field| field.from.clone());
        assert_eq!(places, [0, 3].map(Derivation::Column));
        assert_eq!((columns.amount(), &columns.merchant), (Some(1), &None));
        assert_eq!(columns.attributes, [(2, "country".to_owned()), (7, "column_8".to_owned())]);
    }

    #[test]
    fn empty_attributes_have_so_many_bytes() {
        let header = "id;description;amount;timestamp;operation_type;side;merchant";
        for (more, json) in [("", ""), (r#";zip;a"b;"#, r#""zip":"","a\"b":"","column_10":"","#)] {
            let columns = Columns::from_names(names(&format!("{header}{more}")), None).unwrap();
            assert_eq!(columns.attribute_bytes(), json.len(), "{more}");
        }
    }

    #[test]
    fn a_column_without_a_name_takes_none_that_is_there() {
        let header = "id;description;amount;timestamp;operation_type;side;Column_8;";
        let columns = Columns::from_names(names(header), None).unwrap();
        assert_eq!(columns.attributes, [(6, "Column_8".to_owned()), (7, "column_8_".to_owned())]);
    }

    fn mapped(header: &str, mapping: &str) -> Result<Columns, HeaderError> {
        Columns::from_names(names(header), Some(&serde_json::from_str(mapping).unwrap()))
    }

    #[test]
    fn a_mapping_uses_columns_and_the_rest_are_attributes() {
        let header = ";ref;amt;when;dc;kind;memo;zip;merchant";
        let base = r#""id":"REF","description":{"template":"{memo} {kind}"},"amount":{"column":"amt","negative_when":{"column":"dc","is":"D"}},"timestamp":"when","operation_type":"kind","side":{"column":"dc","values":{}}"#;
        let cases = [
            ("", "0 column_1, 7 zip"),
            (r#","attributes":{"keep":["zip","MEMO"]}"#, "6 memo, 7 zip"),
            (r#","attributes":{"keep":["*","ref"],"drop":["column_1"]}"#, "1 ref, 7 zip"),
            (r#","attributes":{"rename":{"postcode":"zip","direction":"dc"}}"#, "0 column_1, 4 direction, 7 postcode"),
            (r#","attributes":{"keep":[],"rename":{"postcode":"zip"}}"#, "7 postcode"),
        ];
        for (more, expected) in cases {
            let columns = mapped(header, &format!("{{{base}{more}}}")).unwrap();
            let shown: Vec<String> = columns.attributes.iter().map(|(index, name)| format!("{index} {name}")).collect();
            assert_eq!(shown.join(", "), expected, "{more}");
            assert_eq!(columns.amount(), Some(2));
            assert_eq!(columns.merchant.unwrap().from, Derivation::Column(8));
        }
    }

    #[test]
    fn what_a_mapping_names_in_vain_is_told_with_what_is_there() {
        let header = "id;description;amt;timestamp;operation_type;side;zip";
        let cases = [
            (
                r#"{"amount":"amount_eur","attributes":{"drop":["is_fraud"]}}"#,
                "the mapping names columns that the header lacks: `amount_eur` for `amount`, `is_fraud` for `attributes`; \
                 the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
            ),
            (
                r#"{"id":{"template":"{no}-{row}"},"amount":"amt"}"#,
                "the mapping names a column that the header lacks: `no` for `id`; \
                 the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
            ),
            (
                r#"{"id":"zip"}"#,
                "missing required column `amount`; \
                 the header has `id`, `description`, `amt`, `timestamp`, `operation_type`, `side`, `zip`",
            ),
            (
                r#"{"amount":"amt","attributes":{"rename":{"zip":"side"}}}"#,
                "two columns become the attribute `zip`: rename or drop one of them in the mapping's [attributes]",
            ),
        ];
        for (mapping, expected) in cases {
            assert_eq!(mapped(header, mapping).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_is_there() {
        let error = Columns::from_names(names("id;amount;timestamp;operation_type"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing required columns `description`, `side`; the header has `id`, `amount`, `timestamp`, `operation_type`"
        );
    }

    #[test]
    fn an_error_is_one_short_line_whatever_the_header_is() {
        let many = (0..50_000).map(|name| format!("{name}\n{}", "\u{1b}x".repeat(1000))).collect();
        let error = Columns::from_names(many, None).unwrap_err().to_string();
        assert!(error.len() < 1_500 && error.ends_with(" and 49980 more"), "{error}");
        let long = "\u{1b}[31m\r\n".repeat(1000);
        let twice = Columns::from_names(vec![long.clone(), long], None).unwrap_err().to_string();
        assert!(twice.len() < 400, "{twice}");
        assert!(!error.contains(char::is_control) && !twice.contains(char::is_control));
    }

    #[test]
    fn a_column_twice_is_ambiguous() {
        let error =
            Columns::from_names(names("id;amount;Amount;timestamp;operation_type;description;side"), None).unwrap_err();
        assert_eq!(error, HeaderError::Twice("Amount".into()));
    }
}

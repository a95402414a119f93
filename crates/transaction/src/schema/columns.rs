//! Which column of a source is which field of a transaction: by header name, in any order, or by a mapping.

use std::collections::BTreeSet;
use std::fmt;

use crate::message::json_writer::write_text;
use crate::rules::decoding::TextDecoder;
use crate::schema::derivation::{
    AmountColumns, AmountField, ColumnResolver, Derivation, DerivedField, FieldReader, TimestampField,
};
use crate::schema::mapping::EVERY_OTHER;
use crate::schema::names::{HeaderNames, name_key};
use crate::value::redact::shape;
use crate::value::text::{quoted, trimmed};
use crate::{Dialect, Encoding, Mapping, ReadingRules};

/// Columns a source must have.
pub const REQUIRED_COLUMNS: [&str; 6] = ["id", "description", "amount", "timestamp", "operation_type", "side"];
/// Columns a source may omit.
pub const OPTIONAL_COLUMNS: [&str; 1] = ["merchant"];

/// The fields of one row, in whatever form a decoder keeps them.
pub trait FieldAccess {
    /// Number of fields.
    fn count(&self) -> usize;
    /// The bytes of a field, unquoted.
    fn get(&self, index: usize) -> Option<&[u8]>;
    /// Whether a field is a number by the grammar of its source, as in JSON or Parquet, rather than text: its decimal
    /// mark is then a point, whatever that of texts is.
    fn is_number(&self, _index: usize) -> bool {
        false
    }
    /// Fields the header does not name, such as extra keys of a JSON row, with their own names.
    fn extras(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}

impl FieldAccess for [&[u8]] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        <[&[u8]]>::get(self, index).copied()
    }
}

/// Why a header does not fit a source of transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required column is missing.
    #[error("missing required column{} {}; {}{}", if missing.len() == 1 { "" } else { "s" }, listed(missing), found, inside(within))]
    Missing {
        /// The missing columns.
        missing: Vec<String>,
        /// The names in the header.
        found: FoundNames,
        /// Paths to missing names inside objects.
        within: Vec<String>,
    },
    /// A column used by a field occurs twice, so that its value would be ambiguous.
    #[error("column {} of `{field}` occurs twice in the header, as {}: select one by its position in a mapping, such as `{field} = \"{}\"`", quoted(name), by_place(positions, " and "), by_place(&positions[..1], ""))]
    Twice {
        /// The field.
        field: String,
        /// The column's name.
        name: String,
        /// Its positions, from 0.
        positions: Vec<usize>,
    },
    /// A column named by the mapping is missing.
    #[error("{}; {found}", unmapped(wanted))]
    Unmapped {
        /// The fields, each with its missing column.
        wanted: Vec<(String, String)>,
        /// The names in the header.
        found: FoundNames,
    },
    /// Two columns would become one attribute.
    #[error("two columns become the attribute {}: rename or drop one of them in the mapping's [attributes]", quoted(.0))]
    AttributeTwice(String),
    /// A name is not text.
    #[error("column {0} of the header is not valid text in the source's encoding")]
    NotText(usize),
    /// A name contains what PostgreSQL cannot store.
    #[error("the name {} of column {place} holds a NUL byte, which no database stores: remove it", quoted(name))]
    NulByte {
        /// The name.
        name: String,
        /// Its position, from 1.
        place: usize,
    },
}

/// The fields of a row read as a header. They are shown if at least two of them are needed names; otherwise it may be
/// any row, and only their shapes are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNames {
    names: Vec<String>,
    are_names: bool,
}

impl FoundNames {
    /// Known names from which a row counts as a header rather than values.
    const ENOUGH: usize = 2;

    fn new(names: Vec<String>, mapping: &Mapping) -> Self {
        let ours = REQUIRED_COLUMNS.iter().chain(&OPTIONAL_COLUMNS).copied();
        let known: BTreeSet<String> = ours.chain(mapping.columns()).map(name_key).collect();
        let is_short = |name: &&String| name.len() <= LONGEST_NAME;
        let found: BTreeSet<String> = names.iter().filter(is_short).map(|name| name_key(name)).collect();
        let found = found.intersection(&known).count();
        Self { names, are_names: found >= Self::ENOUGH }
    }
}

impl fmt::Display for FoundNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, are_names } = self;
        if *are_names {
            return write!(formatter, "the header has {}", listed(names));
        }
        let fields = if names.len() == 1 { "field, which looks" } else { "fields, which look" };
        write!(formatter, "what was read as the header has {} {fields} like {}", names.len(), list(names, shape))
    }
}

/// The longest name compared with needed names, in bytes.
pub(crate) const LONGEST_NAME: usize = 1_024;

/// Whether a path into objects may be shown: it reads like a programmer's name rather than a value.
fn looks_like_a_programmers_name(path: &str) -> bool {
    path.split('.').all(|name| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$' | b'@');
        !name.is_empty()
            && name.len() <= LONGEST_GIVEN
            && digits_of(name) <= MOST_DIGITS
            && name.bytes().all(is_allowed)
    })
}

/// Most digits of a header name that is shown: account and card numbers have more.
const MOST_DIGITS_OF_A_NAME: usize = 8;

fn digits_of(name: &str) -> usize {
    name.chars().filter(|character| character.is_numeric()).count()
}

/// The longest name that looks like a programmer's, and its most digits.
const LONGEST_GIVEN: usize = 40;
const MOST_DIGITS: usize = 3;

/// Most names shown in an error, as a supposed header may be anything.
const MAX_NAMES: usize = 20;

pub(crate) fn listed(names: &[String]) -> String {
    list(names, |name| if digits_of(name) > MOST_DIGITS_OF_A_NAME { shape(name) } else { quoted(name) })
}

fn list(names: &[String], show: impl Fn(&str) -> String) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| show(name)).collect();
    match names.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn by_place(positions: &[usize], between: &str) -> String {
    let shown: Vec<String> = positions.iter().take(MAX_NAMES).map(|index| format!("column_{}", index + 1)).collect();
    shown.join(between)
}

fn inside(within: &[String]) -> String {
    match within {
        [] => String::new(),
        paths => {
            let show = |path: &str| if looks_like_a_programmers_name(path) { quoted(path) } else { shape(path) };
            format!("; objects hold {}: name them in a mapping", list(paths, show))
        }
    }
}

/// Columns named by the mapping but missing.
fn unmapped(wanted: &[(String, String)]) -> String {
    let one = |(field, column): &(String, String)| format!("{} for `{field}`", quoted(column));
    let shown: Vec<String> = wanted.iter().take(MAX_NAMES).map(one).collect();
    let column = if wanted.len() == 1 { "a column" } else { "columns" };
    format!("the mapping names {column} that the header lacks: {}", shown.join(", "))
}

/// A column that is kept as an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttributeColumn {
    pub(crate) index: usize,
    pub(crate) name: String,
    /// The name in JSON.
    pub(crate) json: Vec<u8>,
    /// Its place in the order of the names.
    pub(crate) place: usize,
}

impl AttributeColumn {
    /// In header order; each name must be there once.
    fn of(columns: Vec<(usize, String)>) -> Vec<Self> {
        let mut names: Vec<String> = columns.iter().map(|(_, name)| name.clone()).collect();
        names.sort_unstable();
        let column = |(index, name): (usize, String)| {
            let place = names.binary_search(&name).unwrap_or_default();
            let mut json = Vec::new();
            write_text(&mut json, &name);
            Self { index, name, json, place }
        };
        columns.into_iter().map(column).collect()
    }
}

/// The position of each field in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    pub(crate) id: DerivedField,
    pub(crate) description: DerivedField,
    pub(crate) amount: AmountColumns,
    pub(crate) timestamp: TimestampField,
    pub(crate) merchant: Option<DerivedField>,
    pub(crate) operation_type: DerivedField,
    pub(crate) side: DerivedField,
    pub(crate) attributes: Vec<AttributeColumn>,
    /// Names not kept among values without a column; none means that no such value is kept.
    dropped: Option<BTreeSet<String>>,
    names: Vec<String>,
}

impl Columns {
    /// Resolves a header row. Names match regardless of case and surrounding blanks.
    pub fn from_header(
        header: &(impl FieldAccess + ?Sized),
        dialect: Dialect,
        mapping: Option<&Mapping>,
    ) -> Result<Self, HeaderError> {
        let names = (0..header.count())
            .map(|index| {
                let bytes = header.get(index).unwrap_or_default();
                let text = dialect.encoding.decode(bytes).ok_or(HeaderError::NotText(index + 1))?;
                Ok(trimmed(&text).to_owned())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_names(names, mapping)
    }

    /// Resolves names, such as those frozen with a run.
    pub fn from_names(names: Vec<String>, mapping: Option<&Mapping>) -> Result<Self, HeaderError> {
        let unmapped = Mapping::default();
        let mapping = mapping.unwrap_or(&unmapped);
        let by_name = HeaderNames::new(&names);
        let mut resolver = ColumnResolver::new(&by_name, names.len());
        let [id, description] = [("id", &mapping.id), ("description", &mapping.description)]
            .map(|(name, from)| resolver.field(name, from.as_ref()));
        let (amount, timestamp) = (resolver.amount(mapping), resolver.timestamp(mapping));
        let [operation_type, side] = [("operation_type", &mapping.operation_type), ("side", &mapping.side)]
            .map(|(name, from)| resolver.field(name, from.as_ref()));
        let merchant = OPTIONAL_COLUMNS[0];
        let merchant = (mapping.merchant.is_some() || resolver.has(merchant))
            .then(|| resolver.field(merchant, mapping.merchant.as_ref()));
        let attributes = attributes(&mut resolver, mapping, &by_name);
        let ColumnResolver { unknown, twice, .. } = resolver;
        if let Some(twice) = twice {
            return Err(twice);
        }
        if !unknown.is_empty() {
            return Err(lacking(unknown, FoundNames::new(names, mapping)));
        }
        let mut known = BTreeSet::new();
        if let Some((_, name)) = attributes.iter().find(|(_, name)| !known.insert(name)) {
            return Err(HeaderError::AttributeTwice(name.clone()));
        }
        let keeps_others = mapping.attributes.keep.iter().any(|column| column == EVERY_OTHER);
        let dropped = keeps_others.then(|| mapping.attributes.drop.iter().map(|column| name_key(column)).collect());
        let attributes = AttributeColumn::of(attributes);
        Ok(Self { id, description, amount, timestamp, merchant, operation_type, side, attributes, dropped, names })
    }

    /// The header's names, to be frozen with a run.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The amount's column, for detection of its decimal mark; none unless it is exactly one column.
    pub fn amount(&self) -> Option<usize> {
        match &self.amount {
            AmountColumns::One(AmountField { field: DerivedField { from: Derivation::Column(index), .. }, .. }) => {
                Some(*index)
            }
            _ => None,
        }
    }

    /// The texts a row's amount is parsed from, for detection of the decimal mark, except numbers by the grammar of the
    /// source, and empty or unreadable texts.
    pub fn amount_texts(&self, number: u64, fields: &(impl FieldAccess + ?Sized), encoding: Encoding) -> Vec<String> {
        let row = FieldReader { number, fields, decoder: TextDecoder::of(encoding) };
        let text = |from: &AmountField| match from.field.from {
            Derivation::Column(index) if fields.is_number(index) => None,
            _ => row.derive(&from.field).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        };
        self.amount.fields().filter_map(text).collect()
    }

    /// A row's date text, for detection of its pattern; none if timestamps are counts.
    pub fn date_text(&self, number: u64, fields: &(impl FieldAccess + ?Sized), encoding: Encoding) -> Option<String> {
        let TimestampField { field, time_count: None } = &self.timestamp else { return None };
        let decoder = TextDecoder::of(encoding);
        Some(FieldReader { number, fields, decoder }.derive(field).ok()?.into_owned())
    }

    /// Whether timestamps are counts and the row's count leads to an instant.
    pub fn has_epoch_timestamp(&self, number: u64, fields: &(impl FieldAccess + ?Sized), encoding: Encoding) -> bool {
        let TimestampField { field, time_count: Some(time_count) } = &self.timestamp else { return false };
        let row = FieldReader { number, fields, decoder: TextDecoder::of(encoding) };
        row.derive(field).is_ok_and(|text| time_count.read(text.trim(), ReadingRules::Second).is_ok())
    }

    /// The fields that use a column.
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

    /// Bytes of a transaction's JSON taken by its attributes if all of them are empty.
    pub fn attribute_bytes(&self) -> usize {
        // Plus a colon, an empty text and a comma.
        self.attributes.iter().map(|column| column.json.len() + 4).sum()
    }

    /// The attribute a column is kept as.
    pub fn attribute_of(&self, index: usize) -> Option<&str> {
        self.attributes.iter().find(|column| column.index == index).map(|column| column.name.as_str())
    }

    /// Whether to keep a value without a column.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        self.dropped.as_ref().is_some_and(|dropped| !dropped.contains(&name_key(name)))
    }

    /// Number of fields of every row.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

/// The columns kept as attributes, in header order, each with its name.
fn attributes(resolver: &mut ColumnResolver<'_>, mapping: &Mapping, names: &HeaderNames<'_>) -> Vec<(usize, String)> {
    let (rules, titles) = (&mapping.attributes, names.titles());
    let mut kept: Vec<Option<&str>> = vec![None; titles.len()];
    let mut keep = |index: usize, name| {
        if let Some(kept) = kept.get_mut(index) {
            *kept = Some(name);
        }
    };
    for column in &rules.keep {
        if column == EVERY_OTHER {
            let unused = (0..titles.len()).filter(|index| !resolver.is_used[*index]);
            unused.for_each(|index| keep(index, &titles[index]));
        } else {
            let index = resolver.find("attributes", column);
            keep(index, titles.get(index).map_or("", String::as_str));
        }
    }
    for (ours, theirs) in &rules.rename {
        keep(resolver.find("attributes", theirs), ours.trim());
    }
    for column in &rules.drop {
        // If several columns have the name, all are dropped.
        let several = names.all(column);
        let dropped = if several.is_empty() { vec![resolver.find("attributes", column)] } else { several };
        for index in dropped {
            if let Some(kept) = kept.get_mut(index) {
                *kept = None;
            }
        }
    }
    let kept = kept.into_iter().enumerate();
    kept.filter_map(|(index, name)| Some((index, name?.to_owned()))).collect()
}

/// Tells missing columns of our own names from missing columns of a mapping.
fn lacking(unknown: Vec<(String, String)>, found: FoundNames) -> HeaderError {
    if unknown.iter().all(|(field, column)| field == column) {
        HeaderError::Missing {
            missing: unknown.into_iter().map(|(field, _)| field).collect(),
            found,
            within: Vec::new(),
        }
    } else {
        HeaderError::Unmapped { wanted: unknown, found }
    }
}

#[cfg(test)]
mod tests;

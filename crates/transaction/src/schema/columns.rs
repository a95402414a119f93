//! Which column of a source is which field of a transaction: by header name, in any order, or as a mapping says.

use std::collections::BTreeSet;
use std::fmt;

use crate::rules::decoding::TextDecoder;
use crate::schema::derivation::{
    AmountColumns, AmountField, ColumnResolver, Derivation, DerivedField, RowReader, TimestampField,
};
use crate::schema::mapping::EVERY_OTHER;
use crate::schema::names::{HeaderNames, name_key};
use crate::value::redact::shape;
use crate::value::text::{quoted, trimmed};
use crate::{Dialect, Encoding, Mapping, ReadingRules};

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
    #[error("missing required column{} {}; {}{}", if missing.len() == 1 { "" } else { "s" }, listed(missing), found, inside(within))]
    Missing {
        /// What is not there.
        missing: Vec<String>,
        /// What the header has.
        found: FoundNames,
        /// Paths that lead to what is missing, inside of objects.
        within: Vec<String>,
    },
    /// A column that a field is made of is there twice, so that its value would be ambiguous.
    #[error("column {} of `{field}` stands twice in the header, as {}: a mapping names the one that is meant by its place, such as `{field} = \"{}\"`", quoted(name), by_place(positions, " and "), by_place(&positions[..1], ""))]
    Twice {
        /// What is made of it.
        field: String,
        /// Its name.
        name: String,
        /// Where it stands, from 0.
        positions: Vec<usize>,
    },
    /// A column that the mapping names is not there.
    #[error("{}; {found}", unmapped(wanted))]
    Unmapped {
        /// What the mapping makes, each with the column that is not there.
        wanted: Vec<(String, String)>,
        /// What the header has.
        found: FoundNames,
    },
    /// Two columns would become one attribute.
    #[error("two columns become the attribute {}: rename or drop one of them in the mapping's [attributes]", quoted(.0))]
    AttributeTwice(String),
    /// A name that is not text.
    #[error("column {0} of the header is not valid text in the source's encoding")]
    NotText(usize),
    /// A name that PostgreSQL cannot store.
    #[error("the name {} of column {place} holds a NUL byte, which no database stores: take it away", quoted(name))]
    NulByte {
        /// The name.
        name: String,
        /// Where it stands, from 1.
        place: usize,
    },
}

/// The fields of a row that was read as a header. They are shown where the row is one, as two of them at least are names that are
/// needed; else it may be any row, and only their shapes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNames {
    names: Vec<String>,
    are_names: bool,
}

impl FoundNames {
    /// Names that are known before one of them is believed to be no value.
    const ENOUGH: usize = 2;

    fn new(names: Vec<String>, mapping: &Mapping) -> Self {
        let ours = REQUIRED_COLUMNS.iter().chain(&OPTIONAL_COLUMNS).copied();
        let known: BTreeSet<String> = ours.chain(mapping.columns()).map(name_key).collect();
        let is_short = |name: &&String| name.len() <= LONGEST_KNOWN;
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

/// The longest name that is compared with those that are needed, in bytes.
const LONGEST_KNOWN: usize = 1_024;

/// Whether a name inside of objects is shown: it reads like one that a program gave, and not like a value.
fn is_given_by_a_program(path: &str) -> bool {
    path.split('.').all(|name| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$' | b'@');
        !name.is_empty()
            && name.len() <= LONGEST_GIVEN
            && digits_of(name) <= MOST_DIGITS
            && name.bytes().all(is_allowed)
    })
}

/// How many digits a name of a header has that is shown: a number of an account or of a card is none.
const MOST_DIGITS_OF_A_NAME: usize = 8;

fn digits_of(name: &str) -> usize {
    name.chars().filter(|character| character.is_numeric()).count()
}

/// The longest name that reads like one of a program, and how many digits it may have.
const LONGEST_GIVEN: usize = 40;
const MOST_DIGITS: usize = 3;

/// Most names that an error shows: what is taken for a header may be anything.
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

/// Columns by their places.
fn by_place(positions: &[usize], between: &str) -> String {
    let shown: Vec<String> = positions.iter().take(MAX_NAMES).map(|index| format!("column_{}", index + 1)).collect();
    shown.join(between)
}

/// What objects hold of that which is missing.
fn inside(within: &[String]) -> String {
    match within {
        [] => String::new(),
        paths => {
            let show = |path: &str| if is_given_by_a_program(path) { quoted(path) } else { shape(path) };
            format!("; objects hold {}: name them in a mapping", list(paths, show))
        }
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
    pub(crate) id: DerivedField,
    pub(crate) description: DerivedField,
    pub(crate) amount: AmountColumns,
    pub(crate) timestamp: TimestampField,
    pub(crate) merchant: Option<DerivedField>,
    pub(crate) operation_type: DerivedField,
    pub(crate) side: DerivedField,
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
                Ok(trimmed(&text).to_owned())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_names(names, mapping)
    }

    /// The same from names, such as those frozen with a run.
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
        Ok(Self { id, description, amount, timestamp, merchant, operation_type, side, attributes, dropped, names })
    }

    /// The header's names, to freeze with a run.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where the amount stands, for the sniffing of its decimal mark; none where it is not one column.
    pub fn amount(&self) -> Option<usize> {
        match &self.amount {
            AmountColumns::One(AmountField { field: DerivedField { from: Derivation::Column(index), .. }, .. }) => {
                Some(*index)
            }
            _ => None,
        }
    }

    /// The texts of a row that its amount is read from, for the recognition of the decimal mark. What is a number by the grammar of
    /// its source is none of them, nor what is empty or cannot be read.
    pub fn amount_texts(&self, number: u64, fields: &(impl Fields + ?Sized), encoding: Encoding) -> Vec<String> {
        let row = RowReader { number, fields, decoder: TextDecoder::of(encoding) };
        let text = |from: &AmountField| match from.field.from {
            Derivation::Column(index) if fields.is_number(index) => None,
            _ => row.derive(&from.field).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        };
        self.amount.fields().filter_map(text).collect()
    }

    /// What a row has for the date and time, for the recognition of its pattern; none where it is a count.
    pub fn date(&self, number: u64, fields: &(impl Fields + ?Sized), encoding: Encoding) -> Option<String> {
        let TimestampField { field, time_count: None } = &self.timestamp else { return None };
        let decoder = TextDecoder::of(encoding);
        Some(RowReader { number, fields, decoder }.derive(field).ok()?.into_owned())
    }

    /// Whether a row has a count for the date and time, and one that leads to an instant.
    pub fn has_count(&self, number: u64, fields: &(impl Fields + ?Sized), encoding: Encoding) -> bool {
        let TimestampField { field, time_count: Some(time_count) } = &self.timestamp else { return false };
        let row = RowReader { number, fields, decoder: TextDecoder::of(encoding) };
        row.derive(field).is_ok_and(|text| time_count.read(text.trim(), ReadingRules::Second).is_ok())
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
        self.dropped.as_ref().is_some_and(|dropped| !dropped.contains(&name_key(name)))
    }

    /// How many fields every row must have.
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

/// The columns that are kept beside the fields, in the order of the header, each with its name.
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
        // Where several have that name, all of them go.
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

/// What is not there: columns of our own names, or columns that only a mapping asks for.
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

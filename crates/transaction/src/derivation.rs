//! Where each field of a transaction stands in a row: a mapping whose columns have been found in a header.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::columns::Fields;
use crate::mapping::{Clock, Mapping, Part, Scaling, TextFrom};
use crate::rules::{is_blank, reject, wrong_value};
use crate::text::{Decoding, Unreadable, quoted};
use crate::{RejectReason, Rejection};

/// A field of a transaction, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// As messages name it: with the column, where that has another name.
    pub(crate) shown: String,
    pub(crate) from: Derivation,
}

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Derivation {
    Column(usize),
    Constant(String),
    Template(Vec<Part<usize>>),
    Lookup { column: usize, values: BTreeMap<String, String>, otherwise: Option<String> },
}

/// The amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmountField {
    pub(crate) field: Field,
    /// None where it is the amount as it stands.
    pub(crate) conversion: Option<Conversion>,
}

/// How a number becomes the amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) scaling: Scaling,
    /// The column, and those of its values, that say that it is negative.
    pub(crate) negative_when: Option<(usize, Vec<String>)>,
}

/// The timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimestampField {
    pub(crate) field: Field,
    /// None where it is a date and time.
    pub(crate) clock: Option<Clock>,
}

impl Derivation {
    /// Whether it is made of a column.
    fn uses(&self, index: usize) -> bool {
        match self {
            Self::Column(column) | Self::Lookup { column, .. } => *column == index,
            Self::Constant(_) => false,
            Self::Template(parts) => parts.contains(&Part::Column(index)),
        }
    }
}

impl Field {
    /// Whether it is made of a column.
    pub(crate) fn uses(&self, index: usize) -> bool {
        self.from.uses(index)
    }
}

impl AmountField {
    /// The same for the amount.
    pub(crate) fn uses(&self, index: usize) -> bool {
        let negative_when = self.conversion.as_ref().and_then(|conversion| conversion.negative_when.as_ref());
        self.field.uses(index) || negative_when.is_some_and(|(column, _)| *column == index)
    }
}

/// One row while its fields are made.
pub(crate) struct Row<'a, F: ?Sized> {
    pub(crate) number: u64,
    pub(crate) fields: &'a F,
    pub(crate) decoding: Decoding,
}

impl<'a, F: Fields + ?Sized> Row<'a, F> {
    /// The text of a column.
    pub(crate) fn text(&self, index: usize) -> Result<Cow<'a, str>, Unreadable> {
        self.decoding.text(self.fields.get(index).unwrap_or_default())
    }

    /// The text of a field.
    pub(crate) fn derive<'b>(&self, field: &'b Field) -> Result<Cow<'b, str>, Rejection>
    where
        'a: 'b,
    {
        let derived = match &field.from {
            Derivation::Column(index) => self.text(*index),
            Derivation::Constant(constant) => Ok(Cow::Borrowed(constant.as_str())),
            Derivation::Template(parts) => self.fill(parts).map(Cow::Owned),
            Derivation::Lookup { column, values, otherwise } => {
                let value = self.text(*column).map_err(|error| error.of(&field.shown))?;
                let found = values.get(value.trim()).or(otherwise.as_ref()).ok_or_else(|| {
                    let error = "is no value that the mapping knows";
                    wrong_value(&field.shown, &value, RejectReason::ValueUnknown, &error)
                })?;
                Ok(Cow::Borrowed(found.as_str()))
            }
        };
        derived.map_err(|error| error.of(&field.shown))
    }

    /// The same for a field that must not be empty.
    pub(crate) fn required<'b>(&self, field: &'b Field, empty: RejectReason) -> Result<Cow<'b, str>, Rejection>
    where
        'a: 'b,
    {
        let text = self.derive(field)?;
        if is_blank(&text) {
            return Err(reject(empty, format!("{} is empty", field.shown)));
        }
        Ok(text)
    }

    fn fill(&self, parts: &[Part<usize>]) -> Result<String, Unreadable> {
        let mut filled = String::new();
        for part in parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Column(index) => filled.push_str(self.text(*index)?.trim()),
                Part::Row => filled.push_str(&self.number.to_string()),
            }
        }
        Ok(filled)
    }
}

/// The places of a header's names, and what was asked for in vain.
pub(crate) struct Places<'a> {
    by_name: &'a HashMap<String, usize>,
    /// The fields, each with a column that is not there.
    pub(crate) unknown: Vec<(String, String)>,
    /// Columns that a field is made of.
    pub(crate) is_used: Vec<bool>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(by_name: &'a HashMap<String, usize>, count: usize) -> Self {
        Self { by_name, unknown: Vec::new(), is_used: vec![false; count] }
    }

    /// Whether there is such a column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.by_name.contains_key(&key(column))
    }

    /// Where a column is. One that is not there is noted, and whoever asked must not be believed.
    pub(crate) fn find(&mut self, field: &str, column: &str) -> usize {
        if let Some(index) = self.by_name.get(&key(column)) {
            *index
        } else {
            self.unknown.push((field.to_owned(), column.to_owned()));
            0
        }
    }

    /// The same for a column that a field is made of.
    fn take(&mut self, field: &str, column: &str) -> usize {
        let index = self.find(field, column);
        if let Some(is_used) = self.is_used.get_mut(index) {
            *is_used = true;
        }
        index
    }

    /// A field of text; where the mapping does not speak of it, the column of its own name.
    pub(crate) fn field(&mut self, name: &str, from: Option<&TextFrom>) -> Field {
        let shown = |by: String| format!("`{name}` ({by})");
        match from {
            None => Field { shown: format!("`{name}`"), from: Derivation::Column(self.take(name, name)) },
            Some(TextFrom::Column(column)) => Field {
                shown: if column == name { format!("`{name}`") } else { shown(of_column(column)) },
                from: Derivation::Column(self.take(name, column)),
            },
            Some(TextFrom::Constant(constant)) => {
                Field { shown: shown("a constant".to_owned()), from: Derivation::Constant(constant.clone()) }
            }
            Some(TextFrom::Template(template)) => {
                let parts = template.parts.iter().map(|part| match part {
                    Part::Text(text) => Part::Text(text.clone()),
                    Part::Column(column) => Part::Column(self.take(name, column)),
                    Part::Row => Part::Row,
                });
                let from = Derivation::Template(parts.collect());
                Field { shown: shown(format!("template {}", quoted(template.as_str()))), from }
            }
            Some(TextFrom::Lookup { column, values, otherwise }) => Field {
                shown: shown(of_column(column)),
                from: Derivation::Lookup {
                    column: self.take(name, column),
                    values: values.clone(),
                    otherwise: otherwise.clone(),
                },
            },
        }
    }

    pub(crate) fn amount(&mut self, mapping: &Mapping) -> AmountField {
        let name = "amount";
        let Some(from) = &mapping.amount else {
            return AmountField { field: self.field(name, None), conversion: None };
        };
        let field = self.field(name, Some(&from.text));
        let negative_when = from.negative_when.as_ref().map(|when| {
            let values = when.is.values().iter().map(|value| value.trim().to_owned());
            (self.take(name, &when.column), values.collect())
        });
        let conversion = Conversion { scaling: from.scaling, negative_when };
        let is_plain = conversion == Conversion { scaling: Scaling::default(), negative_when: None };
        AmountField { field, conversion: (!is_plain).then_some(conversion) }
    }

    pub(crate) fn timestamp(&mut self, mapping: &Mapping) -> TimestampField {
        let from = mapping.timestamp.as_ref();
        let field = self.field("timestamp", from.map(|from| &from.text));
        TimestampField { field, clock: from.and_then(|from| from.clock) }
    }
}

/// Names match without regard to case and surrounding blanks.
pub(crate) fn key(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn of_column(name: &str) -> String {
    format!("column {}", quoted(name))
}

//! Where a field of text comes from, and the two forms that any field may be written in: a name, or a table.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Template;

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOr<TextTable>", into = "NameOr<TextTable>")]
pub(crate) enum TextFrom {
    /// A column, as it is.
    Column(String),
    /// The same in every row.
    Constant(String),
    /// Several columns.
    Template(Template),
    /// What a table has for the value of a column.
    Lookup {
        column: String,
        values: BTreeMap<String, String>,
        /// For every other value; without it such a row is rejected.
        otherwise: Option<String>,
    },
}

impl TextFrom {
    /// The columns that it is made of.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Column(column) | Self::Lookup { column, .. } => vec![column],
            Self::Constant(_) => Vec::new(),
            Self::Template(template) => template.columns().collect(),
        }
    }

    /// The one that is written: exactly one may be.
    pub(super) fn one_of(
        constant: Option<String>,
        template: Option<Template>,
        column: Option<String>,
    ) -> Result<Self, String> {
        match (constant, template, column) {
            (Some(constant), None, None) => Ok(Self::Constant(constant)),
            (None, Some(template), None) => Ok(Self::Template(template)),
            (None, None, Some(column)) => Ok(Self::Column(column)),
            _ => Err("write one of `constant`, `template` and `column`".to_owned()),
        }
    }

    /// The same back: the constant, the template and the column, one of which is there.
    pub(super) fn parts(self) -> (Option<String>, Option<Template>, Option<String>) {
        match self {
            Self::Constant(constant) => (Some(constant), None, None),
            Self::Template(template) => (None, Some(template), None),
            Self::Column(column) | Self::Lookup { column, .. } => (None, None, Some(column)),
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    constant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    otherwise: Option<String>,
}

impl TryFrom<NameOr<TextTable>> for TextFrom {
    type Error = String;

    fn try_from(written: NameOr<TextTable>) -> Result<Self, String> {
        let TextTable { constant, template, column, values, otherwise } = match written {
            NameOr::Name(column) => return Ok(Self::Column(column)),
            NameOr::Table(table) => table,
        };
        match (Self::one_of(constant, template, column)?, values, otherwise) {
            (Self::Column(column), Some(values), otherwise) => Ok(Self::Lookup { column, values, otherwise }),
            (_, Some(_), _) => Err("`values` needs a `column`".to_owned()),
            (_, None, Some(_)) => Err("`otherwise` needs `values`".to_owned()),
            (from, None, None) => Ok(from),
        }
    }
}

impl From<TextFrom> for NameOr<TextTable> {
    fn from(from: TextFrom) -> Self {
        let table = TextTable::default();
        match from {
            TextFrom::Column(column) => Self::Name(column),
            TextFrom::Constant(constant) => Self::Table(TextTable { constant: Some(constant), ..table }),
            TextFrom::Template(template) => Self::Table(TextTable { template: Some(template), ..table }),
            TextFrom::Lookup { column, values, otherwise } => {
                Self::Table(TextTable { column: Some(column), values: Some(values), otherwise, ..table })
            }
        }
    }
}

/// The name of a column, or a table. Not an untagged enum for reading: its errors would not say what is wrong.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum NameOr<T> {
    Name(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = NameOr<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a column, or a table such as { column = \"…\" }")
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(NameOr::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(NameOr::Table)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

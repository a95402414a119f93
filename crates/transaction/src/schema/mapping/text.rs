//! The source of a text field, and the two forms of any field: a name, or a table.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Template;
use crate::Amount;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NameOrTable<TextTable>", into = "NameOrTable<TextTable>")]
pub(crate) enum TextFrom {
    /// A column as it is.
    Column(String),
    /// The same text in every row.
    Constant(String),
    /// A text built from several columns.
    Template(Template),
    /// A table look-up of a column's value.
    Lookup {
        column: String,
        values: BTreeMap<String, String>,
        /// For all other values; without it such a row is rejected.
        otherwise: Option<String>,
    },
    /// The value of a folder in the source's path: for `date`, that of `date=2024-03-14`.
    Path(String),
    /// The texts of columns, and a count of rows with the same texts; only for ids.
    Columns(Vec<String>),
    /// A text for the sign of the amount; not for ids or descriptions.
    BySign(TextBySign),
}

/// A text for each sign of the amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextBySign {
    negative: String,
    positive: String,
    /// Without it, a row with an amount of zero is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zero: Option<String>,
}

impl TextBySign {
    pub(crate) fn of(&self, amount: Amount) -> Option<&str> {
        match amount.as_decimal() {
            amount if amount.is_zero() => self.zero.as_deref(),
            amount if amount.is_sign_negative() => Some(&self.negative),
            _ => Some(&self.positive),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.negative, &self.positive].into_iter().chain(&self.zero).map(String::as_str)
    }
}

impl TextFrom {
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Column(column) | Self::Lookup { column, .. } => vec![column],
            Self::Constant(_) | Self::Path(_) | Self::BySign(_) => Vec::new(),
            Self::Template(template) => template.columns().collect(),
            Self::Columns(columns) => columns.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        let is_blank = |text: &str| text.trim().is_empty();
        match self {
            Self::Constant(text) => is_blank(text),
            Self::BySign(signs) => signs.texts().any(is_blank),
            _ => false,
        }
    }

    /// The same with path values filled in.
    pub(super) fn resolve<E>(&self, folder: impl Fn(&str) -> Result<String, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Path(name) => Self::Constant(folder(name)?),
            Self::Template(template) => match template.resolve(folder)? {
                Ok(template) => Self::Template(template),
                Err(text) => Self::Constant(text),
            },
            other => other.clone(),
        })
    }
}

/// The forms that text, amount and timestamp tables share: exactly one of them is written.
#[derive(Default)]
pub(super) struct CommonForms {
    pub(super) constant: Option<String>,
    pub(super) template: Option<Template>,
    pub(super) column: Option<String>,
    pub(super) path: Option<String>,
}

impl CommonForms {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self { constant: None, template: None, column: None, path: None })
    }
}

impl TryFrom<CommonForms> for TextFrom {
    type Error = String;

    fn try_from(CommonForms { constant, template, column, path }: CommonForms) -> Result<Self, String> {
        let forms = [
            constant.map(Self::Constant),
            template.map(Self::Template),
            column.map(Self::Column),
            path.map(Self::Path),
        ];
        let mut written = forms.into_iter().flatten();
        match (written.next(), written.next()) {
            (Some(from), None) => Ok(from),
            _ => Err("write one of `constant`, `template`, `column` and `path`".to_owned()),
        }
    }
}

impl From<TextFrom> for CommonForms {
    fn from(from: TextFrom) -> Self {
        let nothing = Self::default();
        match from {
            TextFrom::Constant(constant) => Self { constant: Some(constant), ..nothing },
            TextFrom::Template(template) => Self { template: Some(template), ..nothing },
            TextFrom::Column(column) | TextFrom::Lookup { column, .. } => Self { column: Some(column), ..nothing },
            TextFrom::Path(path) => Self { path: Some(path), ..nothing },
            TextFrom::Columns(_) | TextFrom::BySign(_) => nothing,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_sign: Option<TextBySign>,
}

impl TryFrom<NameOrTable<TextTable>> for TextFrom {
    type Error = String;

    fn try_from(written: NameOrTable<TextTable>) -> Result<Self, String> {
        let table = match written {
            NameOrTable::Name(column) => return Ok(Self::Column(column)),
            NameOrTable::Table(table) => table,
        };
        let TextTable { constant, template, column, values, otherwise, path, columns, from_sign } = table;
        let written = CommonForms { constant, template, column, path };
        let is_alone = written.is_nothing() && values.is_none() && otherwise.is_none();
        match (columns, from_sign) {
            (None, None) => {}
            (Some(columns), None) if is_alone && !columns.is_empty() => return Ok(Self::Columns(columns)),
            (None, Some(signs)) if is_alone => return Ok(Self::BySign(signs)),
            (Some(_), None) if is_alone => return Err("`columns` names no column".to_owned()),
            _ => return Err("`columns` and `from_sign` each stand alone".to_owned()),
        }
        match (Self::try_from(written)?, values, otherwise) {
            (Self::Column(column), Some(values), otherwise) => Ok(Self::Lookup { column, values, otherwise }),
            (_, Some(_), _) => Err("`values` needs a `column`".to_owned()),
            (_, None, Some(_)) => Err("`otherwise` needs `values`".to_owned()),
            (from, None, None) => Ok(from),
        }
    }
}

impl From<TextFrom> for NameOrTable<TextTable> {
    fn from(from: TextFrom) -> Self {
        let table = TextTable::default();
        match from {
            TextFrom::Column(column) => Self::Name(column),
            TextFrom::Lookup { column, values, otherwise } => {
                Self::Table(TextTable { column: Some(column), values: Some(values), otherwise, ..table })
            }
            TextFrom::Columns(columns) => Self::Table(TextTable { columns: Some(columns), ..table }),
            TextFrom::BySign(signs) => Self::Table(TextTable { from_sign: Some(signs), ..table }),
            from => {
                let CommonForms { constant, template, column, path } = from.into();
                Self::Table(TextTable { constant, template, column, path, ..table })
            }
        }
    }
}

/// The name of a column, or a table. It is not deserialized as an untagged enum, whose errors would not say what is wrong.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum NameOrTable<T> {
    Name(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOrTable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrTableVisitor<T> {
            type Value = NameOrTable<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a column, or a table such as { column = \"…\" }")
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(NameOrTable::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(NameOrTable::Table)
            }
        }

        deserializer.deserialize_any(NameOrTableVisitor(PhantomData))
    }
}

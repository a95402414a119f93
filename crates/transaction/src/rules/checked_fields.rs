//! A row that passed all rules, in the texts of its source: what the loader writes into a chunk without a copy in between.

use std::borrow::Cow;

use uuid::Uuid;

use crate::schema::columns::AttributeColumn;
use crate::{Amount, Timestamp, Transaction, ValidRow};

/// The fields of a row that passed all rules, borrowed where the source has them as they are stored.
#[derive(Debug, Clone)]
pub struct CheckedFields<'a> {
    pub(crate) row: u64,
    pub(crate) id: Uuid,
    pub(crate) external_id: Option<Cow<'a, str>>,
    pub(crate) description: Cow<'a, str>,
    pub(crate) amount: Amount,
    pub(crate) timestamp: Timestamp,
    pub(crate) merchant: Option<Cow<'a, str>>,
    pub(crate) operation_type: Cow<'a, str>,
    pub(crate) side: Cow<'a, str>,
    pub(crate) attributes: Attributes<'a>,
    pub(crate) is_ambiguous_hour: bool,
}

impl CheckedFields<'_> {
    /// The original id, if that is not a UUID.
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// The amount.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Whether its timestamp is a local time that occurs twice.
    pub fn is_ambiguous_hour(&self) -> bool {
        self.is_ambiguous_hour
    }

    /// The row with values of its own.
    pub fn into_valid_row(self) -> ValidRow {
        let attributes = self.attributes.0.into_iter();
        let transaction = Transaction {
            id: self.id,
            description: self.description.into_owned(),
            amount: self.amount,
            timestamp: self.timestamp,
            merchant: self.merchant.map(Cow::into_owned),
            operation_type: self.operation_type.into_owned(),
            side: self.side.into_owned(),
            attributes: attributes.map(|(name, value)| (name.text().to_owned(), value.into_owned())).collect(),
        };
        let external_id = self.external_id.map(Cow::into_owned);
        ValidRow { transaction, external_id, is_ambiguous_hour: self.is_ambiguous_hour }
    }
}

/// The name of an attribute.
#[derive(Debug, Clone)]
pub(crate) enum AttributeName<'a> {
    /// Of a column of the header.
    Column(&'a AttributeColumn),
    /// Of the row alone.
    Own(Cow<'a, str>),
}

impl AttributeName<'_> {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Column(column) => &column.name,
            Self::Own(name) => name,
        }
    }
}

/// Attributes, each name once, in the order of the names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes<'a>(Vec<(AttributeName<'a>, Cow<'a, str>)>);

impl<'a> Attributes<'a> {
    /// One for each column; `read` is called in the order of the header.
    pub(crate) fn of_columns<E>(
        columns: &'a [AttributeColumn],
        read: impl Fn(&'a AttributeColumn) -> Result<Cow<'a, str>, E>,
    ) -> Result<Self, E> {
        let mut ordered: Vec<_> =
            columns.iter().map(|column| (AttributeName::Column(column), Cow::Borrowed(""))).collect();
        for column in columns {
            if let Some(place) = ordered.get_mut(column.place) {
                *place = (AttributeName::Column(column), read(column)?);
            }
        }
        Ok(Self(ordered))
    }

    /// Adds one of the row alone; a name that is there gets the new value.
    pub(crate) fn insert(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        match self.0.binary_search_by(|(known, _)| known.text().cmp(&name)) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (AttributeName::Own(name), value)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(AttributeName<'a>, Cow<'a, str>)> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

//! Reads the fields of a transaction from a row, by a mapping resolved against a header.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::rules::decoding::{TextDecoder, UndecodableText};
use crate::rules::is_blank;
use crate::schema::columns::{FieldAccess, HeaderError};
use crate::schema::mapping::{
    AmountFrom, AmountTexts, Mapping, Scaling, TemplatePart, TextBySign, TextFrom, TimeCount,
};
use crate::schema::names::{ColumnMatch, HeaderNames};
use crate::value::text::{quoted, trimmed};
use crate::{Amount, RejectReason, Rejection};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DerivedField {
    /// Its name in messages, with the column if that has another name.
    pub(crate) shown: String,
    pub(crate) from: Derivation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Derivation {
    Column(usize),
    Constant(String),
    Template(Vec<TemplatePart<usize>>),
    Lookup {
        column: usize,
        values: BTreeMap<String, String>,
        otherwise: Option<String>,
    },
    /// An id of column texts and a count of rows with the same texts.
    Joined(Vec<usize>),
    /// A text for the sign of the amount.
    BySign(TextBySign),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AmountColumns {
    /// One number.
    One(AmountField),
    /// One of two columns.
    DebitOrCredit { debit: AmountField, credit: AmountField },
}

/// A number that is the amount, or its debit or credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmountField {
    pub(crate) field: DerivedField,
    /// None if the number is the amount.
    pub(crate) conversion: Option<AmountConversion>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmountConversion {
    pub(crate) scaling: Scaling,
    /// A column, and its values that make the amount negative.
    pub(crate) negative_when: Option<(usize, Vec<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimestampField {
    pub(crate) field: DerivedField,
    /// None if it is a date and time.
    pub(crate) time_count: Option<TimeCount>,
}

impl Derivation {
    fn uses(&self, index: usize) -> bool {
        match self {
            Self::Column(column) | Self::Lookup { column, .. } => *column == index,
            Self::Constant(_) | Self::BySign(_) => false,
            Self::Joined(columns) => columns.contains(&index),
            Self::Template(parts) => parts.contains(&TemplatePart::Column(index)),
        }
    }
}

impl DerivedField {
    pub(crate) fn uses(&self, index: usize) -> bool {
        self.from.uses(index)
    }

    /// Whether it is an id that counts rows with the same texts.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self.from, Derivation::Joined(_))
    }

    /// The id of the n-th row with the same texts; the first has no count.
    pub(crate) fn counted<'a>(&self, id: Cow<'a, str>, nth: u64) -> Cow<'a, str> {
        if nth > 1 && self.is_counted() { Cow::Owned(format!("{id}{ID_SEPARATOR}{nth}")) } else { id }
    }
}

impl AmountField {
    fn uses(&self, index: usize) -> bool {
        let negative_when = self.conversion.as_ref().and_then(|conversion| conversion.negative_when.as_ref());
        self.field.uses(index) || negative_when.is_some_and(|(column, _)| *column == index)
    }
}

impl AmountColumns {
    pub(crate) fn fields(&self) -> impl Iterator<Item = &AmountField> {
        let (first, second) = match self {
            Self::One(number) => (number, None),
            Self::DebitOrCredit { debit, credit } => (debit, Some(credit)),
        };
        std::iter::once(first).chain(second)
    }

    pub(crate) fn uses(&self, index: usize) -> bool {
        self.fields().any(|field| field.uses(index))
    }
}

/// Separates the parts of an id made of columns.
const ID_SEPARATOR: char = '|';
/// Escapes the separator and itself.
const ID_ESCAPE: char = '\\';

fn negated(amount: Amount) -> Result<Amount, Rejection> {
    let negated = Amount::try_from(-amount.as_decimal());
    negated.map_err(|error| Rejection::of_value("`amount`", &amount.to_string(), error.into(), &error))
}

pub(crate) struct FieldReader<'a, F: ?Sized> {
    pub(crate) number: u64,
    pub(crate) fields: &'a F,
    pub(crate) decoder: TextDecoder,
}

impl<'a, F: FieldAccess + ?Sized> FieldReader<'a, F> {
    pub(crate) fn text(&self, index: usize) -> Result<Cow<'a, str>, UndecodableText> {
        self.decoder.text(self.fields.get(index).unwrap_or_default())
    }

    pub(crate) fn derive<'b>(&self, field: &'b DerivedField) -> Result<Cow<'b, str>, Rejection>
    where
        'a: 'b,
    {
        let derived = match &field.from {
            Derivation::Column(index) => self.text(*index),
            Derivation::Constant(constant) => Ok(Cow::Borrowed(constant.as_str())),
            Derivation::Template(parts) => self.fill(parts).map(Cow::Owned),
            Derivation::Lookup { column, values, otherwise } => {
                let value = self.text(*column).map_err(|error| error.into_rejection(&field.shown))?;
                let found = values.get(value.trim()).or(otherwise.as_ref()).ok_or_else(|| {
                    let error = "is not a value known to the mapping";
                    Rejection::of_value(&field.shown, &value, RejectReason::ValueUnknown, &error)
                })?;
                Ok(Cow::Borrowed(found.as_str()))
            }
            Derivation::Joined(columns) => self.join(columns).map(Cow::Owned),
            // The amount is not known yet; see `by_amount`.
            Derivation::BySign(_) => Ok(Cow::Borrowed("")),
        };
        derived.map_err(|error| error.into_rejection(&field.shown))
    }

    pub(crate) fn required<'b>(&self, field: &'b DerivedField, empty: RejectReason) -> Result<Cow<'b, str>, Rejection>
    where
        'a: 'b,
    {
        let text = self.derive(field)?;
        if is_blank(&text) {
            return Err(Rejection::new(empty, format!("{} is empty", field.shown)));
        }
        Ok(text)
    }

    /// The text of a field that may depend on the sign of the amount.
    pub(crate) fn by_amount<'b>(
        &self,
        field: &'b DerivedField,
        amount: Amount,
        empty: RejectReason,
    ) -> Result<Cow<'b, str>, Rejection>
    where
        'a: 'b,
    {
        let Derivation::BySign(signs) = &field.from else { return self.required(field, empty) };
        let said = signs.of(amount).ok_or_else(|| {
            let error = "has no value for an amount of zero: add `zero` to the mapping's `from_sign`";
            Rejection::of_value(&field.shown, &amount.to_string(), RejectReason::ValueUnknown, &error)
        })?;
        Ok(Cow::Borrowed(said))
    }

    /// The debit or credit of a row, parsed by `read`; the other one is empty or zero.
    pub(crate) fn debit_or_credit(
        &self,
        [debit, credit]: [&AmountField; 2],
        read: impl Fn(&AmountField) -> Result<Amount, Rejection>,
    ) -> Result<Amount, Rejection> {
        let read = |from: &AmountField| {
            if is_blank(&self.derive(&from.field)?) {
                return Ok(None);
            }
            let amount = read(from).map_err(|rejection| self.hint_at_null_value(from, rejection))?;
            if amount.as_decimal().is_sign_negative() {
                let error = "has a sign although its column implies it: set `sign = \"absolute\"` in the mapping";
                return Err(Rejection::of_value(
                    &from.field.shown,
                    &amount.to_string(),
                    RejectReason::AmountSign,
                    &error,
                ));
            }
            Ok(Some(amount))
        };
        let is_zero = |amount: &Amount| amount.as_decimal().is_zero();
        match (read(debit)?, read(credit)?) {
            (None, None) => {
                let shown = format!("{} and {} are empty", debit.field.shown, credit.field.shown);
                Err(Rejection::new(RejectReason::AmountEmpty, shown))
            }
            (Some(zero), Some(credit)) if is_zero(&zero) => Ok(credit),
            (None, Some(credit)) => Ok(credit),
            (Some(amount), None) => negated(amount),
            (Some(amount), Some(zero)) if is_zero(&zero) => negated(amount),
            (Some(one), Some(other)) => {
                let both = format!("{one} and {other}");
                let shown = format!("{} and {}", debit.field.shown, credit.field.shown);
                Err(Rejection::of_value(&shown, &both, RejectReason::AmountTwice, &"are both set, and neither is zero"))
            }
        }
    }

    /// A text without digits in one of the two columns, such as `-`, most likely means empty.
    fn hint_at_null_value(&self, from: &AmountField, mut rejection: Rejection) -> Rejection {
        let text = self.derive(&from.field).unwrap_or_default();
        if rejection.reason == RejectReason::AmountFormat && !text.contains(|character: char| character.is_numeric()) {
            rejection.push_words("; set NULL_VALUES if ");
            rejection.push_value(text.trim());
            rejection.push_words(" stands for nothing");
        }
        rejection
    }

    /// The trimmed texts of columns, joined unambiguously; empty if all of them are.
    fn join(&self, columns: &[usize]) -> Result<String, UndecodableText> {
        let mut joined = String::new();
        let mut is_empty = true;
        for (nth, column) in columns.iter().enumerate() {
            if nth > 0 {
                joined.push(ID_SEPARATOR);
            }
            let text = self.text(*column)?;
            for character in text.trim().chars() {
                is_empty = false;
                if matches!(character, ID_SEPARATOR | ID_ESCAPE) {
                    joined.push(ID_ESCAPE);
                }
                joined.push(character);
            }
        }
        Ok(if is_empty { String::new() } else { joined })
    }

    fn fill(&self, parts: &[TemplatePart<usize>]) -> Result<String, UndecodableText> {
        let mut filled = String::new();
        for part in parts {
            match part {
                TemplatePart::Text(text) => filled.push_str(text),
                TemplatePart::Column(index) => filled.push_str(self.text(*index)?.trim()),
                TemplatePart::Row => filled.push_str(&self.number.to_string()),
                // Resolved with the location; it is text by now.
                TemplatePart::Path(_) => {}
            }
        }
        // A column at either end may be empty.
        Ok(if self.decoder.trims() { trimmed(&filled).to_owned() } else { filled })
    }
}

/// Resolves column names, and collects those that fail.
pub(crate) struct ColumnResolver<'a> {
    names: &'a HeaderNames<'a>,
    /// Fields, each with its missing column.
    pub(crate) unknown: Vec<(String, String)>,
    /// The first requested column that occurs twice.
    pub(crate) twice: Option<HeaderError>,
    /// Columns used by a field.
    pub(crate) is_used: Vec<bool>,
}

impl<'a> ColumnResolver<'a> {
    pub(crate) fn new(names: &'a HeaderNames<'a>, count: usize) -> Self {
        Self { names, unknown: Vec::new(), twice: None, is_used: vec![false; count] }
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.names.find(column) != ColumnMatch::Missing
    }

    /// The position of a column. If it is missing or ambiguous, that is recorded, and the returned position is meaningless.
    pub(crate) fn find(&mut self, field: &str, column: &str) -> usize {
        match self.names.find(column) {
            ColumnMatch::One(index) => return index,
            ColumnMatch::Missing => self.unknown.push((field.to_owned(), column.to_owned())),
            ColumnMatch::Several(positions) => {
                let twice = HeaderError::Twice { field: field.to_owned(), name: column.to_owned(), positions };
                self.twice.get_or_insert(twice);
            }
        }
        0
    }

    /// The position of a column used by a field.
    fn take(&mut self, field: &str, column: &str) -> usize {
        let index = self.find(field, column);
        if let Some(is_used) = self.is_used.get_mut(index) {
            *is_used = true;
        }
        index
    }

    /// A text field; without a mapping for it, the column of the same name.
    pub(crate) fn field(&mut self, name: &str, from: Option<&TextFrom>) -> DerivedField {
        let own_name = TextFrom::Column(name.to_owned());
        let (by, from) = match from.unwrap_or(&own_name) {
            TextFrom::Column(column) => {
                let by = if column == name { String::new() } else { of_column(column) };
                (by, Derivation::Column(self.take(name, column)))
            }
            TextFrom::Constant(constant) => ("a constant".to_owned(), Derivation::Constant(constant.clone())),
            TextFrom::Template(template) => {
                let parts = template.parts.iter().map(|part| match part {
                    TemplatePart::Text(text) => TemplatePart::Text(text.clone()),
                    TemplatePart::Column(column) => TemplatePart::Column(self.take(name, column)),
                    TemplatePart::Path(name) => TemplatePart::Text(self.unresolved(name)),
                    TemplatePart::Row => TemplatePart::Row,
                });
                let parts = parts.collect();
                (format!("template {}", quoted(template.as_str())), Derivation::Template(parts))
            }
            TextFrom::Path(folder) => ("the path".to_owned(), Derivation::Constant(self.unresolved(folder))),
            TextFrom::Columns(columns) => {
                let named: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
                let taken = columns.iter().map(|column| self.take(name, column)).collect();
                (format!("columns {}", named.join(", ")), Derivation::Joined(taken))
            }
            TextFrom::BySign(signs) => ("the sign of `amount`".to_owned(), Derivation::BySign(signs.clone())),
            TextFrom::Lookup { column, values, otherwise } => {
                let (by, values, otherwise) = (of_column(column), values.clone(), otherwise.clone());
                (by, Derivation::Lookup { column: self.take(name, column), values, otherwise })
            }
        };
        let shown = if by.is_empty() { format!("`{name}`") } else { format!("`{name}` ({by})") };
        DerivedField { shown, from }
    }

    /// A path value that was not resolved; recorded as missing.
    fn unresolved(&mut self, folder: &str) -> String {
        self.unknown.push(("path".to_owned(), folder.to_owned()));
        String::new()
    }

    pub(crate) fn amount(&mut self, mapping: &Mapping) -> AmountColumns {
        match &mapping.amount {
            None => AmountColumns::One(AmountField { field: self.field("amount", None), conversion: None }),
            Some(from) => match &from.texts {
                AmountTexts::One(text) => AmountColumns::One(self.number(text, from)),
                AmountTexts::DebitOrCredit { debit, credit } => {
                    let [debit, credit] =
                        [debit, credit].map(|column| self.number(&TextFrom::Column(column.clone()), from));
                    AmountColumns::DebitOrCredit { debit, credit }
                }
            },
        }
    }

    fn number(&mut self, text: &TextFrom, from: &AmountFrom) -> AmountField {
        let name = "amount";
        let field = self.field(name, Some(text));
        let negative_when = from.negative_when.as_ref().map(|when| {
            let values = when.is.values().iter().map(|value| value.trim().to_owned());
            (self.take(name, &when.column), values.collect())
        });
        let conversion = AmountConversion { scaling: from.scaling, negative_when };
        let is_plain = conversion == AmountConversion { scaling: Scaling::default(), negative_when: None };
        AmountField { field, conversion: (!is_plain).then_some(conversion) }
    }

    pub(crate) fn timestamp(&mut self, mapping: &Mapping) -> TimestampField {
        let from = mapping.timestamp.as_ref();
        let field = self.field("timestamp", from.map(|from| &from.text));
        TimestampField { field, time_count: from.and_then(|from| from.time_count) }
    }
}

fn of_column(name: &str) -> String {
    format!("column {}", quoted(name))
}

//! The rules a row must pass, in fixed order; the first broken one is its reason.
//!
//! `reason` lists the codes, `explain` writes messages about amounts and timestamps, `rejections` holds and counts
//! rejected rows, `checked_fields` a row that passed, and `decoding` turns bytes into text.

mod checked_fields;
pub(crate) mod decoding;
mod explain;
mod reason;
mod rejections;

use std::borrow::Cow;

use uuid::Uuid;

pub use self::checked_fields::CheckedFields;
pub(crate) use self::checked_fields::{AttributeName, Attributes};
pub use self::reason::{FailureClass, RejectReason};
pub use self::rejections::{MAX_RAW_KEPT, PrevailingReason, RejectedRow, Rejection, RejectionCounts};

use self::decoding::TextDecoder;
use self::explain::Explainer;
use crate::schema::columns::FieldAccess;
use crate::schema::derivation::{AmountColumns, AmountField, Derivation, DerivedField, FieldReader, TimestampField};
use crate::value::timestamp::ParsedTimestamp;
use crate::{
    Amount, AmountNotation, Columns, HeaderError, IdScheme, Namespace, ReadingRules, RunSettings, TimeZone,
    TimestampFormat, Transaction,
};

/// Most bytes of a row; a longer one is rejected: 256 KiB.
pub const MAX_ROW_BYTES: usize = 256 * 1024;
/// A row that passed all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidRow {
    /// The transaction.
    pub transaction: Transaction,
    /// The original id, if that is not a UUID.
    pub external_id: Option<String>,
    /// Whether its timestamp is a local time that occurs twice, as the clocks were set back; the earlier instant is taken.
    pub is_ambiguous_hour: bool,
}

/// All rules for a row; a function of a run's frozen settings.
#[derive(Debug, Clone)]
pub struct Rules {
    columns: Columns,
    reading: ReadingRules,
    decoder: TextDecoder,
    /// For amounts written as text.
    notation: AmountNotation,
    /// For amounts that are numbers by the grammar of their source.
    numbers: AmountNotation,
    timestamps: TimestampFormat,
    time_zone: TimeZone,
    namespace: Namespace,
    ids: IdScheme,
    explainer: Explainer,
}

impl Rules {
    /// The rules of a run, by its frozen header.
    pub fn of_run(settings: &RunSettings) -> Result<Self, HeaderError> {
        let columns = Columns::from_names(settings.header.clone(), settings.mapping.as_deref())?;
        Ok(Self::new(columns, settings))
    }

    /// The rules of a run whose columns are resolved.
    pub fn new(columns: Columns, settings: &RunSettings) -> Self {
        Self {
            columns,
            reading: settings.reading,
            decoder: TextDecoder::of_run(settings),
            notation: AmountNotation::of_run(settings),
            numbers: AmountNotation::for_numbers(),
            timestamps: settings.timestamps.clone(),
            time_zone: settings.time_zone,
            namespace: settings.namespace,
            ids: settings.ids,
            explainer: Explainer::of_run(settings),
        }
    }

    /// The columns of the fields.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The same without settings or recognition: messages then name no settings.
    #[must_use]
    pub(crate) fn without_settings(self) -> Self {
        let (decoder, explainer) = (self.decoder.without_settings(), self.explainer.without_settings());
        Self { decoder, explainer, notation: self.notation.with_presumed_mark(), ..self }
    }

    /// Checks a row by its number, its unquoted fields and its length in the source. For one of several rows with the
    /// same id, see [`Self::check_nth`].
    pub fn check(
        &self,
        number: u64,
        fields: &(impl FieldAccess + ?Sized),
        raw_bytes: usize,
    ) -> Result<ValidRow, Rejection> {
        self.check_nth(number, 1, fields, raw_bytes)
    }

    /// Checks the `nth` row with the same id columns, as counted by [`IdOccurrences`](crate::IdOccurrences).
    pub fn check_nth(
        &self,
        number: u64,
        nth: u64,
        fields: &(impl FieldAccess + ?Sized),
        raw_bytes: usize,
    ) -> Result<ValidRow, Rejection> {
        self.check_fields(number, nth, fields, raw_bytes).map(CheckedFields::into_valid_row)
    }

    /// The same, with the texts where they are.
    pub fn check_fields<'a>(
        &'a self,
        number: u64,
        nth: u64,
        fields: &'a (impl FieldAccess + ?Sized),
        raw_bytes: usize,
    ) -> Result<CheckedFields<'a>, Rejection> {
        if raw_bytes > MAX_ROW_BYTES {
            return Err(Rejection::new(
                RejectReason::RowTooLarge,
                format!("the row has {raw_bytes} bytes, more than {MAX_ROW_BYTES}"),
            ));
        }
        if fields.count() != self.columns.count() {
            return Err(Rejection::new(
                RejectReason::FieldCount,
                format!("the row has {} fields, the header has {}", fields.count(), self.columns.count()),
            ));
        }
        let row = FieldReader { number, fields, decoder: self.decoder };
        let columns = &self.columns;
        let id = row.required(&columns.id, RejectReason::IdEmpty)?;
        let description = row.required(&columns.description, RejectReason::DescriptionEmpty)?;
        let amount = self.read_amounts(&row)?;
        let ParsedTimestamp { timestamp, is_ambiguous_hour } = self.read_timestamp(&row, &columns.timestamp)?;
        let merchant = match &columns.merchant {
            Some(field) => row.derive(field)?,
            None => Cow::Borrowed(""),
        };
        let operation_type = row.by_amount(&columns.operation_type, amount, RejectReason::OperationTypeEmpty)?;
        let side = row.by_amount(&columns.side, amount, RejectReason::SideEmpty)?;
        let mut attributes = Attributes::of_columns(&columns.attributes, |column| {
            row.text(column.index).map_err(|error| error.into_rejection(&format!("`{}`", column.name)))
        })?;
        for (name, value) in fields.extras() {
            let name = self.decoder.text(name).map_err(|error| error.into_rejection("a key"))?;
            if columns.keeps(&name) {
                // The name belongs to the row alone, so messages must not show it.
                let value = self
                    .decoder
                    .text(value)
                    .map_err(|error| error.into_rejection("the value of a key missing from the header"))?;
                attributes.insert(name, value);
            }
        }
        let written = columns.id.counted(without_blanks(id), nth);
        let (id, external_id) = self.namespace.identify(self.ids, &written);
        let external_id = external_id.is_some().then_some(written);
        let merchant = (!is_blank(&merchant)).then_some(merchant);
        Ok(CheckedFields {
            row: number,
            id,
            external_id,
            description,
            amount,
            timestamp,
            merchant,
            operation_type,
            side,
            attributes,
            is_ambiguous_hour,
        })
    }

    /// The amount of a row, if it can be parsed: it counts in the total even if the row breaks another rule.
    pub fn amount(&self, number: u64, fields: &(impl FieldAccess + ?Sized)) -> Option<Amount> {
        if fields.count() != self.columns.count() {
            return None;
        }
        let row = FieldReader { number, fields, decoder: self.decoder };
        self.read_amounts(&row).ok()
    }

    /// The id of a row as its source has it, whatever else is wrong with the row. None if it has none, or cannot be read.
    pub fn written_id<'a>(&'a self, number: u64, fields: &'a (impl FieldAccess + ?Sized)) -> Option<Cow<'a, str>> {
        let row = FieldReader { number, fields, decoder: self.decoder };
        let id = row.derive(&self.columns.id).ok().filter(|id| !is_blank(id))?;
        Some(without_blanks(id))
    }

    /// The identity of an id that [`Self::written_id`] returns.
    pub fn identity(&self, id: &str) -> Uuid {
        self.namespace.identify(self.ids, id).0
    }

    /// The id of a row, if ids count the rows with the same columns.
    pub(crate) fn counted_id(&self, number: u64, fields: &(impl FieldAccess + ?Sized)) -> Option<Uuid> {
        if !self.columns.id.is_counted() || fields.count() != self.columns.count() {
            return None;
        }
        self.written_id(number, fields).map(|id| self.identity(&id))
    }

    fn read_amounts<F: FieldAccess + ?Sized>(&self, row: &FieldReader<'_, F>) -> Result<Amount, Rejection> {
        match &self.columns.amount {
            AmountColumns::One(from) => self.read_amount(row, from),
            AmountColumns::DebitOrCredit { debit, credit } => {
                row.debit_or_credit([debit, credit], |from| self.read_amount(row, from))
            }
        }
    }

    fn read_amount<F: FieldAccess + ?Sized>(
        &self,
        row: &FieldReader<'_, F>,
        from: &AmountField,
    ) -> Result<Amount, Rejection> {
        let AmountField { field, conversion } = from;
        let text = row.required(field, RejectReason::AmountEmpty)?;
        let (digits, notation) = (text.trim(), self.notation(row, field));
        match conversion {
            None => Amount::read(digits, notation),
            Some(conversion) => {
                let is_negative = match &conversion.negative_when {
                    None => false,
                    Some((column, values)) => {
                        let value = row.text(*column).map_err(|error| error.into_rejection(&field.shown))?;
                        values.iter().any(|negative| negative == value.trim())
                    }
                };
                conversion.scaling.convert(digits, notation, is_negative)
            }
        }
        .map_err(|error| self.explainer.amount(&field.shown, digits, error, notation))
    }

    /// The notation of a field. A number by the grammar of its source means the same whatever texts look like.
    fn notation<F: FieldAccess + ?Sized>(&self, row: &FieldReader<'_, F>, field: &DerivedField) -> &AmountNotation {
        match field.from {
            Derivation::Column(index) if self.reading != ReadingRules::First && row.fields.is_number(index) => {
                &self.numbers
            }
            _ => &self.notation,
        }
    }

    fn read_timestamp<F: FieldAccess + ?Sized>(
        &self,
        row: &FieldReader<'_, F>,
        from: &TimestampField,
    ) -> Result<ParsedTimestamp, Rejection> {
        let TimestampField { field, time_count } = from;
        let text = row.required(field, RejectReason::TimestampEmpty)?;
        let text = text.trim();
        match time_count {
            None => self.timestamps.read(text, self.time_zone, self.reading),
            Some(time_count) => time_count.read(text, self.reading).map(ParsedTimestamp::unambiguous),
        }
        .map_err(|error| self.explainer.timestamp(&field.shown, text, error, time_count.is_some()))
    }
}

fn without_blanks(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

pub(crate) fn is_blank(text: &str) -> bool {
    let is_visible = text.as_bytes().first().is_some_and(u8::is_ascii_graphic);
    !is_visible && text.trim().is_empty()
}

#[cfg(test)]
mod tests;

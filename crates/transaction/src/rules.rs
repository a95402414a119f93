//! The rules a row must pass, in one order, the first broken one being its reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::columns::Fields;
use crate::derivation::{AmountField, Row, TimestampField, text};
use crate::{
    Amount, AmountError, Columns, Dialect, HeaderError, Namespace, RawText, RejectReason, RunSettings, TimeZone,
    Timestamp, TimestampError, TimestampFormat, Transaction,
};

/// A longer row is rejected: 256 KiB.
pub const MAX_ROW_BYTES: usize = 256 * 1024;
/// How much of a rejected row's raw text is kept: 64 KiB of it.
pub const MAX_RAW_KEPT: usize = 64 * 1024;
/// How much of a wrong value a message quotes, in characters.
const MAX_QUOTED: usize = 40;

/// Which rule a row broke, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub reason: RejectReason,
    /// For a person: names the column and quotes the start of the value.
    pub message: String,
    /// Whether another reading of the value than the recognised one fits: the other decimal mark, or another order of day, month and
    /// year.
    pub other_reading: bool,
}

/// A row that broke a rule, as it is booked in `invalid_transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// 1-based over data rows.
    pub row: u64,
    /// The physical line of the file that the row starts at, 1-based.
    pub line: u64,
    /// The stable code.
    pub reason: RejectReason,
    /// For a person.
    pub message: String,
    /// The row's own bytes, at most [`MAX_RAW_KEPT`].
    pub raw: RawText,
}

/// A row that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidRow {
    /// The transaction it is.
    pub transaction: Transaction,
    /// Its original id, where that is no UUID.
    pub external_id: Option<String>,
    /// Whether its local time comes twice, as clocks go back in that hour: the earlier one was taken.
    pub is_ambiguous_hour: bool,
}

/// All that a row is judged by; a function of a run's frozen settings.
#[derive(Debug, Clone)]
pub struct Rules {
    columns: Columns,
    dialect: Dialect,
    timestamps: TimestampFormat,
    time_zone: TimeZone,
    namespace: Namespace,
}

impl Rules {
    /// The rules of a run, by its frozen header.
    pub fn of_run(settings: &RunSettings) -> Result<Self, HeaderError> {
        let columns = Columns::from_names(settings.header.clone(), settings.mapping.as_deref())?;
        Ok(Self::new(columns, settings))
    }

    /// The rules of a run whose header is resolved.
    pub fn new(columns: Columns, settings: &RunSettings) -> Self {
        Self {
            columns,
            dialect: settings.dialect,
            timestamps: settings.timestamps.clone(),
            time_zone: settings.time_zone,
            namespace: settings.namespace,
        }
    }

    /// Which column is which field.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Judges one row by its number, its unquoted fields and its length in the source.
    pub fn check(&self, number: u64, fields: &(impl Fields + ?Sized), raw_bytes: usize) -> Result<ValidRow, Rejection> {
        if raw_bytes > MAX_ROW_BYTES {
            return Err(reject(
                RejectReason::RowTooLarge,
                format!("the row has {raw_bytes} bytes, more than {MAX_ROW_BYTES}"),
            ));
        }
        if fields.count() != self.columns.count() {
            return Err(reject(
                RejectReason::FieldCount,
                format!("the row has {} fields, the header has {}", fields.count(), self.columns.count()),
            ));
        }
        let row = Row { number, fields, encoding: self.dialect.encoding };
        let columns = &self.columns;
        let id = row.required(&columns.id, RejectReason::IdEmpty)?;
        let description = row.required(&columns.description, RejectReason::DescriptionEmpty)?;
        let amount = self.read_amount(&row, &columns.amount)?;
        let timestamp = self.read_timestamp(&row, &columns.timestamp)?;
        let merchant = match &columns.merchant {
            Some(field) => row.derive(field)?,
            None => Cow::Borrowed(""),
        };
        let operation_type = row.required(&columns.operation_type, RejectReason::OperationTypeEmpty)?;
        let side = row.required(&columns.side, RejectReason::SideEmpty)?;
        let mut attributes = BTreeMap::new();
        for (index, name) in &columns.attributes {
            let value = row.text(*index).map_err(|error| error.of(&format!("`{name}`")))?;
            attributes.insert(name.clone(), value.into_owned());
        }
        for (name, value) in fields.extras() {
            let name = text(name, self.dialect.encoding).map_err(|error| error.of("a name"))?;
            if columns.keeps(&name) {
                let value = text(value, self.dialect.encoding).map_err(|error| error.of(&format!("`{name}`")))?;
                attributes.insert(name.clone().into_owned(), value.into_owned());
            }
        }
        let (id, external_id) = self.namespace.identify(id.trim());
        let transaction = Transaction {
            id,
            description: description.into_owned(),
            amount,
            timestamp,
            merchant: (!is_blank(&merchant)).then(|| merchant.into_owned()),
            operation_type: operation_type.into_owned(),
            side: side.into_owned(),
            attributes,
        };
        Ok(ValidRow { transaction, external_id, is_ambiguous_hour: false })
    }

    /// The amount of a row, where it can be read: that of a row which breaks another rule counts in the total as well.
    pub fn amount(&self, number: u64, fields: &(impl Fields + ?Sized)) -> Option<Amount> {
        if fields.count() != self.columns.count() {
            return None;
        }
        let row = Row { number, fields, encoding: self.dialect.encoding };
        self.read_amount(&row, &self.columns.amount).ok()
    }

    fn read_amount<F: Fields + ?Sized>(&self, row: &Row<'_, F>, from: &AmountField) -> Result<Amount, Rejection> {
        let AmountField { field, conversion } = from;
        let text = row.required(field, RejectReason::AmountEmpty)?;
        let (digits, mark) = (text.trim().as_bytes(), self.dialect.decimal_mark);
        match conversion {
            None => Amount::parse(digits, mark),
            Some(conversion) => {
                let is_negative = match &conversion.negative_when {
                    None => false,
                    Some((column, values)) => {
                        let value = row.text(*column).map_err(|error| error.of(&field.shown))?;
                        values.iter().any(|negative| negative == value.trim())
                    }
                };
                conversion.scaling.convert(digits, mark, is_negative)
            }
        }
        .map_err(|error| wrong_value(&field.shown, &text, error.into(), &error))
    }

    fn read_timestamp<F: Fields + ?Sized>(
        &self,
        row: &Row<'_, F>,
        from: &TimestampField,
    ) -> Result<Timestamp, Rejection> {
        let TimestampField { field, clock } = from;
        let text = row.required(field, RejectReason::TimestampEmpty)?;
        match clock {
            None => self.timestamps.parse(text.trim(), self.time_zone),
            Some(clock) => clock.read(text.trim().as_bytes()),
        }
        .map_err(|error| wrong_value(&field.shown, &text, error.into(), &error))
    }
}

pub(crate) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

pub(crate) fn reject(reason: RejectReason, message: String) -> Rejection {
    Rejection { reason, message, other_reading: false }
}

pub(crate) fn wrong_value(field: &str, value: &str, reason: RejectReason, error: &dyn std::fmt::Display) -> Rejection {
    let quoted: String = value.chars().take(MAX_QUOTED).collect();
    let ellipsis = if quoted.len() < value.len() { "…" } else { "" };
    reject(reason, format!("{field} {error}: `{quoted}{ellipsis}`"))
}

impl From<AmountError> for RejectReason {
    fn from(error: AmountError) -> Self {
        match error {
            AmountError::Format => Self::AmountFormat,
            AmountError::NotFinite => Self::AmountNotFinite,
            AmountError::Scale => Self::AmountScale,
            AmountError::Range => Self::AmountRange,
        }
    }
}

impl From<TimestampError> for RejectReason {
    fn from(error: TimestampError) -> Self {
        match error {
            TimestampError::Format | TimestampError::Pattern | TimestampError::Count(_) => Self::TimestampFormat,
            TimestampError::Gap => Self::TimestampGap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecimalMark, Delimiter, Encoding};

    const HEADER: &str = "id|description|amount|timestamp|merchant|operation_type|side|country";
    const GOOD: &str = "1|Card expense|-952,40|2023-11-28 06:35:12|EDF|refund|debit|FR";

    fn rules() -> Rules {
        let settings = RunSettings {
            dialect: Dialect {
                delimiter: Delimiter::Pipe,
                decimal_mark: DecimalMark::Comma,
                encoding: Encoding::UTF_8,
            },
            ..RunSettings::example()
        };
        let columns = Columns::from_names(HEADER.split('|').map(str::to_owned).collect(), None).unwrap();
        Rules::new(columns, &settings)
    }

    fn check(row: &[u8]) -> Result<ValidRow, Rejection> {
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'|').collect();
        rules().check(1, &fields[..], row.len())
    }

    #[test]
    fn a_good_row_becomes_a_transaction() {
        let ValidRow { transaction, external_id, .. } = check(GOOD.as_bytes()).unwrap();
        assert_eq!(external_id.as_deref(), Some("1"));
        assert_eq!(transaction.amount.to_string(), "-952.40");
        assert_eq!(transaction.timestamp.to_string(), "2023-11-28T06:35:12Z");
        assert_eq!(transaction.merchant.as_deref(), Some("EDF"));
        assert_eq!(transaction.attributes["country"], "FR");
    }

    #[test]
    fn a_merchant_may_be_absent() {
        let row = GOOD.replace("EDF", " ");
        assert_eq!(check(row.as_bytes()).unwrap().transaction.merchant, None);
    }

    #[test]
    fn every_rule_has_its_reason() {
        let cases: &[(&str, &str, RejectReason)] = &[
            ("1|Card", " |Card", RejectReason::IdEmpty),
            ("Card expense", "", RejectReason::DescriptionEmpty),
            ("-952,40", "", RejectReason::AmountEmpty),
            ("-952,40", "952.40", RejectReason::AmountFormat),
            ("-952,40", "NaN", RejectReason::AmountNotFinite),
            ("-952,40", "1,00001", RejectReason::AmountScale),
            ("-952,40", "12345678901234567", RejectReason::AmountRange),
            ("2023-11-28 06:35:12", "\t", RejectReason::TimestampEmpty),
            ("2023-11-28 06:35:12", "28/11/2023", RejectReason::TimestampFormat),
            ("refund", "", RejectReason::OperationTypeEmpty),
            ("debit", "", RejectReason::SideEmpty),
            ("EDF", "E\0F", RejectReason::NulByte),
            ("|FR", "", RejectReason::FieldCount),
            ("|FR", "|FR|more", RejectReason::FieldCount),
        ];
        for (good, bad, reason) in cases {
            let row = GOOD.replace(good, bad);
            assert_eq!(check(row.as_bytes()).unwrap_err().reason, *reason, "{row:?}");
        }
        assert_eq!(check(b"1|\xe9|1|2023-11-28 06:35:12|||x|FR").unwrap_err().reason, RejectReason::Encoding);
        let long = GOOD.replace("Card", &"x".repeat(MAX_ROW_BYTES));
        assert_eq!(check(long.as_bytes()).unwrap_err().reason, RejectReason::RowTooLarge);
    }

    #[test]
    fn a_message_names_the_column_and_quotes_a_bounded_value() {
        let row = GOOD.replace("-952,40", &"9".repeat(50));
        assert_eq!(
            check(row.as_bytes()).unwrap_err().message,
            format!("`amount` has more than 16 digits before the decimal mark: `{}…`", "9".repeat(40))
        );
    }

    /// Judges a row of another schema, as the source's row 7.
    fn check_mapped(mapping: &str, row: &str) -> Result<Transaction, Rejection> {
        let names = "ref|memo|amt|dc|when|kind".split('|').map(str::to_owned).collect();
        let columns = Columns::from_names(names, Some(&serde_json::from_str(mapping).unwrap())).unwrap();
        let fields: Vec<&[u8]> = row.split('|').map(str::as_bytes).collect();
        let dialect = Dialect { delimiter: Delimiter::Pipe, ..RunSettings::example().dialect };
        let settings = RunSettings { dialect, ..RunSettings::example() };
        Rules::new(columns, &settings).check(7, &fields[..], row.len()).map(|valid| valid.transaction)
    }

    const MAPPING: &str = r#"{"id":{"template":"{ref}/{row}"},"description":"memo","amount":{"column":"amt","unit":"minor","negative_when":{"column":"dc","is":"D"}},"timestamp":{"column":"when","unit":"seconds"},"merchant":{"constant":"ACME"},"operation_type":{"column":"kind","values":{"PMT":"payment"},"otherwise":"other"},"side":{"column":"dc","values":{"D":"debit","C":"credit"}},"attributes":{"keep":["ref"]}}"#;

    #[test]
    fn a_row_of_another_schema_becomes_a_transaction() {
        let debit = check_mapped(MAPPING, "A1| Rent |95000| D |1325376018|PMT").unwrap();
        assert_eq!(debit.id, Namespace::new("example").identify("A1/7").0);
        assert_eq!((debit.description.as_str(), debit.amount.to_string().as_str()), (" Rent ", "-950.00"));
        assert_eq!(debit.timestamp.to_string(), "2012-01-01T00:00:18Z");
        assert_eq!((debit.merchant.as_deref(), debit.operation_type.as_str()), (Some("ACME"), "payment"));
        assert_eq!((debit.side.as_str(), debit.attributes["ref"].as_str()), ("debit", "A1"));
        let credit = check_mapped(MAPPING, "A2|Wages|7|C|0|WAGE").unwrap();
        assert_eq!((credit.amount.to_string(), credit.operation_type), ("0.07".to_owned(), "other".to_owned()));
    }

    #[test]
    fn a_message_of_a_mapped_field_names_the_column_too() {
        let cases = [
            ("A|m|1|X|0|PMT", "value_unknown: `side` (column `dc`) is no value that the mapping knows: `X`"),
            ("A|m|x|D|0|PMT", "amount_format: `amount` (column `amt`) is not a decimal number: `x`"),
            ("A|m|1.234|D|0|PMT", "amount_scale: `amount` (column `amt`) has more than 4 decimals: `1.234`"),
            ("A| |1|D|0|PMT", "description_empty: `description` (column `memo`) is empty"),
            (
                "A|m|1|D|1325376018000|PMT",
                "timestamp_format: `timestamp` (column `when`) is not a number of seconds that gives a year from 0 to \
                 9999: `1325376018000`",
            ),
            ("A\0|m|1|D|0|PMT", "nul_byte: `id` (template `{ref}/{row}`) holds a NUL byte"),
        ];
        for (row, expected) in cases {
            let Rejection { reason, message, .. } = check_mapped(MAPPING, row).unwrap_err();
            assert_eq!(format!("{reason}: {message}"), expected);
        }
    }
}

//! The rules a row must pass, in one order, the first broken one being its reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::columns::Fields;
use crate::{
    Amount, AmountError, Columns, Dialect, Encoding, Namespace, RawText, RejectReason, RunSettings, TimeZone,
    TimestampError, TimestampFormat, Transaction,
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
    /// The rules of a run.
    pub fn new(columns: Columns, settings: &RunSettings) -> Self {
        Self {
            columns,
            dialect: settings.dialect,
            timestamps: settings.timestamps.clone(),
            time_zone: settings.time_zone,
            namespace: settings.namespace,
        }
    }

    /// Judges one row by its unquoted fields and its length in the source.
    pub fn check(&self, fields: &(impl Fields + ?Sized), raw_bytes: usize) -> Result<ValidRow, Rejection> {
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
        let row = Row { fields, dialect: self.dialect };
        let columns = &self.columns;
        let id = row.required(columns.id, "id", RejectReason::IdEmpty)?;
        let description = row.required(columns.description, "description", RejectReason::DescriptionEmpty)?;
        let amount = row.required(columns.amount, "amount", RejectReason::AmountEmpty)?;
        let amount = Amount::parse(amount.trim().as_bytes(), self.dialect.decimal_mark)
            .map_err(|error| wrong_value("amount", &amount, error.into(), &error))?;
        let timestamp = row.required(columns.timestamp, "timestamp", RejectReason::TimestampEmpty)?;
        let timestamp = (self.timestamps)
            .parse(timestamp.trim(), self.time_zone)
            .map_err(|error| wrong_value("timestamp", &timestamp, error.into(), &error))?;
        let merchant = match columns.merchant {
            Some(index) => row.text(index, "merchant")?,
            None => Cow::Borrowed(""),
        };
        let operation_type =
            row.required(columns.operation_type, "operation_type", RejectReason::OperationTypeEmpty)?;
        let side = row.required(columns.side, "side", RejectReason::SideEmpty)?;
        let mut attributes = BTreeMap::new();
        for (index, name) in &columns.attributes {
            attributes.insert(name.clone(), row.text(*index, name)?.into_owned());
        }
        for (name, value) in fields.extras() {
            let name = text(self.dialect.encoding, name, "a name")?;
            let value = text(self.dialect.encoding, value, &name)?.into_owned();
            attributes.insert(name.into_owned(), value);
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
        Ok(ValidRow { transaction, external_id })
    }

    /// The amount of a row, where it can be read: that of a row which breaks another rule counts in the total as well.
    pub fn amount(&self, fields: &(impl Fields + ?Sized)) -> Option<Amount> {
        if fields.count() != self.columns.count() {
            return None;
        }
        let text = self.dialect.encoding.decode(fields.get(self.columns.amount)?)?;
        Amount::parse(text.trim().as_bytes(), self.dialect.decimal_mark).ok()
    }
}

/// One row while it is judged.
struct Row<'a, F: ?Sized> {
    fields: &'a F,
    dialect: Dialect,
}

impl<'a, F: Fields + ?Sized> Row<'a, F> {
    fn text(&self, index: usize, column: &str) -> Result<Cow<'a, str>, Rejection> {
        text(self.dialect.encoding, self.fields.get(index).unwrap_or_default(), column)
    }

    fn required(&self, index: usize, column: &str, empty: RejectReason) -> Result<Cow<'a, str>, Rejection> {
        let text = self.text(index, column)?;
        if is_blank(&text) {
            return Err(reject(empty, format!("`{column}` is empty")));
        }
        Ok(text)
    }
}

/// The text of a field, where PostgreSQL can store it.
fn text<'a>(encoding: Encoding, bytes: &'a [u8], column: &str) -> Result<Cow<'a, str>, Rejection> {
    let text = encoding.decode(bytes).ok_or_else(|| {
        reject(RejectReason::Encoding, format!("`{column}` is not valid text in the source's encoding"))
    })?;
    if text.as_bytes().contains(&0) {
        return Err(reject(RejectReason::NulByte, format!("`{column}` holds a NUL byte")));
    }
    Ok(text)
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn reject(reason: RejectReason, message: String) -> Rejection {
    Rejection { reason, message }
}

fn wrong_value(column: &str, value: &str, reason: RejectReason, error: &dyn std::fmt::Display) -> Rejection {
    let quoted: String = value.chars().take(MAX_QUOTED).collect();
    let ellipsis = if quoted.len() < value.len() { "…" } else { "" };
    reject(reason, format!("`{column}` {error}: `{quoted}{ellipsis}`"))
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
            TimestampError::Format | TimestampError::Pattern => Self::TimestampFormat,
            TimestampError::Gap => Self::TimestampGap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecimalMark, Delimiter};

    const HEADER: &str = "id|description|amount|timestamp|merchant|operation_type|side|country";
    const GOOD: &str = "1|Card expense|-952,40|2023-11-28 06:35:12|EDF|refund|debit|FR";

    fn rules() -> Rules {
        let settings = RunSettings {
            dialect: Dialect { delimiter: Delimiter::Pipe, decimal_mark: DecimalMark::Comma, encoding: Encoding::Utf8 },
            ..RunSettings::example()
        };
        let columns = Columns::from_names(HEADER.split('|').map(str::to_owned).collect()).unwrap();
        Rules::new(columns, &settings)
    }

    fn check(row: &[u8]) -> Result<ValidRow, Rejection> {
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'|').collect();
        rules().check(&fields[..], row.len())
    }

    #[test]
    fn a_good_row_becomes_a_transaction() {
        let ValidRow { transaction, external_id } = check(GOOD.as_bytes()).unwrap();
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
}

//! A transaction as it lies in its JSON: texts are borrowed, numbers are read, attributes stay as they are. The writer reads each row
//! this way, once.
//!
//! Nearly every transaction is written as this program writes them: the fields in their order, nothing escaped, no blanks. That form is
//! read in one pass; all others are read as any JSON is. What is read is the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::transaction::has_attributes;
use crate::{Amount, DecimalMark, TimeZone, Timestamp, Transaction};

/// A [`Transaction`] that borrows from its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionView<'a> {
    /// As in [`Transaction`].
    pub id: Uuid,
    /// As in [`Transaction`].
    pub description: Cow<'a, str>,
    /// As in [`Transaction`].
    pub amount: Amount,
    /// As in [`Transaction`].
    pub timestamp: Timestamp,
    /// As in [`Transaction`].
    pub merchant: Option<Cow<'a, str>>,
    /// As in [`Transaction`].
    pub operation_type: Cow<'a, str>,
    /// As in [`Transaction`].
    pub side: Cow<'a, str>,
    /// The attributes as a JSON object, none if there are none. They are checked to be texts by name, and not decoded: a row may have
    /// thousands of them.
    pub attributes: Option<&'a str>,
}

impl<'a> TransactionView<'a> {
    /// Reads what is known to be JSON.
    pub(super) fn read(json: &'a str) -> serde_json::Result<Self> {
        Self::read_usual(json).map_or_else(|| Self::read_any(json), Ok)
    }

    /// Reads the usual form; `None` for all others.
    fn read_usual(json: &'a str) -> Option<Self> {
        let mut rest = Rest(json);
        rest.skip(r#"{"id":""#)?;
        let id = Uuid::try_parse_ascii(rest.text()?.as_bytes()).ok()?;
        rest.skip(r#","description":""#)?;
        let description = rest.text()?;
        rest.skip(r#","amount":"#)?;
        let amount = Amount::parse(rest.number()?.as_bytes(), DecimalMark::Point).ok()?;
        rest.skip(r#","timestamp":""#)?;
        let timestamp = Timestamp::parse(rest.text()?.as_bytes(), TimeZone::UTC).ok()?;
        rest.skip(r#","merchant":"#)?;
        let merchant = if rest.skip("null").is_some() {
            None
        } else {
            rest.skip("\"")?;
            Some(rest.text()?)
        };
        rest.skip(r#","operation_type":""#)?;
        let operation_type = rest.text()?;
        rest.skip(r#","side":""#)?;
        let side = rest.text()?;
        let attributes = if rest.0 == "}" {
            None
        } else {
            rest.skip(r#","attributes":"#)?;
            Some(rest.0.strip_suffix('}').filter(|attributes| are_plain_attributes(attributes))?)
        };
        Some(Self {
            id,
            description: description.into(),
            amount,
            timestamp,
            merchant: merchant.map(Into::into),
            operation_type: operation_type.into(),
            side: side.into(),
            attributes,
        })
    }

    fn read_any(json: &'a str) -> serde_json::Result<Self> {
        let AnyTransaction { id, description, amount, timestamp, merchant, operation_type, side, attributes } =
            serde_json::from_str(json)?;
        let attributes = match attributes {
            Some(json) if has_attributes(json.get())? => Some(json.get()),
            _ => None,
        };
        let merchant = merchant.map(Cow::Owned);
        Ok(Self { id, description, amount, timestamp, merchant, operation_type, side, attributes })
    }

    /// The transaction with its attributes, decoded.
    pub fn to_transaction(&self) -> Transaction {
        // They were checked.
        let attributes: Option<BTreeMap<_, _>> =
            self.attributes.and_then(|attributes| serde_json::from_str(attributes).ok());
        Transaction {
            id: self.id,
            description: self.description.clone().into_owned(),
            amount: self.amount,
            timestamp: self.timestamp,
            merchant: self.merchant.clone().map(Cow::into_owned),
            operation_type: self.operation_type.clone().into_owned(),
            side: self.side.clone().into_owned(),
            attributes: attributes.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct AnyTransaction<'a> {
    id: Uuid,
    #[serde(borrow)]
    description: Cow<'a, str>,
    amount: Amount,
    timestamp: Timestamp,
    #[serde(default)]
    merchant: Option<String>,
    #[serde(borrow)]
    operation_type: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
}

/// What is left to read of a JSON text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// A text in which nothing is escaped, and its closing quote.
    fn text(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    fn number(&mut self) -> Option<&'a str> {
        let (number, rest) = self.0.split_at(self.0.bytes().position(|byte| byte == b',')?);
        self.0 = rest;
        Some(number)
    }
}

/// Whether JSON is an object of some texts without blanks between them, in which nothing is escaped.
fn are_plain_attributes(json: &str) -> bool {
    let mut rest = Rest(json);
    let mut attribute = |before| {
        rest.skip(before)?;
        rest.text()?;
        rest.skip(":\"")?;
        rest.text()?;
        Some(rest.0 == "}")
    };
    let mut is_last = attribute("{\"");
    while is_last == Some(false) {
        is_last = attribute(",\"");
    }
    is_last.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::EncodedTransaction;

    const USUAL: &str = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"Café","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}"#;

    #[test]
    fn the_usual_form_is_borrowed() {
        let view = TransactionView::read_usual(USUAL).unwrap();
        assert_eq!(Ok(&view), TransactionView::read_any(USUAL).as_ref().map_err(ToString::to_string));
        assert_eq!((&*view.description, view.amount.to_string().as_str(), view.attributes), ("Café", "-952.40", None));
        for (attributes, expected) in [
            (r#"{"a":"b"}"#, Some(r#"{"a":"b"}"#)),
            (r#"{"":"","}":"{}","c":"d,"}"#, Some(r#"{"":"","}":"{}","c":"d,"}"#)),
        ] {
            let json = format!(r#"{},"attributes":{attributes}}}"#, &USUAL[..USUAL.len() - 1]);
            assert_eq!(TransactionView::read_usual(&json).unwrap().attributes, expected, "{json}");
        }
    }

    #[test]
    fn other_forms_are_read_as_any_json() {
        let with_attributes =
            |attributes: &str| format!(r#"{},"attributes":{attributes}}}"#, &USUAL[..USUAL.len() - 1]);
        for (json, is_readable) in [
            (USUAL.replace("Café", "Caf\\u00e9"), true),
            (USUAL.replace("Café", r#"\"Café\""#), true),
            (USUAL.replace(',', ", "), true),
            (USUAL.replace("-952.40", "\"-952.40\""), true),
            (USUAL.replace(r#""merchant":null,"#, ""), true),
            (USUAL.replace(r#"{"id""#, r#"{"risk":1,"id""#), true),
            (with_attributes("{}"), true),
            (with_attributes("null"), true),
            (with_attributes(r#"{"a": "b"}"#), true),
            (with_attributes(r#"{"a":"\n"}"#), true),
            (with_attributes(r#"{"a":1}"#), false),
            (with_attributes(r#"{"a":"b","c":null}"#), false),
            (with_attributes("[]"), false),
            (USUAL.replace("-952.40", "1e3"), false),
            (USUAL.replace("-952.40", "0.00001"), false),
            (USUAL.replace("2023-11-28", "2023-11-31"), false),
            (USUAL.replace("67e55044", "67e5504"), false),
            (USUAL.replace("\"refund\"", "null"), false),
        ] {
            assert_eq!(TransactionView::read_usual(&json), None, "{json}");
            let read = TransactionView::read(&json);
            assert_eq!(read.is_ok(), is_readable, "{json}");
            let whole = serde_json::from_str::<Transaction>(&json.replace("\"attributes\":null", "\"attributes\":{}"));
            assert_eq!(read.ok().map(|view| view.to_transaction()), whole.ok(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn a_view_says_what_the_transaction_says(
            texts in prop::array::uniform3("[ -~]{0,12}|.{0,12}"),
            merchant in prop::option::of("[a-z]{0,8}|.{0,8}"),
            attributes in btree_map("[a-z]{0,4}|.{0,4}", "[a-z]{0,8}|.{0,8}", 0..4),
            units in -10_i64.pow(17)..10_i64.pow(17),
            micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000,
            id: u128,
        ) {
            let [description, operation_type, side] = texts;
            let amount = format!("{}.{:04}", units / 10_000, units.unsigned_abs() % 10_000).parse().unwrap();
            let timestamp = Timestamp::from(chrono::DateTime::from_timestamp_micros(micros).unwrap());
            let id = Uuid::from_u128(id);
            let transaction =
                Transaction { id, description, amount, timestamp, merchant, operation_type, side, attributes };
            let encoded = EncodedTransaction::new(&transaction).unwrap();
            let json = encoded.as_json();
            let any = TransactionView::read_any(json).unwrap();
            prop_assert_eq!(&any.to_transaction(), &transaction);
            if let Some(usual) = TransactionView::read_usual(json) {
                prop_assert_eq!(usual, any);
            } else {
                prop_assert!(json.contains('\\'), "{}", json);
            }
        }
    }
}

//! A transaction of a request, borrowed from the body except for text with escapes.

use std::borrow::Cow;
use std::fmt;

use assay_transaction::{TimeZone, Timestamp};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// The fields of a transaction that the model knows; all others are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionFields<'a> {
    /// Returned as `transaction_id`; the model ignores it.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The text on the account statement.
    #[serde(borrow)]
    pub description: Cow<'a, str>,
    /// Usually negative for money that leaves the account. A float is exact enough for scoring; it is never stored.
    pub amount: f64,
    /// When it happened; UTC if it names no zone.
    #[serde(deserialize_with = "timestamp")]
    pub timestamp: Timestamp,
    /// Who was paid; `null`, empty and absent are the same.
    #[serde(borrow, default, deserialize_with = "optional")]
    pub merchant: Option<Cow<'a, str>>,
    /// Such as `transfer`, `card_payment`, `refund`.
    #[serde(borrow)]
    pub operation_type: Cow<'a, str>,
    /// Such as `debit` or `credit`.
    #[serde(borrow)]
    pub side: Cow<'a, str>,
}

/// Text that borrows even inside an `Option`, where serde would copy.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

fn optional<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(Option::<BorrowedText<'a>>::deserialize(deserializer)?.map(|text| text.0))
}

/// Reads a timestamp without a copy of its text.
pub(crate) fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    struct TimestampVisitor;

    impl Visitor<'_> for TimestampVisitor {
        type Value = Timestamp;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an ISO 8601 date and time")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
            Timestamp::parse(text.as_bytes(), TimeZone::UTC).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(TimestampVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_borrowed_unless_it_holds_escapes() {
        let body = r#"{"id":"1","description":"a \"b\"","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z",
            "merchant":"EDF","operation_type":"refund","side":"debit","attributes":{"country":"FR"},"more":[1,{}]}"#;
        let fields: TransactionFields<'_> = serde_json::from_str(body).unwrap();
        assert!(matches!(fields.id, Cow::Borrowed("1")));
        assert!(matches!(fields.merchant, Some(Cow::Borrowed("EDF"))));
        assert!(matches!(fields.description, Cow::Owned(_)));
        assert_eq!(fields.description, "a \"b\"");
        assert_eq!(fields.timestamp.as_datetime().to_rfc3339(), "2023-11-28T06:35:12+00:00");
    }

    #[test]
    fn a_merchant_may_be_null_or_absent() {
        for merchant in ["", r#""merchant":null,"#] {
            let body = format!(
                r#"{{"id":"1","description":"d","amount":1,{merchant}"timestamp":"2023-11-28 06:35:12","operation_type":"o","side":"s"}}"#
            );
            assert_eq!(serde_json::from_str::<TransactionFields<'_>>(&body).unwrap().merchant, None);
        }
    }
}

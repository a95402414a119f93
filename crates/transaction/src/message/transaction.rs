//! A transaction: one valid row, as sent to the model and stored.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::{Amount, Timestamp};

/// One valid row. Its JSON form is what the ML API receives, field for field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The stored identity; see [`crate::Namespace::identify`].
    pub id: Uuid,
    /// The description the bank's customer sees; not empty.
    pub description: String,
    /// Exact; its scale is the source's.
    pub amount: Amount,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The payee, if the source has one.
    #[serde(default)]
    pub merchant: Option<String>,
    /// Such as `transfer`, `card_payment`, `refund`; not empty, otherwise free.
    pub operation_type: String,
    /// Such as `debit` or `credit`; not empty, otherwise free.
    pub side: String,
    /// All other columns of the source by header name, stored and sent to the model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Checks that JSON is an object of texts, without keeping it; whether it has any.
pub fn has_attributes(json: &str) -> serde_json::Result<bool> {
    struct AttributeText;

    impl<'de> Deserialize<'de> for AttributeText {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_str(AttributeTextVisitor)
        }
    }

    struct AttributeTextVisitor;

    impl Visitor<'_> for AttributeTextVisitor {
        type Value = AttributeText;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a text")
        }

        fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<AttributeText, E> {
            Ok(AttributeText)
        }
    }

    struct AttributesVisitor;

    impl<'de> Visitor<'de> for AttributesVisitor {
        type Value = bool;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("texts by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut has_any = false;
            while map.next_entry::<AttributeText, AttributeText>()?.is_some() {
                has_any = true;
            }
            Ok(has_any)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(json);
    let has_any = reader.deserialize_map(AttributesVisitor)?;
    reader.end()?;
    Ok(has_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_json_is_the_ml_apis_contract() {
        let json = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"Café","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit","attributes":{"country":"FR"}}"#;
        let transaction: Transaction = serde_json::from_str(json).unwrap();
        assert_eq!(transaction.amount.to_string(), "-952.40");
        assert_eq!(serde_json::to_string(&transaction).unwrap(), json);
    }
}

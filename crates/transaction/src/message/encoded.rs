//! A transaction as JSON: the bytes that the loader encodes once, and that every later stage passes on.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::view::TransactionView;
use crate::{Transaction, WireError};

/// A transaction in the exact bytes the ML API receives: encoded once by the loader, and passed through. A decoded chunk and its
/// transactions share one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedTransaction(Bytes);

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(source: serde_json::Error) -> WireError {
    WireError::new("transaction", &source)
}

impl EncodedTransaction {
    /// Encodes a transaction.
    pub fn new(transaction: &Transaction) -> Result<Self, WireError> {
        serde_json::to_vec(transaction).map(|json| Self(json.into())).map_err(unreadable)
    }

    /// JSON that was found in a body, without a copy of it.
    pub(crate) fn within(body: &Bytes, json: &RawValue) -> Self {
        Self(body.slice_ref(json.get().as_bytes()))
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        // It was read or written as JSON.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same in a buffer of its own, to be kept longer than its chunk.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The id of a failed transaction, or zeros: one without a readable id cannot be matched by it, but still has its row.
    pub(super) fn id_or_nil(&self) -> Uuid {
        self.id().unwrap_or_default()
    }

    /// The transaction's id, without decoding the rest.
    pub fn id(&self) -> Result<Uuid, WireError> {
        #[derive(Deserialize)]
        struct Id {
            id: Uuid,
        }
        const BEFORE: &[u8] = br#"{"id":""#;
        const LENGTH: usize = 36;
        // Our encoding puts it first; any other JSON is parsed.
        let written = self.0.strip_prefix(BEFORE).and_then(|rest| rest.split_at_checked(LENGTH));
        if let Some((id, [b'"', ..])) = written
            && let Ok(id) = Uuid::try_parse_ascii(id)
        {
            return Ok(id);
        }
        serde_json::from_slice::<Id>(&self.0).map(|found| found.id).map_err(unreadable)
    }

    /// The transaction as it lies here, without a copy of its texts.
    pub fn view(&self) -> Result<TransactionView<'_>, WireError> {
        TransactionView::read(self.as_json()).map_err(unreadable)
    }

    /// The whole transaction.
    pub fn decode(&self) -> Result<Transaction, WireError> {
        serde_json::from_slice(&self.0).map_err(unreadable)
    }
}

impl Serialize for EncodedTransaction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EncodedTransaction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer).map_err(de::Error::custom)?;
        Ok(Self(Box::<str>::from(json).into_string().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_bytes_of_a_transaction_pass_through() {
        let spaced = r#"{ "id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "amount": 1.50 }"#;
        let encoded: EncodedTransaction = serde_json::from_str(spaced).unwrap();
        assert_eq!(encoded.as_json(), spaced);
        assert_eq!(encoded.id().unwrap().to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert!(encoded.decode().is_err(), "a transaction has more fields");
        assert!(encoded.view().is_err());
    }

    #[test]
    fn attributes_stay_json_and_are_checked() {
        let whole = |attributes: &str| -> EncodedTransaction {
            let fields = r#""id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"x","amount":1.50,"timestamp":"2023-11-28T06:35:12Z","operation_type":"refund","side":"debit""#;
            serde_json::from_str(&format!("{{{fields}{attributes}}}")).unwrap()
        };
        for (attributes, expected) in [
            ("", None),
            (r#","attributes":{}"#, None),
            (r#","attributes":{ }"#, None),
            (r#","attributes":{"country":"F\u0052","b":""}"#, Some(r#"{"country":"F\u0052","b":""}"#)),
        ] {
            let encoded = whole(attributes);
            let view = encoded.view().unwrap();
            assert_eq!(view.attributes, expected);
            assert_eq!(view.to_transaction(), encoded.decode().unwrap());
        }
        for attributes in [r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{"b":"c"}}"#, "[]", "7", r#"{"a":"\ud800"}"#] {
            let encoded = whole(&format!(r#","attributes":{attributes}"#));
            assert!(encoded.decode().is_err(), "{attributes}");
            assert!(encoded.view().is_err(), "{attributes}");
        }
    }
}

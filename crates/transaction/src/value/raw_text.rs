//! Bytes of a source that may not be text, carried through JSON without loss.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A row as it stands in its source, byte for byte. On the wire `{"text": …}`, or `{"base64": …}` if it is not UTF-8,
/// so that a broken row cannot break its record.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawText(pub Bytes);

impl RawText {
    /// The bytes, for a `BYTEA` or `BLOB` column.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Bytes>> From<T> for RawText {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

/// Shows only the length: raw text may hold card numbers, and debug output ends up in logs.
impl fmt::Debug for RawText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RawText({} bytes)", self.0.len())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawTextForm<'a> {
    Text(std::borrow::Cow<'a, str>),
    Base64(std::borrow::Cow<'a, str>),
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => RawTextForm::Text(text.into()),
            Err(_) => RawTextForm::Base64(STANDARD.encode(&self.0).into()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawTextForm::deserialize(deserializer)? {
            RawTextForm::Text(text) => Ok(Self(text.into_owned().into())),
            RawTextForm::Base64(text) => {
                STANDARD.decode(text.as_bytes()).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_readable_on_the_wire() {
        assert_eq!(serde_json::to_string(&RawText::from("1;café")).unwrap(), r#"{"text":"1;café"}"#);
        assert_eq!(serde_json::to_string(&RawText::from(&b"caf\xe9"[..])).unwrap(), r#"{"base64":"Y2Fm6Q=="}"#);
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_wire(bytes: Vec<u8>) {
            let raw = RawText::from(bytes);
            let back: RawText = serde_json::from_slice(&serde_json::to_vec(&raw).unwrap()).unwrap();
            prop_assert_eq!(back, raw);
        }
    }
}

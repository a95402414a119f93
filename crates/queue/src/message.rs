//! Messages: what travels through a broker.
//!
//! On RabbitMQ, `id` is the property `message_id`, `kind` the property `type`, the body is JSON (`content_type`), and the
//! headers are `run_id`, `lane`, `attempt`, `published_at_us` and, if present, `traceparent`. External producers may set the
//! properties `app_id` and `timestamp`. A missing or unknown header is no error: versions N and N−1 share a broker during an
//! upgrade.

use std::time::{SystemTime, UNIX_EPOCH};

use assay_transaction::{RunId, quoted, shape};
use bytes::Bytes;

/// The largest body that every supported broker takes: RabbitMQ 4 refuses messages over 16 MiB.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// One message, as it is published and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity, the same in each attempt; at most 255 bytes.
    pub id: String,
    /// The type of the body with its version, such as `assay.chunk.v1`.
    pub kind: String,
    /// The run it belongs to.
    pub run_id: String,
    /// Failed attempts so far.
    pub attempt: u32,
    /// When it was first published, in microseconds since 1970.
    pub published_at_us: u64,
    /// The name of the sending program (`app_id`); empty for our own.
    pub app_id: String,
    /// When it was sent according to the sender, in seconds since 1970 (`timestamp`).
    pub sent_at: Option<u64>,
    /// Its W3C trace context.
    pub traceparent: Option<String>,
    /// The content; empty once [`Broker::compress`](crate::Broker::compress) has packed it.
    pub body: Bytes,
    /// The body of another message, which this one passes on as it came.
    pub enclosed: Option<Bytes>,
    /// The compressed forms of both.
    pub packed: PackedForms,
}

/// Compressed forms of a body and of an enclosed body, as they came or are to be sent: nothing is compressed twice. They say nothing
/// that the bodies do not say, so messages are equal without regard to them.
#[derive(Debug, Clone, Default)]
pub struct PackedForms {
    pub(crate) body: Option<Bytes>,
    pub(crate) enclosed: Option<Bytes>,
}

impl PartialEq for PackedForms {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PackedForms {}

/// Replaces each unreadable byte in the properties of external messages (ASCII: substitute).
pub(crate) const SUBSTITUTE: u8 = 0x1a;

impl Message {
    /// A first attempt, published now.
    pub fn new(id: impl Into<String>, kind: &str, run_id: &RunId, body: impl Into<Bytes>) -> Self {
        Self { id: id.into(), run_id: run_id.to_string(), ..Self::without_run(kind, body) }
    }

    /// A message about no run, such as a broadcast.
    pub fn without_run(kind: &str, body: impl Into<Bytes>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: String::new(),
            kind: kind.to_owned(),
            run_id: String::new(),
            attempt: 0,
            published_at_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
            app_id: String::new(),
            sent_at: None,
            traceparent: None,
            body: body.into(),
            enclosed: None,
            packed: PackedForms::default(),
        }
    }

    /// The message with the body of another one, as that came.
    #[must_use]
    pub fn enclosing(self, other: &Self) -> Self {
        let packed = PackedForms { enclosed: other.packed.body.clone(), ..self.packed };
        Self { enclosed: Some(other.body.clone()), packed, ..self }
    }

    /// The bytes of the body and of the enclosed one.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.enclosed.as_ref().map_or(0, Bytes::len)
    }

    /// The body followed by the enclosed one, for a record of the whole message.
    pub fn whole(&self) -> Vec<u8> {
        [&self.body, self.enclosed.as_ref().unwrap_or(&Bytes::new())].map(|part| &part[..]).concat()
    }

    /// Why its identity is unknown, if it is: one of the texts was not UTF-8, or the properties could not be read at all.
    pub(crate) fn unreadable(&self) -> Option<&'static str> {
        [&self.id, &self.kind, &self.app_id].into_iter().any(|text| text.as_bytes().contains(&SUBSTITUTE)).then_some(
            "its properties cannot be read: message_id, type and app_id must be UTF-8, and headers few and flat",
        )
    }

    /// Its type, fit for logs and reasons: the text if it reads like one of ours, else only its shape, as external senders may
    /// write anything into it.
    pub fn kind_shown(&self) -> String {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
        let digits = self.kind.bytes().filter(u8::is_ascii_digit).count();
        let is_ours = self.kind.starts_with("assay.") && self.kind.bytes().all(is_allowed) && digits <= MAX_DIGITS;
        if is_ours { quoted(&self.kind) } else { shape(&self.kind) }
    }
}

/// Most digits in the version of a type.
const MAX_DIGITS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_types_are_shown() {
        for (kind, shown) in [
            ("assay.chunk.v99", "`assay.chunk.v99`"),
            ("assay.4111111111111111", "`AAAAA.NNNNNNNNNNNNNNNN`"),
            ("assay.Jean Dupont", "`AAAAA.AAAA AAAAAA`"),
            ("Jean\nDupont", "`AAAA\\nAAAAAA`"),
            ("", "``"),
        ] {
            assert_eq!(Message::new("m", kind, &"r".parse().unwrap(), "").kind_shown(), shown);
        }
    }
}

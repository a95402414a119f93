//! Messages: what travels through a broker.
//!
//! On RabbitMQ, `id` is the property `message_id`, `kind` the property `type`, the body is JSON (`content_type`), and the
//! headers are `run_id`, `lane`, `attempt`, `published_at_us` and, where there is one, `traceparent`. They are read
//! tolerantly, as are the properties `app_id` and `timestamp`, which other people's producers may set: a missing or unknown header is no error, as versions N and N−1 share a broker during an upgrade.

use std::time::{SystemTime, UNIX_EPOCH};

use assay_transaction::{RunId, quoted, shape};
use bytes::Bytes;

/// The largest body that every supported broker takes: RabbitMQ 4 refuses messages over 16 MiB.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// One message, as it is published and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity, the same each time it is sent; at most 255 bytes.
    pub id: String,
    /// The type of the body with its version, such as `assay.chunk.v1`.
    pub kind: String,
    /// The run it belongs to.
    pub run_id: String,
    /// How many attempts at its work have failed so far.
    pub attempt: u32,
    /// When it was first published, in microseconds since 1970.
    pub published_at_us: u64,
    /// The program that sent it, as it names itself (`app_id`); empty where it does not. Ours do not.
    pub app_id: String,
    /// When its sender says it was sent, in seconds since 1970 (`timestamp`).
    pub sent_at: Option<u64>,
    /// The W3C trace context it belongs to.
    pub traceparent: Option<String>,
    /// What is said.
    pub body: Bytes,
    /// Whether the body is packed for its way ([`Broker::compress`](crate::Broker::compress)). One that was delivered never is.
    pub is_compressed: bool,
}

/// What stands for a byte that cannot be read (ASCII: substitute), in the properties of messages of others.
pub(crate) const SUBSTITUTE: u8 = 0x1a;

impl Message {
    /// A first attempt, published now.
    pub fn new(id: impl Into<String>, kind: &str, run_id: &RunId, body: impl Into<Bytes>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: id.into(),
            kind: kind.to_owned(),
            run_id: run_id.to_string(),
            attempt: 0,
            published_at_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
            app_id: String::new(),
            sent_at: None,
            traceparent: None,
            body: body.into(),
            is_compressed: false,
        }
    }

    /// Why it cannot be told what it is, if it cannot: a text by which it is known was not UTF-8, or its properties could not
    /// be read at all.
    pub(crate) fn unreadable(&self) -> Option<&'static str> {
        [&self.id, &self.kind, &self.app_id].into_iter().any(|text| text.as_bytes().contains(&SUBSTITUTE)).then_some(
            "its properties cannot be read: message_id, type and app_id must be UTF-8, and headers few and flat",
        )
    }

    /// Its type as it may stand in logs and reasons: one that reads like ours is shown, and of any other one the shape, as senders may
    /// write into it what they like.
    pub fn kind_shown(&self) -> String {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
        let digits = self.kind.bytes().filter(u8::is_ascii_digit).count();
        let is_ours = self.kind.starts_with("assay.") && self.kind.bytes().all(is_allowed) && digits <= MOST_DIGITS;
        if is_ours { quoted(&self.kind) } else { shape(&self.kind) }
    }
}

/// How many digits a version of a type has at most.
const MOST_DIGITS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_type_of_ours_is_shown() {
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

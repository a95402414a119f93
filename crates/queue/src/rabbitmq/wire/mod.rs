//! Messages as AMQP properties and headers, and back. Long bodies are compressed on the way ([`compression`]); a body that encloses
//! another one carries it as it came ([`enclosure`]).
//!
//! Any headers can be read and passed on. Properties that the client cannot read are repaired before ([`super::inbound`]).

mod compression;
mod enclosure;

use assay_transaction::Lane;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use self::compression::ENCODING;
use super::topology::Topology;
use crate::message::MAX_MESSAGE_BYTES;
use crate::{Death, Message, PackedForms, PublishError};

const PERSISTENT: u8 = 2;
/// The longest id or type that AMQP carries.
const MAX_SHORT: usize = 255;
/// The longest header passed on. Ours are shorter; an external one could fill a frame, and RabbitMQ would close the connection over
/// the headers added to it.
const MAX_HEADER: usize = 1024;

/// The longest text of a death: our own reasons are shorter.
const MAX_DEATH: usize = 8 * 1024;
/// Memory of a header in addition to its text.
const HEADER_BYTES: usize = 128;

/// Prefix of the types of our messages. No others are compressed.
const OUR_KINDS: &str = "assay.";
/// The longest external body that an earlier version passed on.
const MAX_EXTERNAL: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct EncodedMessage {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// Encodes a message; `lane` is that of its work queue, if it goes to one.
pub(super) fn encode(
    message: Message,
    lane: Option<Lane>,
    death: Option<&Death>,
) -> Result<EncodedMessage, PublishError> {
    // Other programs read what goes to no work queue, so it is not compressed.
    let message = if lane.is_some() { compress(message) } else { message };
    let Message { id, kind, run_id, attempt, published_at_us, app_id, sent_at, traceparent, body, enclosed, packed } =
        message;
    let is_compressed = packed.body.is_some() && enclosed.is_none();
    let (body, enclosure) = match enclosed {
        None => (packed.body.unwrap_or(body), None),
        Some(enclosed) => {
            let encoding = if packed.enclosed.is_some() { ENCODING } else { enclosure::IDENTITY };
            (enclosure::join(&body, &packed.enclosed.unwrap_or(enclosed)), Some(encoding))
        }
    };
    // An id that does not fit would be a bug of ours, which no retry fixes.
    if body.len() > MAX_MESSAGE_BYTES || id.len() > MAX_SHORT || kind.len() > MAX_SHORT || app_id.len() > MAX_SHORT {
        return Err(PublishError::TooLarge { bytes: body.len() });
    }
    let mut headers = FieldTable::default();
    let mut text = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    text("run_id", &run_id[..run_id.floor_char_boundary(MAX_HEADER)]);
    if let Some(lane) = lane {
        text("lane", lane.as_str());
    }
    // A cut trace context would be invalid.
    if let Some(traceparent) = traceparent.as_deref().filter(|traceparent| traceparent.len() <= MAX_HEADER) {
        text("traceparent", traceparent);
    }
    if let Some(Death { queue, reason }) = death {
        text("dead_queue", queue);
        text("dead_reason", reason);
    }
    if let Some(encoding) = enclosure {
        text(enclosure::HEADER, encoding);
    }
    headers.insert("attempt".into(), AMQPValue::LongLongInt(attempt.into()));
    let published_at = i64::try_from(published_at_us).unwrap_or(i64::MAX);
    headers.insert("published_at_us".into(), AMQPValue::LongLongInt(published_at));
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(if enclosure.is_some() { enclosure::CONTENT_TYPE } else { "application/json" }.into())
        .with_message_id(id.as_str().into())
        .with_type(kind.into())
        .with_headers(headers);
    if !app_id.is_empty() {
        properties = properties.with_app_id(app_id.into());
    }
    if let Some(sent_at) = sent_at {
        properties = properties.with_timestamp(sent_at);
    }
    if is_compressed {
        properties = properties.with_content_encoding(ENCODING.into());
    }
    Ok(EncodedMessage { properties, body })
}

/// Compresses the body, or the enclosed one, if the message is one of ours and that makes it shorter. A body that is too large stays
/// as it is, to be refused.
pub(super) fn compress(message: Message) -> Message {
    if !message.kind.starts_with(OUR_KINDS) || message.bytes() > MAX_MESSAGE_BYTES {
        return message;
    }
    match &message.enclosed {
        Some(enclosed) => {
            let packed = message.packed.enclosed.clone().or_else(|| compression::compressed(enclosed));
            Message { packed: PackedForms { enclosed: packed, ..PackedForms::default() }, ..message }
        }
        None if message.packed.body.is_some() => message,
        None => match compression::compressed(&message.body) {
            Some(packed) => {
                let packed = PackedForms { body: Some(packed), ..PackedForms::default() };
                Message { body: Bytes::new(), packed, ..message }
            }
            None => message,
        },
    }
}

/// The size of the body, and of an enclosed one, after decompression.
pub(super) fn decompressed_bytes(properties: &BasicProperties, body: &[u8]) -> usize {
    if let Some(encoding) = enclosing(properties) {
        return enclosure::decompressed_bytes(&encoding, body);
    }
    let unpacked = max_decompressed(properties).and_then(|longest| compression::decompressed_bytes(body, longest));
    unpacked.unwrap_or(body.len())
}

/// The approximate size of the headers in memory; external ones may fill a frame.
pub(super) fn header_bytes(properties: &BasicProperties) -> usize {
    properties.headers().as_ref().map_or(0, table_bytes)
}

fn table_bytes(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| name.as_str().len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AMQPValue) -> usize {
    let content = match value {
        AMQPValue::LongString(text) => text.as_bytes().len(),
        AMQPValue::ShortString(text) => text.as_str().len(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(value_bytes).sum(),
        AMQPValue::FieldTable(table) => table_bytes(table),
        _ => 0,
    };
    HEADER_BYTES + content
}

/// The largest decompressed size; `None` if the body is external and is taken as it is.
fn max_decompressed(properties: &BasicProperties) -> Option<usize> {
    let said =
        |text: &Option<ShortString>, test: fn(&str) -> bool| text.as_ref().is_some_and(|text| test(text.as_str()));
    if !said(properties.content_encoding(), |encoding| encoding == ENCODING) {
        None
    } else if said(properties.kind(), |kind| kind.starts_with(OUR_KINDS)) {
        Some(MAX_MESSAGE_BYTES)
    } else {
        // Earlier versions compressed external messages when they passed them on; this header shows it.
        number(properties, "published_at_us").map(|_| MAX_EXTERNAL)
    }
}

/// The encoding of the enclosed body, if a message of ours has one.
fn enclosing(properties: &BasicProperties) -> Option<String> {
    let is_ours = properties.kind().as_ref().is_some_and(|kind| kind.as_str().starts_with(OUR_KINDS));
    if is_ours { text(properties, enclosure::HEADER, MAX_SHORT) } else { None }
}

/// Decodes a message. A body that cannot be decompressed or taken apart stays as it is; its reader will refuse it.
pub(super) fn decode(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let message = decode_uncompressed(properties, body);
    if let Some(encoding) = enclosing(properties) {
        return enclosure::take_apart(message, &encoding);
    }
    let unpacked = max_decompressed(properties).and_then(|longest| compression::decompressed(&message.body, longest));
    match unpacked {
        Some(unpacked) => {
            let packed = PackedForms { body: Some(message.body), ..PackedForms::default() };
            Message { body: unpacked.into(), packed, ..message }
        }
        None => message,
    }
}

/// Decodes a message, without regard to a content encoding.
pub(super) fn decode_uncompressed(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let short = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    Message {
        id: short(properties.message_id()),
        kind: short(properties.kind()),
        run_id: text(properties, "run_id", MAX_HEADER).unwrap_or_default(),
        attempt: number(properties, "attempt").and_then(|number| number.try_into().ok()).unwrap_or(0),
        published_at_us: number(properties, "published_at_us").unwrap_or(0),
        app_id: short(properties.app_id()),
        sent_at: *properties.timestamp(),
        // One of that length was cut, and is invalid.
        traceparent: text(properties, "traceparent", MAX_HEADER).filter(|traceparent| traceparent.len() < MAX_HEADER),
        body: body.into(),
        enclosed: None,
        packed: PackedForms::default(),
    }
}

/// Why a message is a dead letter: our own headers, else what RabbitMQ noted.
pub(super) fn death(properties: &BasicProperties, topology: &Topology) -> Death {
    if let (Some(queue), Some(reason)) =
        (text(properties, "dead_queue", MAX_DEATH), text(properties, "dead_reason", MAX_DEATH))
    {
        return Death { queue, reason };
    }
    let latest = match header(properties, "x-death") {
        // The latest comes first; earlier ones are delays that expired.
        Some(AMQPValue::FieldArray(deaths)) => match deaths.as_slice().first() {
            Some(AMQPValue::FieldTable(death)) => Some(death),
            _ => None,
        },
        _ => None,
    };
    let noted =
        |name: &str| latest.and_then(|death| death.inner().get(name)).and_then(|value| as_text(value, MAX_DEATH));
    let unknown = Death::unknown();
    Death {
        queue: noted("queue").map_or(unknown.queue, |queue| topology.without_prefix(&queue).to_owned()),
        reason: noted("reason").unwrap_or(unknown.reason),
    }
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// A header, cut to `most` bytes: an external one may fill a frame, and is held as long as the message.
fn text(properties: &BasicProperties, name: &str, most: usize) -> Option<String> {
    header(properties, name).and_then(|value| as_text(value, most))
}

fn as_text(value: &AMQPValue, most: usize) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => {
            let text = text.as_bytes();
            Some(String::from_utf8_lossy(&text[..text.len().min(most)]).into_owned())
        }
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// An integer of any kind.
fn number(properties: &BasicProperties, name: &str) -> Option<u64> {
    match *header(properties, name)? {
        AMQPValue::ShortShortInt(number) => number.try_into().ok(),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => number.try_into().ok(),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => number.try_into().ok(),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => number.try_into().ok(),
        AMQPValue::Timestamp(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

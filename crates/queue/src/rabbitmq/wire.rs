//! Messages as AMQP properties and headers, and back. Long bodies are compressed on the way ([`super::compression`]).
//!
//! Whatever headers come in are read as far as they go, and can be passed on. What the client cannot read is repaired before it
//! gets here ([`super::inbound`]).

use assay_transaction::Lane;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::compression::{self, ENCODING};
use super::topology::Topology;
use crate::message::MAX_MESSAGE_BYTES;
use crate::{Death, Message, PublishError};

const PERSISTENT: u8 = 2;
/// The longest id or type that AMQP carries.
const MAX_SHORT: usize = 255;
/// The longest text in a header that we pass on. Ours are shorter; what others sent could fill a frame up to its end, and then
/// RabbitMQ would close the connection for what is added to it.
const MAX_HEADER: usize = 1024;

/// The longest text of a death that is read: our own reasons are shorter.
const MAX_DEATH: usize = 8 * 1024;
/// What a header takes in memory beside its text.
const HEADER_BYTES: usize = 128;

/// What the types of our messages begin with. Nothing else is compressed.
const OUR_KINDS: &str = "assay.";
/// The longest body of others that an earlier version passed on.
const MAX_FOREIGN: usize = 1024 * 1024;

/// A message ready to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) properties: BasicProperties,
    pub(super) body: bytes::Bytes,
}

/// The lane is that of the work queue, if it goes to one.
pub(super) fn outgoing(message: Message, lane: Option<Lane>, death: Option<&Death>) -> Result<Outgoing, PublishError> {
    // What goes to no work queue is read by others than our own programs, and is not packed.
    let message = if lane.is_some() { pack(message) } else { message };
    let Message { id, kind, run_id, attempt, published_at_us, app_id, sent_at, traceparent, body, is_packed } = message;
    // The broker's bound is on the body; an id that does not fit would be a bug of ours, and no retry would mend it.
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
    // Half of it would be no trace context.
    if let Some(traceparent) = traceparent.as_deref().filter(|traceparent| traceparent.len() <= MAX_HEADER) {
        text("traceparent", traceparent);
    }
    if let Some(Death { queue, reason }) = death {
        text("dead_queue", queue);
        text("dead_reason", reason);
    }
    headers.insert("attempt".into(), AMQPValue::LongLongInt(attempt.into()));
    let published_at = i64::try_from(published_at_us).unwrap_or(i64::MAX);
    headers.insert("published_at_us".into(), AMQPValue::LongLongInt(published_at));
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(id.as_str().into())
        .with_type(kind.into())
        .with_headers(headers);
    if !app_id.is_empty() {
        properties = properties.with_app_id(app_id.into());
    }
    if let Some(sent_at) = sent_at {
        properties = properties.with_timestamp(sent_at);
    }
    if is_packed {
        properties = properties.with_content_encoding(ENCODING.into());
    }
    Ok(Outgoing { properties, body })
}

/// The message with its body compressed, where it is one of ours and that makes it shorter. One that is too large stays as it is, to be
/// refused as such.
pub(super) fn pack(message: Message) -> Message {
    if message.is_packed || !message.kind.starts_with(OUR_KINDS) || message.body.len() > MAX_MESSAGE_BYTES {
        return message;
    }
    match compression::compressed(&message.body) {
        Some(body) => Message { body, is_packed: true, ..message },
        None => message,
    }
}

/// How many bytes the body has once it is unpacked.
pub(super) fn unpacked_bytes(properties: &BasicProperties, body: &[u8]) -> usize {
    let unpacked = longest_unpacked(properties).and_then(|longest| compression::unpacked_bytes(body, longest));
    unpacked.unwrap_or(body.len())
}

/// About how many bytes the headers take, which others may have filled a frame with.
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

/// How long a compressed body may become; none where it is not one of ours, and is taken as it is.
fn longest_unpacked(properties: &BasicProperties) -> Option<usize> {
    let said =
        |text: &Option<ShortString>, test: fn(&str) -> bool| text.as_ref().is_some_and(|text| test(text.as_str()));
    if !said(properties.content_encoding(), |encoding| encoding == ENCODING) {
        None
    } else if said(properties.kind(), |kind| kind.starts_with(OUR_KINDS)) {
        Some(MAX_MESSAGE_BYTES)
    } else {
        // Earlier versions compressed what others had sent when they passed it on, as can be told from a header.
        number(properties, "published_at_us").map(|_| MAX_FOREIGN)
    }
}

/// What cannot be decompressed is left as it came: whoever reads it will say that it is unreadable.
pub(super) fn incoming(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let unpacked = longest_unpacked(properties).and_then(|longest| compression::decompressed(&body, longest));
    plain(properties, unpacked.unwrap_or(body))
}

/// A message whose body is what it is, whatever its properties say of it.
pub(super) fn plain(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let short = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    Message {
        id: short(properties.message_id()),
        kind: short(properties.kind()),
        run_id: text(properties, "run_id", MAX_HEADER).unwrap_or_default(),
        attempt: number(properties, "attempt").and_then(|number| number.try_into().ok()).unwrap_or(0),
        published_at_us: number(properties, "published_at_us").unwrap_or(0),
        app_id: short(properties.app_id()),
        sent_at: *properties.timestamp(),
        // One of that length was longer, and half of it would be no trace context.
        traceparent: text(properties, "traceparent", MAX_HEADER).filter(|traceparent| traceparent.len() < MAX_HEADER),
        body: body.into(),
        is_packed: false,
    }
}

/// Why a message is among the dead letters: our own words, else what RabbitMQ noted down when it put it there.
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

/// No more of a text than so many bytes: what others wrote may fill a frame, and is held as long as the message is.
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

/// Whatever kind of integer another client wrote.
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
mod tests {
    use std::collections::BTreeMap;

    use lapin::types::DecimalValue;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const LANE: Option<Lane> = Some(Lane::Batch);

    fn message() -> Message {
        Message {
            id: "batch_20260101:7".to_owned(),
            kind: "assay.chunk.v1".to_owned(),
            run_id: "batch_20260101".to_owned(),
            attempt: 3,
            published_at_us: 1_700_000_000_000_000,
            app_id: "till".to_owned(),
            sent_at: Some(1_700_000_000),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            body: bytes::Bytes::from_static(b"{}"),
            is_packed: false,
        }
    }

    #[test]
    fn a_message_survives_the_way_there_and_back() {
        let sent = outgoing(message(), LANE, None).unwrap();
        assert_eq!(*sent.properties.delivery_mode(), Some(PERSISTENT));
        assert_eq!(text(&sent.properties, "lane", MAX_HEADER).as_deref(), Some("batch"));
        assert_eq!(incoming(&sent.properties, sent.body.to_vec()), message());
    }

    #[test]
    fn a_long_body_is_compressed_on_the_way_between_our_own_programs() {
        let long = Message { body: "transaction ".repeat(1_000).into(), ..message() };
        let sent = outgoing(long.clone(), LANE, None).unwrap();
        assert_eq!(sent.properties.content_encoding().as_ref().map(ShortString::as_str), Some(ENCODING));
        assert!(sent.body.len() * 10 < long.body.len(), "{}", sent.body.len());
        assert_eq!(incoming(&sent.properties, sent.body.to_vec()), long);

        assert_eq!(unpacked_bytes(&sent.properties, &sent.body), long.body.len());

        // Packed once, it is sent as it is.
        let packed = pack(long.clone());
        assert_eq!(pack(packed.clone()), packed);
        assert_eq!(outgoing(packed, LANE, None).unwrap().body, sent.body);

        let announced = outgoing(long.clone(), None, None).unwrap();
        assert_eq!((announced.properties.content_encoding(), announced.body), (&None, long.body.clone()));

        let foreign = outgoing(Message { kind: String::new(), ..long.clone() }, LANE, None).unwrap();
        assert_eq!((foreign.properties.content_encoding(), &foreign.body), (&None, &long.body));

        let damaged = incoming(&sent.properties, sent.body[1..].to_vec());
        assert_eq!(damaged.body, sent.body[1..]);
    }

    #[test]
    fn only_what_is_ours_is_unpacked() {
        let packed = |length: usize| compression::compressed(&vec![b' '; length]).unwrap().to_vec();
        let encoded = BasicProperties::default().with_content_encoding(ENCODING.into());
        let mut headers = FieldTable::default();
        headers.insert("published_at_us".into(), AMQPValue::LongLongInt(1));
        let passed_on = encoded.clone().with_headers(headers);
        let chunk = encoded.clone().with_type("assay.chunk.v1".into());
        let cases = [
            (&encoded, 10_000, false),
            (&encoded.clone().with_type("a.till".into()), 10_000, false),
            (&passed_on, MAX_FOREIGN, true),
            (&passed_on, MAX_FOREIGN + 1, false),
            (&chunk, MAX_MESSAGE_BYTES, true),
            (&chunk, MAX_MESSAGE_BYTES + 1, false),
        ];
        for (properties, length, is_unpacked) in cases {
            let body = packed(length);
            let expected = if is_unpacked { length } else { body.len() };
            assert_eq!(incoming(properties, body).body.len(), expected, "{properties:?}");
        }
    }

    #[test]
    fn foreign_messages_are_read_as_far_as_they_go() {
        let bare = incoming(&BasicProperties::default(), b"x".to_vec());
        assert_eq!((bare.id.as_str(), bare.attempt, bare.published_at_us), ("", 0, 0));

        for (value, attempt) in [
            (AMQPValue::LongInt(2), 2),
            (AMQPValue::ShortShortUInt(2), 2),
            (AMQPValue::LongLongInt(-1), 0),
            (AMQPValue::LongLongInt(i64::MAX), 0),
            (AMQPValue::Boolean(true), 0),
        ] {
            let mut headers = FieldTable::default();
            headers.insert("attempt".into(), value.clone());
            let properties = BasicProperties::default().with_headers(headers);
            assert_eq!(incoming(&properties, Vec::new()).attempt, attempt, "{value:?}");
        }
    }

    #[test]
    fn long_headers_are_counted_and_not_kept() {
        let long = |bytes: &[u8]| AMQPValue::LongString(LongString::from(bytes));
        let mut inner = FieldTable::default();
        inner.insert("deep".into(), AMQPValue::FieldArray(vec![long(&[b'x'; 50_000])].into()));
        let mut headers = FieldTable::default();
        headers.insert("run_id".into(), long(&[0xff].repeat(40_000)));
        headers.insert("traceparent".into(), long(&b"x".repeat(30_000)));
        headers.insert("other".into(), AMQPValue::FieldTable(inner));
        let properties = BasicProperties::default().with_headers(headers);
        let counted = header_bytes(&properties);
        assert!((120_000..122_000).contains(&counted), "{counted}");
        let message = incoming(&properties, Vec::new());
        // A byte that is not UTF-8 takes three.
        assert_eq!((message.run_id.len(), message.traceparent), (3 * MAX_HEADER, None));
        assert_eq!(header_bytes(&BasicProperties::default()), 0);
    }

    #[test]
    fn a_death_is_told_in_our_words_or_in_the_brokers() {
        let topology = Topology::new("test.", 5);
        let ours = Death { queue: "transactions.batch".to_owned(), reason: "no chunk".to_owned() };
        let sent = outgoing(message(), LANE, Some(&ours)).unwrap();
        assert_eq!(death(&sent.properties, &topology), ours);

        let mut noted = FieldTable::default();
        noted.insert("queue".into(), AMQPValue::LongString("test.predictions.batch".into()));
        noted.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(noted)].into()));
        let brokers = death(&BasicProperties::default().with_headers(headers), &topology);
        assert_eq!(brokers, Death { queue: "predictions.batch".to_owned(), reason: "delivery_limit".to_owned() });
    }

    #[test]
    fn refuses_what_no_broker_takes() {
        let large = Message { body: vec![0; MAX_MESSAGE_BYTES + 1].into(), ..message() };
        let error = outgoing(large, LANE, None).unwrap_err();
        assert_eq!(error, PublishError::TooLarge { bytes: MAX_MESSAGE_BYTES + 1 });
    }

    const NAMES: &[&str] = &[
        "run_id",
        "attempt",
        "published_at_us",
        "traceparent",
        "dead_queue",
        "dead_reason",
        "x-death",
        "queue",
        "reason",
    ];

    /// The names of headers that are read, and others.
    fn any_name() -> impl Strategy<Value = ShortString> {
        prop_oneof![
            4 => proptest::sample::select(NAMES).prop_map(ShortString::from),
            1 => any_short(),
        ]
    }

    fn any_short() -> impl Strategy<Value = ShortString> {
        ".{0,63}".prop_map(ShortString::from)
    }

    fn any_value() -> impl Strategy<Value = AMQPValue> {
        let long = vec(any::<u8>(), 0..3000);
        let leaf = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<f32>().prop_map(AMQPValue::Float),
            any::<f64>().prop_map(AMQPValue::Double),
            any::<(u8, u32)>().prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            any_short().prop_map(AMQPValue::ShortString),
            long.clone().prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            ".{0,2000}".prop_map(|text| AMQPValue::LongString(text.into())),
            long.prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(|values| AMQPValue::FieldArray(values.into())),
                btree_map(any_name(), inner, 0..6).prop_map(|table| AMQPValue::FieldTable(table.into())),
            ]
        })
    }

    fn any_properties() -> impl Strategy<Value = BasicProperties> {
        let headers = option::weighted(0.9, btree_map(any_name(), any_value(), 0..8));
        (headers, option::of(any_short()), option::of(any_short())).prop_map(|(headers, id, kind)| {
            let mut properties = BasicProperties::default();
            if let Some(headers) = headers {
                properties = properties.with_headers(BTreeMap::into(headers));
            }
            if let Some(id) = id {
                properties = properties.with_message_id(id);
            }
            if let Some(kind) = kind {
                properties = properties.with_type(kind);
            }
            properties
        })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let texts = (".{0,63}", ".{0,63}", ".{0,255}", ".{0,63}", option::of(".{0,255}"));
        let times = (0..=i64::MAX.unsigned_abs(), option::of(any::<u64>()));
        (texts, any::<u32>(), times, vec(any::<u8>(), 0..100)).prop_map(
            |((id, kind, run_id, app_id, traceparent), attempt, (published_at_us, sent_at), body)| Message {
                id,
                kind,
                run_id,
                attempt,
                published_at_us,
                app_id,
                sent_at,
                traceparent,
                body: body.into(),
                is_packed: false,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_comes_in_can_be_passed_on(properties in any_properties(), body in vec(any::<u8>(), 0..100)) {
            let message = incoming(&properties, body);
            let known = death(&properties, &Topology::new("test.", 5));
            let death = Death { queue: "transactions.batch".to_owned(), ..known };
            let passed_on = outgoing(message.clone(), LANE, Some(&death)).unwrap();
            let again = incoming(&passed_on.properties, passed_on.body.to_vec());
            prop_assert_eq!(&again.id, &message.id);
            prop_assert_eq!(again.attempt, message.attempt);
            prop_assert_eq!(&again.body, &message.body);
            prop_assert!(message.run_id.starts_with(&again.run_id));
            prop_assert!(again.run_id.len() <= MAX_HEADER);
            prop_assert!(again.traceparent.is_none_or(|traceparent| traceparent.len() <= MAX_HEADER));
        }

        #[test]
        fn what_goes_out_survives_the_way(message in any_message(), queue in ".{0,63}", reason in ".{0,255}") {
            let death_of = Death { queue, reason };
            let sent = outgoing(message.clone(), LANE, Some(&death_of)).unwrap();
            prop_assert_eq!(death(&sent.properties, &Topology::new("test.", 5)), death_of);
            prop_assert_eq!(incoming(&sent.properties, sent.body.to_vec()), message);
        }
    }
}

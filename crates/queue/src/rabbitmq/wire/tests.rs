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
        enclosed: None,
        packed: PackedForms::default(),
    }
}

#[test]
fn a_message_survives_encoding_and_decoding() {
    let sent = encode(message(), LANE, None).unwrap();
    assert_eq!(*sent.properties.delivery_mode(), Some(PERSISTENT));
    assert_eq!(text(&sent.properties, "lane", MAX_HEADER).as_deref(), Some("batch"));
    assert_eq!(decode(&sent.properties, sent.body.to_vec()), message());
}

#[test]
fn an_enclosed_body_travels_as_it_came() {
    let long = Message { body: "transaction ".repeat(1_000).into(), ..message() };
    let first = encode(long.clone(), LANE, None).unwrap();
    let received = decode(&first.properties, first.body.to_vec());
    let scored = Message { kind: "assay.scored.v2".to_owned(), body: "{}".into(), ..message() }.enclosing(&received);
    let sent = encode(scored.clone(), LANE, None).unwrap();
    assert!(sent.body.ends_with(&first.body), "the same bytes");
    assert_eq!(decompressed_bytes(&sent.properties, &sent.body), scored.bytes());
    let read = decode(&sent.properties, sent.body.to_vec());
    assert_eq!((&read.body[..], read.enclosed.as_ref()), (&b"{}"[..], Some(&long.body)));
    assert_eq!(read, scored);
    // A retry, too.
    let again = encode(compress(read), LANE, None).unwrap();
    assert_eq!(again.body, sent.body);
}

#[test]
fn an_enclosure_without_a_readable_body_stays_whole() {
    let enclosing = Message { kind: "assay.scored.v2".to_owned(), ..message() }.enclosing(&message());
    let sent = encode(enclosing, LANE, None).unwrap();
    let encoding = |encoding: &str| {
        let mut headers = sent.properties.headers().clone().unwrap();
        headers.insert(enclosure::HEADER.into(), AMQPValue::LongString(encoding.into()));
        sent.properties.clone().with_headers(headers)
    };
    let mut claims = enclosure::join(b"{}", &u32::MAX.to_le_bytes()).to_vec();
    for (properties, body) in [
        (encoding("identity"), vec![0, 0, 0]),
        (encoding("identity"), vec![0, 0, 0, 9, 1]),
        (encoding("zip"), sent.body.to_vec()),
        (encoding(ENCODING), std::mem::take(&mut claims)),
        (encoding("identity").with_type("x".into()), sent.body.to_vec()),
    ] {
        assert!(decompressed_bytes(&properties, &body) <= body.len());
        let read = decode(&properties, body.clone());
        assert_eq!((&read.body[..], read.enclosed), (&body[..], None));
    }
}

#[test]
fn a_long_body_is_compressed_between_our_own_programs() {
    let long = Message { body: "transaction ".repeat(1_000).into(), ..message() };
    let sent = encode(long.clone(), LANE, None).unwrap();
    assert_eq!(sent.properties.content_encoding().as_ref().map(ShortString::as_str), Some(ENCODING));
    assert!(sent.body.len() * 10 < long.body.len(), "{}", sent.body.len());
    assert_eq!(decode(&sent.properties, sent.body.to_vec()), long);

    assert_eq!(decompressed_bytes(&sent.properties, &sent.body), long.body.len());

    // Compressed once, it is sent as it is.
    let packed = compress(long.clone());
    assert_eq!(compress(packed.clone()), packed);
    assert_eq!(encode(packed, LANE, None).unwrap().body, sent.body);

    let announced = encode(long.clone(), None, None).unwrap();
    assert_eq!((announced.properties.content_encoding(), announced.body), (&None, long.body.clone()));

    let external = encode(Message { kind: String::new(), ..long.clone() }, LANE, None).unwrap();
    assert_eq!((external.properties.content_encoding(), &external.body), (&None, &long.body));

    let damaged = decode(&sent.properties, sent.body[1..].to_vec());
    assert_eq!(damaged.body, sent.body[1..]);
}

#[test]
fn only_our_own_bodies_are_decompressed() {
    let packed = |length: usize| compression::compressed(&vec![b' '; length]).unwrap().to_vec();
    let encoded = BasicProperties::default().with_content_encoding(ENCODING.into());
    let mut headers = FieldTable::default();
    headers.insert("published_at_us".into(), AMQPValue::LongLongInt(1));
    let passed_on = encoded.clone().with_headers(headers);
    let chunk = encoded.clone().with_type("assay.chunk.v1".into());
    let cases = [
        (&encoded, 10_000, false),
        (&encoded.clone().with_type("a.till".into()), 10_000, false),
        (&passed_on, MAX_EXTERNAL, true),
        (&passed_on, MAX_EXTERNAL + 1, false),
        (&chunk, MAX_MESSAGE_BYTES, true),
        (&chunk, MAX_MESSAGE_BYTES + 1, false),
    ];
    for (properties, length, is_decompressed) in cases {
        let body = packed(length);
        let expected = if is_decompressed { length } else { body.len() };
        assert_eq!(decode(properties, body).body.len(), expected, "{properties:?}");
    }
}

#[test]
fn external_messages_are_read_as_far_as_possible() {
    let bare = decode(&BasicProperties::default(), b"x".to_vec());
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
        assert_eq!(decode(&properties, Vec::new()).attempt, attempt, "{value:?}");
    }
}

#[test]
fn long_headers_are_counted_and_cut() {
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
    let message = decode(&properties, Vec::new());
    // A byte that is not UTF-8 takes three.
    assert_eq!((message.run_id.len(), message.traceparent), (3 * MAX_HEADER, None));
    assert_eq!(header_bytes(&BasicProperties::default()), 0);
}

#[test]
fn a_death_is_read_from_our_headers_or_the_brokers() {
    let topology = Topology::new("test.", 5);
    let ours = Death { queue: "transactions.batch".to_owned(), reason: "no chunk".to_owned() };
    let sent = encode(message(), LANE, Some(&ours)).unwrap();
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
fn a_body_over_the_limit_is_refused() {
    let large = Message { body: vec![0; MAX_MESSAGE_BYTES + 1].into(), ..message() };
    let error = encode(large, LANE, None).unwrap_err();
    assert_eq!(error, PublishError::TooLarge { bytes: MAX_MESSAGE_BYTES + 1 });
}

const NAMES: &[&str] =
    &["run_id", "attempt", "published_at_us", "traceparent", "dead_queue", "dead_reason", "x-death", "queue", "reason"];

/// The names of known headers, and others.
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
            enclosed: None,
            packed: PackedForms::default(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_message_can_be_passed_on(properties in any_properties(), body in vec(any::<u8>(), 0..100)) {
        let message = decode(&properties, body);
        let known = death(&properties, &Topology::new("test.", 5));
        let death = Death { queue: "transactions.batch".to_owned(), ..known };
        let passed_on = encode(message.clone(), LANE, Some(&death)).unwrap();
        let again = decode(&passed_on.properties, passed_on.body.to_vec());
        prop_assert_eq!(&again.id, &message.id);
        prop_assert_eq!(again.attempt, message.attempt);
        prop_assert_eq!(&again.body, &message.body);
        prop_assert!(message.run_id.starts_with(&again.run_id));
        prop_assert!(again.run_id.len() <= MAX_HEADER);
        prop_assert!(again.traceparent.is_none_or(|traceparent| traceparent.len() <= MAX_HEADER));
    }

    #[test]
    fn every_message_survives_the_way(message in any_message(), queue in ".{0,63}", reason in ".{0,255}") {
        let known_death = Death { queue, reason };
        let sent = encode(message.clone(), LANE, Some(&known_death)).unwrap();
        prop_assert_eq!(death(&sent.properties, &Topology::new("test.", 5)), known_death);
        prop_assert_eq!(decode(&sent.properties, sent.body.to_vec()), message);
    }
}

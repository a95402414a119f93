use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties};
use amq_protocol::types::AMQPValue;
use assay_testkit::nested_table;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BODY: u8 = 3;
/// The class, and a body of seven bytes.
const CONTENT: [u8; 12] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const HEADERS: u16 = 1 << 13;
const MESSAGE_ID: u16 = 1 << 7;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], &length[..], payload, &[FRAME_END]].concat()
}

fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    frame(HEADER, &[&CONTENT, &flags.to_be_bytes()[..], properties].concat())
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The output for input in pieces of that many bytes.
fn passed(sent: &[u8], piece: usize) -> Vec<u8> {
    let mut inbound = InboundFrames::new(MAX_FRAME);
    let mut passed = Vec::new();
    let mut room = vec![0; piece.max(1)];
    for received in sent.chunks(piece.max(1)) {
        inbound.feed(received);
        loop {
            match inbound.take(&mut room) {
                0 => break,
                given => passed.extend_from_slice(&room[..given]),
            }
        }
    }
    passed
}

/// Parses frames as the client does.
fn parsed(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).unwrap();
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn properties(frame: &AMQPFrame) -> AMQPProperties {
    match frame {
        AMQPFrame::Header(1, header) => {
            assert_eq!(header.body_size, 7);
            header.properties.clone()
        }
        frame => panic!("{frame:?}"),
    }
}

fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldTable(table) => 1 + table.inner().values().map(depth).max().unwrap_or(0),
        AMQPValue::FieldArray(array) => 1 + array.as_slice().iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn headers_nested_too_deep_are_read_as_bytes() {
    for (kinds, levels) in [(&b"F"[..], 18_700), (b"A", 26_000), (b"FA", 20_000), (b"AAF", 20_000)] {
        let sent = header(HEADERS, &long(&nested_table(levels, kinds)));
        assert!(sent.len() <= to_usize(MAX_FRAME), "{kinds:?} {levels}: {}", sent.len());
        let frames = parsed(&passed(&sent, 5000));
        let headers = properties(&frames[0]).headers().clone().unwrap();
        let deepest = depth(&AMQPValue::FieldTable(headers));
        assert!((20..40).contains(&deepest), "{kinds:?}: {deepest}");
    }
}

#[test]
fn headers_as_deep_as_those_of_rabbitmq_stay_as_they_are() {
    for kinds in [&b"F"[..], b"A", b"FA"] {
        let sent = header(HEADERS, &long(&nested_table(20, kinds)));
        assert_eq!(passed(&sent, 100), sent);
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_marked_in_any_place() {
    // Each short text of a message, by its flag.
    for bit in [15, 14, 10, 9, 8, 7, 5, 4, 3, 2] {
        let frames = parsed(&passed(&header(1 << bit, b"\x03a\xffb"), 4));
        let marked = format!("{:?}", properties(&frames[0]));
        assert!(marked.contains(r"a\u{1a}b"), "{marked}");
    }
    let name_of_a_header = header(HEADERS, &long(b"\x03a\xffbV"));
    let marked = format!("{:?}", properties(&parsed(&passed(&name_of_a_header, 9))[0]));
    assert!(marked.contains(r"a\u{1a}b"), "{marked}");

    let deliver = [&[0, 60, 0, 60, 1, b't', 0, 0, 0, 0, 0, 0, 0, 9, 0][..], b"\x02e\xff", b"\x02\xffk"].concat();
    match &parsed(&passed(&frame(METHOD, &deliver), 3))[0] {
        AMQPFrame::Method(1, AMQPClass::Basic(AMQPMethod::Deliver(deliver))) => {
            assert_eq!((deliver.exchange.as_str(), deliver.routing_key.as_str()), ("e\u{1a}", "\u{1a}k"));
            assert_eq!(deliver.delivery_tag, 9);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn oversized_or_malformed_properties_are_dropped() {
    // RabbitMQ adds headers of its own to a full frame.
    let long_header = [b"\x01aS", &long(&vec![b'x'; 200_000])[..]].concat();
    let cases = [
        header(HEADERS, &long(&long_header)),
        header(HEADERS, &long(&b"\x01aV".repeat(513))),
        header(HEADERS, &long(b"\x01a?")),
        header(HEADERS, &9_u32.to_be_bytes()),
        header(MESSAGE_ID, b"\x09short"),
        header(MESSAGE_ID, b"\x01xmore"),
        frame(HEADER, &CONTENT),
    ];
    for sent in cases {
        for piece in [1, 10, 1000, 300_000] {
            let body = frame(BODY, b"\xff\x01\xce body");
            let frames = parsed(&passed(&[&sent[..], &body, &sent, &body].concat(), piece));
            assert_eq!(frames.len(), 4, "{frames:?}");
            for frame in [&frames[0], &frames[2]] {
                let properties = properties(frame);
                assert_eq!(properties.kind().as_ref().unwrap().as_str(), "\u{1a}");
                assert_eq!((properties.headers(), properties.message_id()), (&None, &None));
            }
            assert!(matches!(&frames[3], AMQPFrame::Body(1, body) if body == b"\xff\x01\xce body"));
        }
    }
}

#[test]
fn the_negotiated_frame_size_is_the_limit() {
    let tune = frame(METHOD, &[0, 10, 0, 30, 7, 255, 0, 0, 0x20, 0, 0, 60]);
    let large = header(HEADERS, &long(&[b"\x01aS", &long(&[b'x'; 9000])[..]].concat()));
    assert_eq!(passed(&large, 100), large);
    let frames = parsed(&passed(&[tune, large].concat(), 100));
    assert_eq!(properties(&frames[1]).kind().as_ref().unwrap().as_str(), "\u{1a}");
}

/// Bytes similar to what RabbitMQ sends: kinds of values, lengths, and anything.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => proptest::sample::select(&b"tbBsUuIiLlfdDSATFxV"[..]),
        3 => 0_u8..8,
        1 => any::<u8>(),
    ];
    vec(byte, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_published_can_be_read(flags in any::<u16>(), bytes in any_bytes(), in_a_table: bool, piece in 1_usize..300) {
        let bytes = if in_a_table { long(&bytes) } else { bytes };
        let sent = header(if in_a_table { HEADERS } else { flags }, &bytes);
        let body = frame(BODY, b"1234567");
        let frames = parsed(&passed(&[sent.clone(), body].concat(), piece));
        prop_assert_eq!(frames.len(), 2);
        let properties = properties(&frames[0]);
        if let Some(headers) = properties.headers() {
            prop_assert!(depth(&AMQPValue::FieldTable(headers.clone())) < 40);
        }
        // What the client can read is not touched, unless nested too deep.
        if let Ok(([], read)) = parse_frame(&sent[..]) {
            prop_assert_eq!(&read, &frames[0]);
        }
    }

    #[test]
    fn methods_and_bodies_pass_with_any_content(bytes in vec(any::<u8>(), 0..100), method in 0_u8..80, piece in 1_usize..50) {
        let frames = [
            frame(METHOD, &[&[0, 60, 0, method], &bytes[..]].concat()),
            frame(BODY, &bytes),
            vec![8, 0, 0, 0, 0, 0, 0, FRAME_END],
        ];
        let passed = passed(&frames.concat(), piece);
        prop_assert_eq!(passed.len(), frames.concat().len());
        prop_assert!(passed.ends_with(&frames[1..].concat()));
    }
}

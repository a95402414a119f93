//! Bucket notifications of MinIO, RustFS and AWS, received through a queue or a webhook. AWS sends them from the
//! bucket, or through EventBridge in another format.
//!
//! An event is a hint: it may arrive twice, late, out of order or never, and its object may be replaced or gone. The
//! receiver checks S3.

pub(crate) mod notification;
#[cfg(feature = "sqs")]
pub(crate) mod sqs;

use assay_transaction::json_problem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// An object that was created: put, copied, or completed from parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Its bucket.
    pub bucket: String,
    /// Its key exactly as in S3, unescaped.
    pub key: String,
    /// Its size, if the event states it.
    pub size: Option<u64>,
    /// Its ETag, if the event states it.
    pub version: Option<String>,
}

/// Why a message is not a bucket event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a bucket event: {0}")]
pub struct EventError(String);

/// Parses one message: the objects it reports as created. Empty for other events and for S3's test message.
pub fn parse_events(message: &[u8]) -> Result<Vec<ObjectEvent>, EventError> {
    let envelope = EventEnvelope::read(message)?;
    match envelope {
        // SNS wraps an event as text.
        EventEnvelope { kind: Some(kind), message: Some(inner), .. } if kind == "Notification" => {
            EventEnvelope::read(inner.as_bytes())?.objects()
        }
        envelope => envelope.objects(),
    }
}

/// All kinds of messages; their members distinguish them.
#[derive(Deserialize)]
struct EventEnvelope {
    #[serde(rename = "Records")]
    records: Option<Vec<EventRecord>>,
    /// With the key: sent by MinIO and RustFS in addition to equivalent records.
    #[serde(rename = "EventName")]
    event_name: Option<String>,
    /// `bucket/key`, unescaped.
    #[serde(rename = "Key")]
    key: Option<String>,
    /// S3's test message.
    #[serde(rename = "Event")]
    event: Option<String>,
    /// SNS.
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    /// EventBridge: source, type and detail. Kept raw, as other senders use other types.
    source: Option<Box<RawValue>>,
    #[serde(rename = "detail-type")]
    detail_type: Option<Box<RawValue>>,
    detail: Option<Box<RawValue>>,
}

/// How EventBridge names S3 and the creation of an object, as JSON.
const BRIDGE_SOURCE: &str = r#""aws.s3""#;
const BRIDGE_OBJECT_CREATED: &str = r#""Object Created""#;

/// The detail of an EventBridge event.
#[derive(Deserialize)]
struct BridgeDetail {
    bucket: EventBucket,
    object: BridgeObject,
}

#[derive(Deserialize)]
struct BridgeObject {
    /// Unescaped.
    key: String,
    size: Option<u64>,
    etag: Option<String>,
}

#[derive(Deserialize)]
struct EventRecord {
    #[serde(rename = "eventName")]
    event_name: String,
    s3: S3Entity,
}

#[derive(Deserialize)]
struct S3Entity {
    bucket: EventBucket,
    object: EventObject,
}

#[derive(Deserialize)]
struct EventBucket {
    name: String,
}

#[derive(Deserialize)]
struct EventObject {
    /// Escaped as in a query string: a space is `+`.
    key: String,
    size: Option<u64>,
    #[serde(rename = "eTag")]
    etag: Option<String>,
}

impl EventEnvelope {
    fn read(message: &[u8]) -> Result<Self, EventError> {
        serde_json::from_slice(message).map_err(|error| EventError(json_problem(&error)))
    }

    fn objects(self) -> Result<Vec<ObjectEvent>, EventError> {
        match self {
            Self { event: Some(event), .. } if event == "s3:TestEvent" => Ok(Vec::new()),
            Self { source: Some(source), detail_type: Some(kind), detail, .. } => {
                parse_bridge_event(source.get(), kind.get(), detail)
            }
            Self { records: Some(records), key, .. } if !records.is_empty() || key.is_none() => {
                records.into_iter().filter(|record| is_created(&record.event_name)).map(EventRecord::object).collect()
            }
            Self { event_name: Some(name), key: Some(key), .. } => {
                if !is_created(&name) {
                    return Ok(Vec::new());
                }
                let (bucket, key) = key.split_once('/').ok_or_else(|| EventError("its Key names no bucket".into()))?;
                Ok(vec![object(bucket, key.to_owned(), None, None)?])
            }
            _ => Err(EventError("it has no Records".into())),
        }
    }
}

/// S3's limit for keys, in bytes.
const LONGEST_KEY: usize = 1_024;

/// Parses an EventBridge event.
fn parse_bridge_event(source: &str, kind: &str, detail: Option<Box<RawValue>>) -> Result<Vec<ObjectEvent>, EventError> {
    if source != BRIDGE_SOURCE {
        return Err(EventError("it comes through EventBridge, but its source is not aws.s3".into()));
    }
    // Deleted, restored, tagged, moved to another class: nothing new to load.
    if kind != BRIDGE_OBJECT_CREATED {
        return Ok(Vec::new());
    }
    let detail = detail.ok_or_else(|| EventError("it has no detail".into()))?;
    let read = serde_json::from_str(detail.get()).map_err(|error| EventError(json_problem(&error)))?;
    let BridgeDetail { bucket, object: BridgeObject { key, size, etag } } = read;
    Ok(vec![object(&bucket.name, key, size, etag)?])
}

impl EventRecord {
    fn object(self) -> Result<ObjectEvent, EventError> {
        let S3Entity { bucket, object: EventObject { key, size, etag } } = self.s3;
        object(&bucket.name, unescape(&key)?, size, etag)
    }
}

fn object(bucket: &str, key: String, size: Option<u64>, etag: Option<String>) -> Result<ObjectEvent, EventError> {
    if bucket.is_empty() || key.is_empty() {
        return Err(EventError("it names no bucket, or no key".into()));
    }
    if key.len() > LONGEST_KEY {
        return Err(EventError(format!("its key has {} bytes, more than the limit of {LONGEST_KEY}", key.len())));
    }
    let version = etag.map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
    Ok(ObjectEvent { bucket: bucket.to_owned(), key, size, version })
}

/// AWS omits the `s3:` that its test message and other servers have.
fn is_created(name: &str) -> bool {
    name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:")
}

/// A `%` that escapes nothing is literal; S3 knows whether the object exists.
fn unescape(key: &str) -> Result<String, EventError> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = if *first == b'%' { after.get(..2).and_then(hexadecimal) } else { None };
        match (first, escaped) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| EventError("its key is not UTF-8".into()))
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(digits.first()?)? * 16 + digit(digits.get(1)?)?).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn record(name: &str, key: &str) -> Value {
        let object = json!({"key": key, "size": 9, "eTag": "690505a0", "sequencer": "18EA"});
        let bucket = json!({"name": "drops", "arn": "arn:aws:s3:::drops"});
        json!({"eventVersion": "2.1", "eventName": name, "s3": {"s3SchemaVersion": "1.0", "bucket": bucket, "object": object}})
    }

    fn event(key: &str) -> ObjectEvent {
        ObjectEvent { bucket: "drops".into(), key: key.into(), size: Some(9), version: Some("690505a0".into()) }
    }

    fn read(message: &Value) -> Result<Vec<ObjectEvent>, String> {
        parse_events(message.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_envelope_is_read() {
        let put = "s3:ObjectCreated:Put";
        let minio = |name: &str, plain: &str, escaped: &str| json!({"EventName": name, "Key": format!("drops/{plain}"), "Records": [record(name, escaped)]});
        let aws = json!({"Records": [record("ObjectCreated:CompleteMultipartUpload", "in/a.csv")]});
        let sns = json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": aws.to_string()});
        let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "drops"});
        let wrapped_test = json!({"Type": "Notification", "Message": test.to_string()});
        let without_records = json!({"EventName": put, "Key": "drops/in/a b+é.csv"});
        let bare = ObjectEvent { size: None, version: None, ..event("in/a b+é.csv") };
        let cases = [
            (minio(put, "in/a b+é.csv", "in%2Fa+b%2B%C3%A9.csv"), vec![event("in/a b+é.csv")]),
            (minio("s3:ObjectCreated:Copy", "a.csv", "a.csv"), vec![event("a.csv")]),
            (minio("s3:ObjectRemoved:Delete", "a.csv", "a.csv"), vec![]),
            (minio("s3:ObjectAccessed:Head", "a.csv", "a.csv"), vec![]),
            (aws, vec![event("in/a.csv")]),
            (sns, vec![event("in/a.csv")]),
            (test, vec![]),
            (wrapped_test, vec![]),
            (without_records, vec![bare]),
            (json!({"EventName": "s3:ObjectRemoved:Delete", "Key": "drops/a.csv", "Records": []}), vec![]),
            (json!({"Records": []}), vec![]),
            (
                json!({"Records": [
                    record(put, "1"), record("ObjectRemoved:DeleteMarkerCreated", "2"), record("ObjectCreated:Post", "3"),
                ]}),
                vec![event("1"), event("3")],
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(read(&message), Ok(expected), "{message}");
        }
    }

    fn bridged(kind: &str, key: &str) -> Value {
        let object = json!({"key": key, "size": 9, "etag": "690505a0", "sequencer": "0062"});
        let detail = json!({"version": "0", "bucket": {"name": "drops"}, "object": object, "reason": "PutObject"});
        json!({"version": "0", "id": "1", "detail-type": kind, "source": "aws.s3", "resources": ["arn:aws:s3:::drops"], "detail": detail})
    }

    #[test]
    fn events_from_eventbridge_are_read() {
        let created = "Object Created";
        let sns = json!({"Type": "Notification", "Message": bridged(created, "in/a b.csv").to_string()});
        let mut sparse = bridged(created, "a.csv");
        sparse["detail"]["object"] = json!({"key": "a.csv"});
        let cases = [
            (bridged(created, "in/a.csv"), vec![event("in/a.csv")]),
            // Keys are unescaped.
            (bridged(created, "in/a b.csv"), vec![event("in/a b.csv")]),
            (bridged(created, "a+b%20c%é.csv"), vec![event("a+b%20c%é.csv")]),
            (sns, vec![event("in/a b.csv")]),
            (sparse, vec![ObjectEvent { size: None, version: None, ..event("a.csv") }]),
            (bridged("Object Deleted", "a.csv"), vec![]),
            (bridged("Object Restore Completed", "a.csv"), vec![]),
            (bridged("Object Tags Added", "a.csv"), vec![]),
            // The detail of other events is ignored.
            (
                json!({"detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "detail": {"eventName": "x"}}),
                vec![],
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(read(&message), Ok(expected), "{message}");
        }
        let mut other = bridged(created, "a.csv");
        other["source"] = json!("aws.ec2");
        let cases = [
            (other, "its source is not aws.s3"),
            (json!({"detail-type": created, "source": {"of": "mine"}, "detail": {}}), "its source is not aws.s3"),
            (json!({"detail-type": created, "source": "aws.s3"}), "it has no detail"),
            (
                json!({"detail-type": created, "source": "aws.s3", "detail": {"bucket": {"name": "b"}}}),
                "missing field `object`",
            ),
            (bridged(created, ""), "it names no bucket, or no key"),
            (json!({"source": "aws.s3", "detail": {}}), "it has no Records"),
        ];
        for (message, expected) in cases {
            let error = read(&message).expect_err(expected);
            assert!(error.contains(expected) && !error.contains('\n'), "{message}: {error}");
        }
    }

    #[test]
    fn keys_are_escaped_as_in_a_query() {
        let cases = [
            ("a+b", "a b"),
            ("a%20b", "a b"),
            ("a%2Bb", "a+b"),
            ("a%2fb%2F", "a/b/"),
            ("%E2%82%AC", "€"),
            ("€", "€"),
            ("100%", "100%"),
            ("100%25", "100%"),
            ("%zz%4", "%zz%4"),
            ("a=b&c", "a=b&c"),
            ("%2B%2520", "+%20"),
        ];
        for (escaped, key) in cases {
            assert_eq!(read(&json!({"Records": [record("ObjectCreated:Put", escaped)]})), Ok(vec![event(key)]));
        }
    }

    #[test]
    fn an_invalid_event_is_rejected_in_one_line() {
        let put = "ObjectCreated:Put";
        let cases = [
            (json!({}), "it has no Records"),
            (json!({"EventName": "s3:ObjectCreated:Put"}), "it has no Records"),
            (json!({"EventName": "s3:ObjectCreated:Put", "Key": "drops"}), "its Key names no bucket"),
            (json!({"Event": "s3:OtherEvent"}), "it has no Records"),
            (json!({"Type": "SubscriptionConfirmation", "Message": "You have chosen…"}), "it has no Records"),
            (json!({"Type": "Notification", "Message": "hello"}), "expected value"),
            (json!({"Records": [record(put, "%ff")]}), "its key is not UTF-8"),
            (json!({"Records": [record(put, "")]}), "it names no bucket, or no key"),
            (json!({"Records": [{"eventName": put}]}), "missing field `s3`"),
            (json!({"Records": [{"s3": {}}]}), "missing field"),
            (json!({"Records": "none"}), "expected a sequence"),
            (json!([1, 2]), "expected"),
            (json!("Jean Dupont"), "expected struct"),
            (json!({"Records": [record(put, &"k".repeat(1_025))]}), "its key has 1025 bytes"),
        ];
        for (message, expected) in cases {
            let error = read(&message).expect_err(expected);
            assert!(error.starts_with("it is not a bucket event: ") && error.contains(expected), "{message}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(parse_events(b"").is_err() && parse_events(b"{").is_err() && parse_events(b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_events(&bytes);
        }

        #[test]
        fn any_escaped_key_is_unescaped(key in "\\PC{1,40}") {
            let mut escaped = String::new();
            for byte in key.bytes() {
                write!(escaped, "%{byte:02X}").unwrap();
            }
            prop_assert_eq!(unescape(&escaped), Ok(key));
        }
    }
}

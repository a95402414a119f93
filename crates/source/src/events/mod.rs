//! What a bucket says of its objects: the events of MinIO, RustFS and AWS, as they come through a queue or a webhook. Those of
//! AWS come from the bucket itself, or by way of EventBridge, which has a shape of its own.
//!
//! An event is a hint, not the truth: it may come twice, late, in another order, or not at all, and its object may have been
//! replaced or be gone by the time. Whoever hears of one asks S3 what is there.

pub(crate) mod notification;
#[cfg(feature = "sqs")]
pub(crate) mod sqs;

use assay_transaction::json_problem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// An object that was created: put, copied, or completed from its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Where it lies.
    pub bucket: String,
    /// Its key, exactly as S3 knows it: nothing in it is escaped.
    pub key: String,
    /// How many bytes it had, where the event says so.
    pub size: Option<u64>,
    /// The ETag that it had, where the event says so.
    pub version: Option<String>,
}

/// Why a message says nothing about objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no event of a bucket: {0}")]
pub struct EventError(String);

/// Reads one message: the objects that it says were created, none where it is about something else that happens to objects,
/// or is S3's test message.
pub fn parse_events(message: &[u8]) -> Result<Vec<ObjectEvent>, EventError> {
    let envelope = EventEnvelope::read(message)?;
    match envelope {
        // SNS wraps an event up as text.
        EventEnvelope { kind: Some(kind), message: Some(inner), .. } if kind == "Notification" => {
            EventEnvelope::read(inner.as_bytes())?.objects()
        }
        envelope => envelope.objects(),
    }
}

/// Every kind of message in one; which of them it is, its members tell.
#[derive(Deserialize)]
struct EventEnvelope {
    #[serde(rename = "Records")]
    records: Option<Vec<EventRecord>>,
    /// With the key, of MinIO and RustFS, beside the records that say the same.
    #[serde(rename = "EventName")]
    event_name: Option<String>,
    /// `bucket/key`, with nothing escaped.
    #[serde(rename = "Key")]
    key: Option<String>,
    /// Of S3's test message.
    #[serde(rename = "Event")]
    event: Option<String>,
    /// Of SNS.
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    /// Of EventBridge: who says it, what it says, and of what. What these are of others is not looked at.
    source: Option<Box<RawValue>>,
    #[serde(rename = "detail-type")]
    detail_type: Option<Box<RawValue>>,
    detail: Option<Box<RawValue>>,
}

/// Who speaks of S3 through EventBridge, and what it calls an object that was put, copied, or completed from its parts: as JSON.
const BRIDGE_SOURCE: &str = r#""aws.s3""#;
const BRIDGE_OBJECT_CREATED: &str = r#""Object Created""#;

/// The detail of an event that EventBridge passes on.
#[derive(Deserialize)]
struct BridgeDetail {
    bucket: EventBucket,
    object: BridgeObject,
}

#[derive(Deserialize)]
struct BridgeObject {
    /// With nothing escaped.
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
    /// Escaped as in the query of a URL: a space is `+`.
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
                bridged(source.get(), kind.get(), detail)
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

/// The longest key of an object, in bytes, as S3 has it.
const LONGEST_KEY: usize = 1_024;

/// What an event says that EventBridge passes on.
fn bridged(source: &str, kind: &str, detail: Option<Box<RawValue>>) -> Result<Vec<ObjectEvent>, EventError> {
    if source != BRIDGE_SOURCE {
        return Err(EventError("it comes through EventBridge, but its source is not aws.s3".into()));
    }
    // Deleted, restored, tagged, moved to another class: there is nothing new to load.
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
        return Err(EventError(format!("its key has {} bytes, more than the {LONGEST_KEY} that keys have", key.len())));
    }
    let version = etag.map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
    Ok(ObjectEvent { bucket: bucket.to_owned(), key, size, version })
}

/// AWS leaves the `s3:` out that its test message and others have.
fn is_created(name: &str) -> bool {
    name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:")
}

/// A `%` that escapes nothing stands for itself: whether there is such an object, S3 knows.
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
    fn events_by_way_of_eventbridge_are_read() {
        let created = "Object Created";
        let sns = json!({"Type": "Notification", "Message": bridged(created, "in/a b.csv").to_string()});
        let mut sparse = bridged(created, "a.csv");
        sparse["detail"]["object"] = json!({"key": "a.csv"});
        let cases = [
            (bridged(created, "in/a.csv"), vec![event("in/a.csv")]),
            // Nothing in a key is escaped.
            (bridged(created, "in/a b.csv"), vec![event("in/a b.csv")]),
            (bridged(created, "a+b%20c%é.csv"), vec![event("a+b%20c%é.csv")]),
            (sns, vec![event("in/a b.csv")]),
            (sparse, vec![ObjectEvent { size: None, version: None, ..event("a.csv") }]),
            (bridged("Object Deleted", "a.csv"), vec![]),
            (bridged("Object Restore Completed", "a.csv"), vec![]),
            (bridged("Object Tags Added", "a.csv"), vec![]),
            // Of other kinds the detail is not looked at.
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
    fn what_is_no_event_is_refused_in_one_line() {
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
            assert!(
                error.starts_with("it is no event of a bucket: ") && error.contains(expected),
                "{message}: {error}"
            );
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
        fn any_key_survives_the_way(key in "\\PC{1,40}") {
            let mut escaped = String::new();
            for byte in key.bytes() {
                write!(escaped, "%{byte:02X}").unwrap();
            }
            prop_assert_eq!(unescape(&escaped), Ok(key));
        }
    }
}

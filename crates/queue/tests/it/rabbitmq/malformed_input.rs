//! Malformed external messages on RabbitMQ: they become dead letters and block no others.

use std::collections::BTreeMap;

use assay_queue::{DeliveryOutcome, DrainOutcome, Message};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio::sync::mpsc;

use crate::contract::dead_letters::{self, DRAIN};
use crate::contract::single as serving;
use crate::fixture::{ROUTE, Server, message, until_depth, within_a_minute};

fn headers<const N: usize>(headers: [(&str, AMQPValue); N]) -> BasicProperties {
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.into(), value)).into();
    BasicProperties::default().with_headers(headers.into())
}

/// Nested tables and arrays.
fn nested(depth: usize) -> AMQPValue {
    (0..depth).fold(AMQPValue::Void, |value, _| {
        let mut table = FieldTable::default();
        table.insert("x".into(), AMQPValue::FieldArray(vec![value].into()));
        AMQPValue::FieldTable(table)
    })
}

fn long(length: usize) -> AMQPValue {
    AMQPValue::LongString(LongString::from("x".repeat(length)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_become_dead_letters() {
    // A header that nearly fills a frame, so that nothing can be added.
    const ALMOST_A_FRAME: usize = 130_900;
    let cases = [
        ("nothing", BasicProperties::default()),
        ("a long run", headers([("run_id", long(ALMOST_A_FRAME))])),
        ("a long trace", headers([("traceparent", long(ALMOST_A_FRAME))])),
        ("deaths of another kind", headers([("x-death", AMQPValue::FieldArray(vec![AMQPValue::Void].into()))])),
        ("a negative attempt", headers([("attempt", AMQPValue::LongLongInt(i64::MIN))])),
        ("the last attempt", headers([("attempt", AMQPValue::LongUInt(u32::MAX))])),
        ("no text", headers([("run_id", AMQPValue::LongString(vec![0xff, 0, 0xfe].into()))])),
        ("nested", headers([("run_id", nested(100))])),
    ];
    let server = Server::new(100);
    let broker = server.connect().await;
    let client = server.client().await;
    let channel = client.create_channel().await.unwrap();
    let queue = server.name("transactions.batch");
    for (name, properties) in &cases {
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), queue.as_str().into(), options, name.as_bytes(), properties.clone())
            .await
            .unwrap();
    }
    within_a_minute(async {
        let (done, mut is_done) = mpsc::unbounded_channel();
        let serving = serving::start(&broker, serving::OPTIONS, move |message| {
            done.send(message.id).unwrap();
            async { DeliveryOutcome::Done }
        });
        let (seen, mut all_seen) = mpsc::unbounded_channel();
        let draining = dead_letters::start(&broker, DRAIN, move |message: Message, death| {
            seen.send((String::from_utf8(message.body.to_vec()).unwrap(), death.reason)).unwrap();
            async { DrainOutcome::Recorded }
        });
        let mut dead = BTreeMap::new();
        while dead.len() < cases.len() {
            let (name, reason) = all_seen.recv().await.unwrap();
            assert_eq!(dead.insert(name, reason), None);
        }
        assert!(cases.iter().all(|(name, _)| dead[*name] == "not a test message"), "{dead:?}");
        broker.publish(ROUTE, message("one of ours")).await.unwrap();
        assert_eq!(is_done.recv().await.as_deref(), Some("one of ours"));
        serving.end().await;
        draining.end().await;
        until_depth(&*broker, ROUTE, 0, 0).await;
    })
    .await;
    broker.close().await;
    client.close(200, "the test is over".into()).await.unwrap();
    server.delete_all().await;
}

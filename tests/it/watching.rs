//! `loader watch`: each new object in a bucket is loaded once, over every event source, though watchers are killed or suspended.

use assay_tests::{Program, Rows, Running, STORED, Script, Stack, assert_same, content, get_text, law};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::metrics_and_health::{shown, value};

const EXCHANGE: &str = "assay.events";
/// Of those who watch `s3://drops/in/`.
const QUEUE: &str = "assay.events.s3---drops-in-.9d820514";
const ROWS: u64 = 300;

fn record(name: &str, escaped: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": name,
        "s3": {"bucket": {"name": "drops"}, "object": {"key": escaped, "size": 9, "eTag": "690505a0"}},
    })
}

/// As MinIO and RustFS say it.
fn minio(name: &str, key: &str, escaped: &str) -> Value {
    json!({"EventName": name, "Key": format!("drops/{key}"), "Records": [record(name, escaped)]})
}

fn aws(escaped: &str) -> Value {
    json!({"Records": [record("ObjectCreated:Put", escaped)]})
}

fn sns(event: &Value) -> Value {
    json!({"Type": "Notification", "MessageId": "1", "Message": event.to_string()})
}

/// By way of EventBridge, which escapes nothing.
fn bridged(key: &str) -> Value {
    json!({
        "version": "0", "detail-type": "Object Created", "source": "aws.s3", "resources": ["arn:aws:s3:::drops"],
        "detail": {"bucket": {"name": "drops"}, "object": {"key": key, "size": 9, "etag": "690505a0"}, "reason": "PutObject"},
    })
}

async fn tell(stack: &Stack, event: &Value) {
    stack.broker.tell(EXCHANGE, event.to_string().as_bytes()).await;
}

/// Sends an event by HTTP; tells the status of the answer.
async fn post(watcher: &Running, authorization: &str, body: &[u8]) -> u16 {
    let log = watcher.log();
    let (_, rest) = log.split_once("events are accepted at http://").expect("it said where");
    let (address, _) = rest.split_once('/').expect("a path follows");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /events/s3 HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A body that is too long is not read to its end.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

const BEARER: &str = "Authorization: Bearer open sesame\r\n";

#[tokio::test]
async fn each_object_is_loaded_once_over_every_event_source() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    // No event announces this one: it was there before.
    stack.s3.put("drops", "in/before.csv", Rows::valid(10));
    stack.s3.put("drops", "out/elsewhere.csv", Rows::valid(10).unlike(20));
    let mut watcher = stack
        .watcher()
        .env("WATCH_SUFFIX", ".csv,.gz")
        .env("WEBHOOK_ADDR", "127.0.0.1:0")
        .env("WEBHOOK_SECRET", "open sesame")
        .start();
    stack.database.until("SELECT count(*) = 1 FROM runs WHERE state = 'complete'").await;

    let (put, copied, removed) = ("s3:ObjectCreated:Put", "s3:ObjectCreated:Copy", "s3:ObjectRemoved:Delete");
    let keys = [
        "in/a.csv",
        "in/b c+é.csv",
        "in/d.csv",
        "in/e.csv",
        "in/f.csv",
        "in/g h%20.csv",
        "in/skipped.tmp",
        "in/_marker.csv",
    ];
    for (number, key) in keys.into_iter().enumerate() {
        stack.s3.put("drops", key, Rows::valid(10).unlike(number + 1));
    }
    let escaped = "in%2Fb+c%2B%C3%A9.csv";
    let events = [
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "drops"}),
        // Doubled, in other words, and in the wrong order.
        minio(removed, "in/a.csv", "in%2Fa.csv"),
        minio(copied, "in/a.csv", "in%2Fa.csv"),
        minio(put, "in/a.csv", "in%2Fa.csv"),
        aws("in%2Fa.csv"),
        minio(put, "in/b c+é.csv", escaped),
        sns(&aws(escaped)),
        sns(&aws("in%2Fd.csv")),
        aws("in%2Fgone.csv"),
        aws("in%2Fskipped.tmp"),
        aws("in%2F_marker.csv"),
        bridged("in/g h%20.csv"),
        sns(&bridged("in/g h%20.csv")),
        aws("out%2Felsewhere.csv"),
        aws("in%2Fbefore.csv"),
        json!({"Records": [record("ObjectCreated:Put", "in%2Fd.csv"), record("ObjectCreated:Put", "in%2Fe.csv")]}),
    ];
    for event in &events {
        tell(&stack, event).await;
    }
    stack.broker.tell(EXCHANGE, b"hello").await;

    let event = minio(put, "in/f.csv", "in%2Ff.csv").to_string();
    for wrong in ["", "Authorization: Bearer open\r\n", "Authorization: open sesame?\r\n"] {
        assert_eq!(post(&watcher, wrong, event.as_bytes()).await, 401);
    }
    assert_eq!(post(&watcher, BEARER, b"hello").await, 400);
    assert_eq!(post(&watcher, BEARER, &vec![b' '; 1024 * 1024 + 1]).await, 413);
    for authorization in [BEARER, "Authorization: open sesame\r\n"] {
        assert_eq!(post(&watcher, authorization, event.as_bytes()).await, 200);
        // It is answered once the run is committed.
        let begun = "SELECT count(*) FROM runs WHERE source_location = 's3://drops/in/f.csv'";
        assert_eq!(stack.database.count(begun).await, 1);
    }

    stack.database.until("SELECT count(*) = 7 FROM runs WHERE state = 'complete'").await;
    stack.database.until("SELECT count(*) = 1 FROM dead_letters WHERE outcome = 'unreadable' AND run_id IS NULL").await;
    watcher.says("s3://drops/in/gone.csv is gone").await;
    while stack.broker.depth(QUEUE).await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    watcher.terminate();
    watcher.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    assert_eq!(stack.broker.depth(QUEUE).await.unwrap(), 0, "nothing is given back");
    let loaded = stack.database.texts("SELECT source_location FROM runs ORDER BY source_location COLLATE \"C\"").await;
    let names = ["a.csv", "b c+é.csv", "before.csv", "d.csv", "e.csv", "f.csv", "g h%20.csv"];
    assert_eq!(loaded, names.map(|name| format!("s3://drops/in/{name}")));
    for (run, tally) in law::holds(&stack.database).await {
        assert_eq!((tally.total(), tally.failed), (10, 0), "{run}");
    }
}

/// As AWS says it by way of EventBridge: another shape, and a key that is not escaped.
fn event_bridge(what: &str, key: &str) -> Value {
    json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": what, "source": "aws.s3",
        "account": "111122223333", "time": "2026-01-11T10:00:00Z", "region": "eu-west-1",
        "resources": ["arn:aws:s3:::drops"],
        "detail": {
            "version": "0", "bucket": {"name": "drops"}, "request-id": "N4N7GDK58NMKJ12R",
            "object": {"key": key, "size": 9, "etag": "690505a0", "sequencer": "617f08299329d189"},
            "requester": "111122223333", "reason": "PutObject",
        },
    })
}

#[tokio::test]
async fn eventbridge_events_load_the_objects_they_name() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    stack.s3.put("drops", "out/elsewhere.csv", Rows::valid(9));
    // So that there is a bucket.
    stack.s3.put("drops", "out/elsewhere.csv", Rows::valid(1));
    let mut watcher = stack
        .watcher()
        .env("EVENTS_EXCHANGE", EXCHANGE)
        .env("WEBHOOK_ADDR", "127.0.0.1:0")
        .env("WEBHOOK_SECRET", "open sesame")
        .start();
    watcher.says("events are accepted at http://").await;
    let keys = ["in/a b.csv", "in/50%25 c+d.csv", "in/é.csv"];
    for (more, key) in keys.iter().enumerate() {
        stack.s3.put("drops", key, Rows::valid(10 + more as u64));
    }
    let [first, second, third] = keys.map(|key| event_bridge("Object Created", key));
    // By the webhook as it is, by the queue as it is, and within what SNS makes of it.
    assert_eq!(post(&watcher, BEARER, first.to_string().as_bytes()).await, 200);
    let begun = "SELECT count(*) FROM runs WHERE source_location = 's3://drops/in/a b.csv'";
    assert_eq!(stack.database.count(begun).await, 1, "it is answered once its run has begun");
    tell(&stack, &second).await;
    tell(&stack, &sns(&third)).await;
    // What else happens to objects is nothing to load.
    for what in ["Object Deleted", "Object Tags Added", "Object Restore Completed"] {
        assert_eq!(post(&watcher, BEARER, event_bridge(what, "in/other.csv").to_string().as_bytes()).await, 200);
    }
    stack.database.until("SELECT count(*) = 3 FROM runs WHERE state = 'complete'").await;
    watcher.terminate();
    watcher.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
    assert_eq!(stack.database.count("SELECT count(*) FROM dead_letters").await, 0);
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions").await, 10 + 11 + 12);
    law::holds(&stack.database).await;
}

#[tokio::test]
async fn an_unloadable_file_fails_once_and_delays_no_other() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    stack.s3.put("drops", "in/letter.csv", "Dear bank,\nhere are no rows.\n");
    stack.s3.put("drops", "in/folder/empty.csv", "");
    // Rows, and not one that is valid.
    stack.s3.put("drops", "in/odd.csv", Rows::valid(3).replace(" 10:00:", " 10h"));
    let watcher = stack.watcher().env("WATCH_INTERVAL", "1s").env("AMQP_EVENTS", "off").start();
    stack.database.until("SELECT count(*) = 2 FROM runs WHERE state = 'failed'").await;
    // Each is found by another listing.
    for (number, name) in ["in/first.csv", "in/second.csv", "in/third.csv"].into_iter().enumerate() {
        stack.s3.put("drops", name, Rows::valid(10).unlike(number));
        // A copy of the first, which every listing finds, as no run has read it.
        stack.s3.put("drops", "in/copy.csv", Rows::valid(10));
        let loaded = format!("SELECT count(*) = {} FROM runs WHERE state = 'complete'", number + 1);
        stack.database.until(&loaded).await;
    }
    watcher.terminate();
    let ended = watcher.end().await;
    ended.expect_exit(0).expect_says("s3://drops/in/letter.csv cannot be loaded");
    ended.expect_says("s3://drops/in/odd.csv is not loaded completely: not one of 3 rows is valid");
    let failed = "SELECT concat_ws('|', source_location, rows_read, error IS NOT NULL) FROM runs WHERE state = 'failed' ORDER BY 1";
    let expected = ["s3://drops/in/letter.csv|0|t", "s3://drops/in/odd.csv|3|t"];
    assert_eq!(stack.database.texts(failed).await, expected, "no listing brings them again");
    let of_one_content =
        "SELECT count(*) FROM runs WHERE source_location IN ('s3://drops/in/first.csv', 's3://drops/in/copy.csv')";
    assert_eq!(stack.database.count(of_one_content).await, 1);
    law::holds(&stack.database).await;
}

fn sharing(stack: &Stack) -> Running {
    about_to_share(stack).start()
}

fn about_to_share(stack: &Stack) -> Program {
    stack.watcher().with_small_queues().env("WATCH_INTERVAL", "1s").env("LEASE_TIMEOUT", "3s")
}

/// All that the ledger says of runs.
const LEDGER: &str = "SELECT runs::text FROM runs";

async fn the_other_has_finished(stack: &Stack, file: &Rows) {
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!((tally.predicted, tally.total()), (ROWS, ROWS));
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
}

#[tokio::test]
async fn loads_of_a_killed_watcher_are_finished_by_the_other() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    stack.s3.put("drops", "in/a.csv", &file);
    let first = sharing(&stack);
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    let mut second = sharing(&stack);
    second.says("Watching s3://drops/in/").await;
    first.kill().await;
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    the_other_has_finished(&stack, &file).await;
    second.terminate();
    second
        .end()
        .await
        .expect_exit(0)
        .expect_says("has lost its loader: taking it over")
        .expect_says("resuming at row ");
}

#[tokio::test]
async fn a_suspended_watcher_changes_nothing_when_it_resumes() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    stack.s3.put("drops", "in/a.csv", &file);
    let (mut first, metrics) = shown(about_to_share(&stack)).await;
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    let mut second = sharing(&stack);
    second.says("Watching s3://drops/in/").await;
    first.freeze().await;
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    the_other_has_finished(&stack, &file).await;
    second.says("has lost its loader: taking it over").await;
    let before = stack.database.texts(LEDGER).await;
    first.thaw();
    first.says("was taken over").await;
    let (_, counted) = get_text(&metrics, "/metrics").await.unwrap();
    assert_eq!(value(&counted, "assay_loader_loads_total{outcome=\"taken_over\"}"), 1);
    // It continues with new objects.
    stack.s3.put("drops", "in/b.csv", Rows::valid(10));
    second.terminate();
    second.end().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 2 AND bool_and(state = 'complete') FROM runs").await;
    let after = stack.database.texts("SELECT runs::text FROM runs ORDER BY started_at LIMIT 1").await;
    assert_eq!(after, before, "the woken one has changed nothing");
    assert_eq!(law::holds(&stack.database).await.len(), 2);
    first.terminate();
    first.end().await.expect_exit(0);
}

#[tokio::test]
async fn a_stopped_watcher_leaves_its_run_to_the_next() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(ROWS);
    stack.s3.put("drops", "in/a.csv", &file);
    let first = sharing(&stack);
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    first.terminate();
    first.end().await.expect_exit(0);
    assert_eq!(stack.database.count("SELECT count(*) FROM runs WHERE lease_holder IS NULL").await, 1, "it is released");
    let second = sharing(&stack);
    let _stages = [stack.predictor().with_small_queues().start(), stack.writer().with_small_queues().start()];
    the_other_has_finished(&stack, &file).await;
    second.terminate();
    second.end().await.expect_exit(0);
}

#[tokio::test]
async fn wrong_settings_of_a_watch_are_refused() {
    let stack = Stack::new(Script::Score).await;
    stack.s3.put("drops", "in/a.csv", Rows::valid(1));
    let cases: [(&str, &str, &[&str]); 5] = [
        ("WEBHOOK_ADDR", "127.0.0.1:0", &["WEBHOOK_SECRET is not"]),
        ("BATCH_RUN_ID", "nightly", &["BATCH_RUN_ID"]),
        ("WATCH_INTERVAL", "0s", &["WATCH_INTERVAL", "at least 1s"]),
        ("EVENTS_EXCHANGE", "a b", &["EVENTS_EXCHANGE"]),
        ("LEASE_TIMEOUT", "10ms", &["LEASE_TIMEOUT", "such as 30s"]),
    ];
    for (name, value, words) in cases {
        stack.watcher().env(name, value).run().await.expect_one_clear_line(2, words);
    }
    let nowhere = stack.known_to(Program::new("loader")).args(["watch", "s3://nowhere/in/"]).run().await;
    nowhere.expect_one_clear_line(4, &["no bucket `nowhere`"]);
}

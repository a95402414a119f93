//! Messages with properties that break client libraries, in every queue and exchange: each fails alone.

use assay_tests::{RawAmqp, RawProperties, Rows, Script, Stack, law};
use assay_transaction::Tally;
use serde_json::json;

async fn poison(stack: &Stack, exchange: &str, key: &[u8]) -> i64 {
    let mut amqp = RawAmqp::connect(stack.broker.url()).await;
    let exchange = format!("{}{exchange}", stack.broker.prefix());
    let poisons = RawProperties::poisons();
    for (name, properties) in &poisons {
        // A message without its properties is identified by its body.
        let body = format!("{name} by {exchange} {}", String::from_utf8_lossy(key));
        assert!(amqp.publish(&exchange, key, properties, body.as_bytes()).await);
    }
    i64::try_from(poisons.len()).unwrap()
}

#[tokio::test]
async fn poison_on_every_route_fails_alone() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(100));
    stack.loader(&object).env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "run").run().await.expect_exit(0);
    let chunk = stack.broker.take("transactions.batch").await;
    let mut letters = 0;
    let ways = [
        ("assay.chunks", "batch"),
        ("assay.transactions", "realtime"),
        ("assay.scored", "batch"),
        ("assay.scored", "realtime"),
    ];
    for (exchange, lane) in ways {
        letters += poison(&stack, exchange, lane.as_bytes()).await;
    }
    letters += poison(&stack, "assay.dead", b"\xff\xfe").await;
    let mut amqp = RawAmqp::connect(stack.broker.url()).await;
    for (exchange, key) in [("assay.transactions", "realtime"), ("assay.dead", "")] {
        let exchange = format!("{}{exchange}", stack.broker.prefix());
        assert!(amqp.publish(&exchange, key.as_bytes(), &RawProperties::deepest(), b"the deepest").await);
        letters += 1;
    }
    // A real one, behind those.
    stack.broker.put("assay.dead", "transactions.batch", &chunk).await;
    letters += 1;

    let waiting = stack.loader(&object).arg("--wait").start();
    let [predictor, writer] = stack.start_stages();
    waiting.end().await.expect_exit(1);
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 90, failed: 10, ..Tally::default() });

    stack.s3.put("drops", "in/before.csv", Rows::valid(10).unlike(1));
    let watcher = stack.watcher().start();
    stack.database.until("SELECT count(*) = 2 FROM runs WHERE state = 'complete'").await;
    // They all listen by now, and the watcher has a queue for events.
    poison(&stack, "assay.control", b"\xff").await;
    letters += poison(&stack, "assay.events", b"drops.\xff").await;
    stack.s3.put("drops", "in/after.csv", Rows::valid(10).unlike(2));
    let event = json!({"EventName": "s3:ObjectCreated:Put", "Key": "drops/in/after.csv", "Records": []});
    stack.broker.tell("assay.events", event.to_string().as_bytes()).await;
    stack.database.until("SELECT count(*) = 3 FROM runs WHERE state = 'complete'").await;
    stack.database.until(&format!("SELECT count(*) = {letters} FROM dead_letters")).await;

    stack.assay(["audit", "--all"]).run().await.expect_exit(0);
    for program in [predictor, writer, watcher] {
        assert!(program.is_running());
        program.terminate();
        program.end().await.expect_exit(0).expect_silent_about("lost the connection");
    }
}

//! External producers and listeners: the programs in `examples/live`, which use only RabbitMQ and JSON.

use std::path::Path;

use assay_tests::{Program, Running, Script, Stack};
use serde_json::{Value, json};

/// What became of the rows of all runs that began.
const STORED: &str = "
    SELECT concat_ws('|', t.row_number, t.external_id, t.amount, t.processing_type, t.attributes ->> 'country', p.prediction)
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id AND p.run_id = t.run_id ORDER BY t.row_number";
const INVALID: &str = "SELECT concat_ws('|', row_number, reason) FROM invalid_transactions ORDER BY row_number";
const RUNS: &str = "SELECT run_id FROM runs";

/// Stages that have declared what producers and listeners need.
async fn stages(stack: &Stack) -> [Running; 2] {
    let mut predictor = stack.predictor().start();
    predictor.says("scoring with up to").await;
    [predictor, stack.writer().env("PREDICTION_FEED", "all").start()]
}

fn producer(stack: &Stack) -> Program {
    stack.broker.known_to(Program::python("examples/live/producer.py")).args(["--producer", "till 7"])
}

fn transaction(id: &str, amount: &str) -> Value {
    json!({
        "id": id, "description": "Café", "amount": amount, "timestamp": "2026-01-11T10:00:00Z",
        "operation_type": "card_payment", "side": "debit", "country": "FR",
    })
}

fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn plain_json_is_scored_stored_and_published() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stages(&stack).await;
    let listener = Program::python("examples/live/feed.py").args(["realtime.fraud", "--count", "1"]);
    let mut listener = stack.broker.known_to(listener).start();
    listener.says("listening to realtime.fraud").await;

    let folder = tempfile::tempdir().unwrap();
    // Scores are the cents, modulo 1000.
    let one = file(folder.path(), "one.json", &transaction("a", "-9.50").to_string());
    let broken = json!({ "id": "no amount" });
    let rows = json!([transaction("b", "-1.00"), transaction("c", "1.00001"), broken, transaction("d", "2.0050")]);
    let array = file(folder.path(), "array.json", &rows.to_string());
    producer(&stack).arg(&one).run().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 1 FROM predictions").await;
    producer(&stack).arg(&array).run().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 3 FROM predictions").await;

    let stored =
        ["1|a|-9.5000|streaming|FR|fraud", "2|b|-1.0000|streaming|FR|legitimate", "5|d|2.0050|streaming|FR|legitimate"];
    assert_eq!(stack.database.texts(STORED).await, stored);
    let invalid = stack.database.texts(INVALID).await;
    assert_eq!((invalid.len(), invalid[0].as_str()), (2, "3|amount_scale"), "{invalid:?}");
    let heard = listener.end().await;
    assert!(heard.expect_exit(0).stdout.starts_with(r#"realtime.fraud {"transaction_id":"#), "{}", heard.stdout);
    assert!(heard.stdout.contains(r#""external_id":"a","#), "{}", heard.stdout);

    // A producer without a confirm sends the same again. The last message shows that the others were processed.
    producer(&stack).args([one.as_str(), &array, &one, &array]).run().await.expect_exit(0);
    let last = file(folder.path(), "last.json", &transaction("e", "-1.00").to_string());
    producer(&stack).arg(&last).run().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 4 FROM predictions").await;
    assert_eq!(stack.database.texts(STORED).await[..3], stored);
    assert_eq!(stack.database.texts(INVALID).await, invalid);
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 3);
    assert_eq!(stack.database.count("SELECT count(*) FROM failed_transactions").await, 0);
    let runs = stack.database.texts(RUNS).await;
    let day = runs[0].strip_prefix("amqp_till-7-7bdb95b7_").expect("named after its producer");
    assert!(runs.len() == 1 && day.len() == 8 && day.starts_with("20"), "{runs:?}");
}

#[tokio::test]
async fn the_demonstration_sends_an_object_and_an_array() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stages(&stack).await;
    let sent = producer(&stack).run().await;
    assert_eq!(sent.expect_exit(0).stdout.matches("confirmed").count(), 2);
    stack.database.until("SELECT count(*) = 4 FROM transactions JOIN predictions ON transaction_id = id").await;
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 2);
}

#[tokio::test]
async fn a_message_without_json_becomes_a_dead_letter() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stages(&stack).await;
    let folder = tempfile::tempdir().unwrap();
    let broken = file(folder.path(), "broken.json", "[{\"id\": 1,");
    producer(&stack).arg(&broken).run().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 1 FROM dead_letters WHERE outcome = 'unreadable'").await;
    let letters = stack.database.texts("SELECT concat_ws('|', queue, reason) FROM dead_letters").await;
    assert!(letters[0].starts_with("transactions.realtime|") && letters[0].contains("JSON"), "{letters:?}");
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions").await, 0);
}

#[tokio::test]
async fn the_examples_name_what_prevents_them() {
    let stack = Stack::new(Script::Score).await;
    // Nothing has declared an exchange yet.
    producer(&stack).run().await.expect_exit(1).expect_says("start a predictor first");
    let feed = || stack.broker.known_to(Program::python("examples/live/feed.py"));
    feed().run().await.expect_exit(1).expect_says("start a writer first");
    producer(&stack).without("AMQP_URL").run().await.expect_exit(2).expect_says("AMQP_URL is not set");
    producer(&stack).arg("nowhere.json").run().await.expect_exit(2).expect_says("cannot read nowhere.json");
    producer(&stack).args(["--message-id", "x"]).run().await.expect_exit(2).expect_says("--message-id");
    let closed_port = "amqp://guest:a-password@127.0.0.1:1/";
    for program in [producer(&stack), feed()] {
        let ended = program.env("AMQP_URL", closed_port).run().await;
        ended
            .expect_exit(3)
            .expect_says("cannot reach the broker")
            .expect_says("Connection refused")
            .expect_silent_about("a-password");
        ended.expect_silent_about("Traceback");
    }
}

//! Malformed messages in the queues become dead letters, and the run continues.

use std::path::Path;

use assay_tests::{DEADLINE, Queue, Rows, Script, Stack, law};
use assay_transaction::Tally;

/// Messages of the corpus that cannot be read, and one whose reason would not fit a header if it quoted the message.
fn unreadable(kind: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/transaction/tests/corpus").join(kind);
    let files = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path());
    let refused = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("refused-"));
    let mut messages: Vec<Vec<u8>> = refused.map(|path| std::fs::read(path).unwrap()).collect();
    let rest = r#""chunk":0,"first_row":1,"rows":0,"lane":"batch","predicted_at":"2026-01-01T00:00:00Z""#;
    let secret = "4111 1111 1111 1111 ".repeat(50_000);
    messages.push(format!(r#"{{"run_id":"{secret}",{rest},"transactions":[],"predicted":[]}}"#).into_bytes());
    messages
}

#[tokio::test]
async fn an_unreadable_message_becomes_a_dead_letter_and_the_run_continues() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    stack.loader(&object).env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    let mut expected = 0;
    for (queue, kind, corpus) in
        [("transactions.batch", "assay.chunk.v1", "chunk"), ("predictions.batch", "assay.scored.v1", "scored")]
    {
        let queue = stack.broker.look_at(queue).await;
        for message in unreadable(corpus) {
            queue.put(kind, &message).await;
            expected += 1;
        }
        queue.put("assay.chunk.v99", b"{}").await;
        expected += 1;
    }
    let [predictor, writer] = stack.start_stages();
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 300, ..Tally::default() });
    until_dead(&stack, &stack.broker.look_at("dead_letters").await, expected).await;
    for stage in [predictor, writer] {
        stage.terminate();
        stage.end().await.expect_exit(0).expect_says("becomes a dead letter").expect_silent_about("4111");
    }
}

/// Waits until so many messages are dead letters, on the broker or in the database.
async fn until_dead(stack: &Stack, queue: &Queue, expected: i64) {
    let dead = async {
        loop {
            let stored = stack.database.count("SELECT count(*) FROM dead_letters").await;
            if i64::from(queue.depth().await) + stored == expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, dead).await.is_ok(), "not {expected} dead letters");
}

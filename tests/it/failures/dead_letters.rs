//! Messages that the broker dead-lettered, that no program can read, or that are lost: recorded, reported, repaired and replayed.

use assay_tests::{Rows, STORED, Script, Stack, Taken, assert_same, content, law};
use assay_transaction::Tally;

const ROWS: u64 = 100;
const LETTERS: &str = "SELECT concat_ws('|', queue, run_id, outcome, reason) FROM dead_letters ORDER BY id";

/// Ten chunks that wait for a predictor.
async fn published(stack: &Stack) -> (String, Rows) {
    let file = Rows::valid(ROWS);
    let object = stack.s3.put("transactions", "a.csv", &file);
    stack.loader(&object).env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "run").run().await.expect_exit(0);
    (object, file)
}

/// Demands that the file was stored as if nothing had happened.
async fn all_is_stored(stack: &Stack, file: &Rows) {
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: ROWS, ..Tally::default() });
}

#[tokio::test]
async fn an_unreadable_chunk_stalls_its_run_until_it_is_repaired() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    let chunk = stack.broker.take("transactions.batch").await;
    let spoiled = Taken { body: chunk.body[..chunk.body.len() / 2].to_vec(), ..chunk };
    stack.broker.put("assay.chunks", "batch", &spoiled).await;
    let _stages = stack.start_stages();

    let waiting = stack.loader(&object).arg("--wait").env("WAIT_TIMEOUT", "1h").run().await;
    waiting.expect_one_clear_line(1, &["run run is stalled", "assay repair run"]);
    let letters = stack.database.texts(LETTERS).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].starts_with("transactions.batch|run|unreadable|not a readable assay.chunk.v1"), "{letters:?}");
    stack.assay(["status", "run"]).run().await.expect_exit(0).expect_says("stalled");

    stack.assay(["repair", "run"]).run().await.expect_exit(0);
    stack.database.until_finished().await;
    all_is_stored(&stack, &file).await;
    stack.loader(&object).arg("--wait").run().await.expect_exit(0).expect_says("already loaded");
}

/// As when a run is repaired before the update of the programs that could not read the chunk.
#[tokio::test]
async fn a_repaired_chunk_that_dies_again_stalls_its_run_again() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    let chunk = stack.broker.take("transactions.batch").await;
    let spoiled = Taken { body: chunk.body[..chunk.body.len() / 2].to_vec(), ..chunk };
    stack.broker.put("assay.chunks", "batch", &spoiled).await;
    let [predictor, _writer] = stack.start_stages();
    stack.database.until("SELECT count(*) = 9 FROM chunks").await;
    stack.database.until("SELECT count(*) = 1 FROM dead_letters").await;
    predictor.kill().await;
    stack.assay(["repair", "run"]).run().await.expect_exit(0).expect_says("dead letters  1 resolved");
    stack.database.until("SELECT bool_and(resolved_at IS NOT NULL) FROM dead_letters").await;

    stack.broker.take("transactions.batch").await;
    stack.broker.put("assay.chunks", "batch", &spoiled).await;
    let _predictor = stack.predictor().start();
    stack.database.until("SELECT bool_or(resolved_at IS NULL) FROM dead_letters").await;
    assert_eq!(stack.database.count("SELECT count(*) FROM dead_letters").await, 1, "it is the same letter");
    stack.assay(["status", "run"]).run().await.expect_exit(0).expect_says("stalled");
    let waiting = stack.loader(&object).arg("--wait").env("WAIT_TIMEOUT", "1h").run().await;
    waiting.expect_one_clear_line(1, &["run run is stalled", "assay repair run"]);

    stack.assay(["repair", "run", "--wait"]).run().await.expect_exit(0);
    all_is_stored(&stack, &file).await;
}

#[tokio::test]
async fn a_chunk_that_the_broker_dead_lettered_is_recorded_as_failed_and_can_be_replayed() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    let chunk = stack.broker.take("transactions.batch").await;
    // Twice: a dead letter may be delivered again.
    stack.broker.put("assay.dead", "transactions.batch", &chunk).await;
    stack.broker.put("assay.dead", "transactions.batch", &chunk).await;
    let _stages = stack.start_stages();
    let waiting = stack.loader(&object).arg("--wait").run().await;
    waiting.expect_exit(1).expect_says("Pipeline complete: 90 processed, 10 failed, 0 invalid");
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 90, failed: 10, ..Tally::default() });
    let classes = "SELECT DISTINCT class FROM failed_transactions";
    assert_eq!(stack.database.texts(classes).await, ["dead_lettered"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM dead_letters").await, 1, "the same letter twice is one");

    stack.assay(["replay", "run", "--class", "dead_lettered", "--wait"]).run().await.expect_exit(0);
    all_is_stored(&stack, &file).await;
}

#[tokio::test]
async fn a_scored_chunk_among_the_dead_letters_is_recorded_as_failed_too() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    let predictor = stack.predictor().start();
    let chunk = stack.broker.take("predictions.batch").await;
    stack.broker.put("assay.dead", "predictions.batch", &chunk).await;
    let _writer = stack.writer().start();
    stack.loader(&object).arg("--wait").run().await.expect_exit(1);
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 90, failed: 10, ..Tally::default() });
    // What arrives after all is known.
    stack.broker.put("assay.scored", "batch", &chunk).await;
    stack.assay(["replay", "run", "--wait"]).run().await.expect_exit(0);
    all_is_stored(&stack, &file).await;
    drop(predictor);
}

#[tokio::test]
async fn a_purged_queue_is_repaired_from_the_source() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    for _ in 0..3 {
        let chunk = stack.broker.take("transactions.batch").await;
        stack.broker.put("assay.chunks", "batch", &chunk).await;
    }
    assert_eq!(stack.broker.purge("transactions.batch").await, 10);
    let _stages = stack.start_stages();
    let dry = stack.assay(["repair", "run", "--dry-run"]).run().await;
    dry.expect_exit(0).expect_says("10");
    assert_eq!(stack.database.count("SELECT count(*) FROM chunks").await, 0);
    stack.assay(["repair", "run"]).run().await.expect_exit(0);
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    all_is_stored(&stack, &file).await;
    assert_eq!(stack.database.texts("SELECT action FROM operations").await, ["repair"]);
}

#[tokio::test]
async fn a_dead_letter_of_no_run_is_kept_and_stalls_no_run() {
    let stack = Stack::new(Script::Score).await;
    let (object, file) = published(&stack).await;
    let foreign = Taken { properties: lapin::BasicProperties::default(), body: b"hello".to_vec() };
    stack.broker.put("assay.chunks", "batch", &foreign).await;
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    all_is_stored(&stack, &file).await;
    stack.database.until("SELECT count(*) = 1 FROM dead_letters WHERE run_id IS NULL AND outcome = 'unreadable'").await;
}

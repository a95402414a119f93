//! `assay repair`: publishes lost chunks again from the source, and only those.

use assay_tests::{Rows, STORED, Script, Stack, assert_same, content, law};
use serde_json::json;

#[tokio::test]
async fn chunks_that_the_database_lost_are_published_again() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(100);
    let object = stack.s3.put("transactions", "a.csv", &file);
    let _stages = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10");
    loader.run().await.expect_exit(0);
    let asked = stack.ml_api.bodies().len();
    // As in a database that was restored from a backup.
    let restored = "
        DELETE FROM predictions WHERE transaction_id IN (SELECT id FROM transactions WHERE row_number BETWEEN 31 AND 50);
        DELETE FROM transactions WHERE row_number BETWEEN 31 AND 50;
        DELETE FROM chunks WHERE chunk IN (3, 4)";
    sqlx::raw_sql(restored).execute(stack.database.pool()).await.unwrap();
    let audit = stack.assay(["audit", "first"]).run().await;
    audit.expect_exit(1).expect_says("missing (2): chunks 3-4").expect_says("assay repair");

    let dry = stack.assay(["repair", "first", "--dry-run"]).run().await;
    dry.expect_exit(0).expect_says("missing  20 rows in 2 chunks").expect_says("nothing was published");
    stack.assay(["audit", "first"]).run().await.expect_exit(1);
    assert_eq!(stack.database.count("SELECT count(*) FROM operations").await, 0);

    let repair = stack.assay(["repair", "first", "--wait", "--json", "--reason", "restored"]);
    let repaired = repair.env("ASSAY_OPERATOR", "ada").run().await.expect_exit(0).json();
    assert_eq!((&repaired["chunks_missing"], &repaired["rows_missing"]), (&json!(2), &json!(20)));
    stack.assay(["audit", "first"]).run().await.expect_exit(0);
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 100);
    assert_eq!(stack.ml_api.bodies().len(), asked + 2, "nothing else is scored again");

    // Again: nothing is missing, and nothing is recorded.
    stack.assay(["repair", "first", "--wait"]).run().await.expect_exit(0).expect_says("missing  nothing");
    let operations = stack.assay(["operations", "first", "--json"]).run().await.expect_exit(0).json();
    assert_eq!(
        (&operations[0]["action"], &operations[0]["operator"], &operations[1]),
        (&json!("repair"), &json!("ada"), &json!(null))
    );
    assert_eq!(operations[0]["details"]["rows_published"], 20);
}

#[tokio::test]
async fn a_stalled_run_is_complete_after_its_repair() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    let loader = || stack.loader(&object).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10");
    loader().run().await.expect_exit(0);
    // The queue is purged, and one chunk is an unreadable dead letter.
    assert_eq!(stack.broker.purge("transactions.batch").await, 3);
    let letter = "INSERT INTO dead_letters (queue, message_id, run_id, reason, attempt, body, outcome)
        VALUES ('transactions.batch', 'first/1', 'first', 'not a readable assay.chunk.v1', 0, '', 'unreadable')";
    sqlx::raw_sql(letter).execute(stack.database.pool()).await.unwrap();
    let _stages = stack.start_stages();
    stack.assay(["status", "first"]).run().await.expect_exit(0).expect_says("run first: stalled");

    let repaired = stack.assay(["repair", "first", "--wait"]).run().await;
    repaired.expect_exit(0).expect_says("30 rows in 3 chunks").expect_says("dead letters  1 resolved");
    stack.database.until_finished().await;
    stack.assay(["status", "first"]).run().await.expect_exit(0).expect_says("run first: complete");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 30);

    stack.s3.put("transactions", "a.csv", Rows::valid(29));
    let replaced = stack.assay(["repair", "first"]).run().await;
    replaced.expect_one_clear_line(4, &["run first cannot be read again", "s3://transactions/a.csv"]);
}

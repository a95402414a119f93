//! What is shown of unfinished runs and their rows at each stage.

use assay_tests::{ClosedPort, Program, Rows, Script, Stack, law};
use serde_json::json;

#[tokio::test]
async fn a_published_row_is_in_a_queue() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    let loader = stack.loader(&object).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10");
    loader.run().await.expect_exit(0);

    let row = stack.assay(["row", "first", "15"]).run().await;
    row.expect_exit(0).expect_says("on its way: published in one of the chunks 1 to 2, waiting to be scored or stored");
    row.expect_says("transactions.batch           3          0\n");
    let row = stack.assay(["row", "first", "15", "--json"]).run().await.json();
    assert_eq!(
        (&row["outcome"], &row["stage"], &row["chunks"]),
        (&json!("on_its_way"), &json!("published"), &json!([1, 2]))
    );
    // Without a broker, only the database is queried.
    let row = stack.assay(["row", "first", "15"]).without("AMQP_URL").run().await;
    row.expect_exit(0).expect_says("published").expect_silent_about("consumers");

    let status = stack.assay(["status", "first"]).run().await;
    status.expect_exit(0).expect_says("run first: sealed").expect_says("read       30 rows, 100 % of the source");
    status.expect_says("stored     0 rows, 0 of 3 chunks").expect_says("time left  not known");
    status.expect_says("transactions.batch           3          0\n");

    // An unreadable dead letter of the run may be its chunk; one of another chunk may not.
    let letter = "INSERT INTO dead_letters (queue, message_id, run_id, reason, attempt, body, outcome)
        VALUES ('transactions.batch', 'first/0', 'first', 'not a readable assay.chunk.v1', 0, '', 'unreadable')";
    sqlx::raw_sql(letter).execute(stack.database.pool()).await.unwrap();
    let stalled = stack.assay(["row", "first", "5"]).run().await;
    stalled.expect_exit(0).expect_says("on its way: stalled").expect_says("first/0").expect_says("not a readable");
    stack.assay(["row", "first", "15"]).run().await.expect_says("on its way: published").expect_silent_about("stalled");
    stack.assay(["runs"]).run().await.expect_exit(0).expect_says("first  stalled");
    let status = stack.assay(["status", "first"]).run().await;
    status
        .expect_says("run first: stalled")
        .expect_says("1 dead letter keeps the run")
        .expect_says("assay repair first");
    let failures = stack.assay(["failures", "first"]).run().await;
    failures.expect_exit(0).expect_says("unreadable        1").expect_says("first/0  not a readable assay.chunk.v1");
}

#[tokio::test]
async fn a_row_beyond_the_checkpoint_may_not_be_published() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let small = |program: Program| program.env("QUEUE_MAX_LENGTH", "5").env("PUBLISH_WINDOW", "2");
    let loader = small(stack.loader(&object)).env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20");
    let mut loader = loader.arg("--wait").env("BATCH_RUN_ID", "first").start();
    // The queue is full and has no consumer.
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    let row = small(stack.assay(["row", "first", "300"])).run().await;
    row.expect_exit(0).expect_says("on its way: the checkpoint is at row ").expect_says("not confirmed by the broker");
    small(stack.assay(["row", "first", "1"])).run().await.expect_exit(0).expect_says("on its way: published in ");
    let status = small(stack.assay(["status", "first", "--json"])).run().await.expect_exit(0).json();
    assert_eq!(status["state"], "loading");
    assert!((10..100).contains(&status["read"]["percent"].as_u64().unwrap()), "{status}");

    let watched = small(stack.assay(["status", "first", "--watch", "--json"])).start();
    let _stages = [small(stack.predictor()).start(), small(stack.writer()).start()];
    loader.says("Pipeline complete").await;
    // It is shown until it is finished, at last as finished.
    let watched = watched.end().await;
    watched.expect_exit(0);
    let last: serde_json::Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["outcome"]["predicted"]), (&json!("complete"), &json!(300)));
    loader.end().await.expect_exit(0);
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 300);
}

#[tokio::test]
async fn an_interrupted_watch_exits_with_0() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    stack.loader(&object).env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let mut watched = stack.assay(["status", "first", "--watch"]).start();
    watched.prints("run first: sealed").await.terminate();
    watched.end().await.expect_exit(0);
}

#[tokio::test]
async fn an_unreachable_broker_does_not_fail_a_query() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    stack.loader(&object).env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let closed = ClosedPort::new();
    let unreachable = format!("amqp://{}", closed.address());
    let status = stack.assay(["status", "first"]).env("AMQP_URL", unreachable).env("STARTUP_TIMEOUT", "1s").run().await;
    status.expect_exit(0).expect_says("run first: sealed").expect_says("queues: not known: cannot reach");
}

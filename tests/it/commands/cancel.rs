//! `assay cancel` of a run without a loader, and of a finished run.

use assay_tests::{Program, Rows, Script, Stack, law};
use assay_transaction::Tally;
use serde_json::json;

#[tokio::test]
async fn a_run_without_a_loader_is_sealed_and_ends() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let small = |program: Program| program.env("QUEUE_MAX_LENGTH", "5").env("PUBLISH_WINDOW", "2");
    let loader = small(stack.loader(&object)).env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20");
    let loader = loader.env("BATCH_RUN_ID", "first").start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    loader.kill().await;

    let cancel =
        || stack.assay(["cancel", "first", "--reason", "the wrong file", "--yes"]).env("ASSAY_OPERATOR", "ada");
    let cancelled = cancel().arg("--json").run().await.expect_exit(0).json();
    assert_eq!((&cancelled["state"], &cancelled["was_ordered_before"]), (&json!("sealed"), &json!(false)));
    let rows_read = cancelled["rows_read"].as_u64().unwrap();
    assert!((40..300).contains(&rows_read) && rows_read % 10 == 0, "{cancelled}");
    small(stack.assay(["status", "first"])).run().await.expect_exit(0).expect_says("run first: cancelling");
    small(stack.assay(["row", "first", "300"])).run().await.expect_says("never read: reading ended after row ");
    // The order stays and is recorded once; another reason is recorded too.
    cancel().run().await.expect_exit(0).expect_says("was being cancelled before: the wrong file");
    let operations = stack.assay(["operations", "--json"]).run().await.expect_exit(0).json();
    assert_eq!((&operations[0]["action"], &operations[1]), (&json!("cancel"), &json!(null)), "{operations}");
    stack.assay(["cancel", "first", "--reason", "it was broken too", "--yes"]).run().await.expect_exit(0);
    let operations = stack.assay(["operations", "first", "--json"]).run().await.expect_exit(0).json();
    assert_eq!(
        [&operations[0]["reason"], &operations[1]["reason"]],
        [&json!("it was broken too"), &json!("the wrong file")],
        "{operations}"
    );
    let unconfirmed = [
        (stack.assay(["cancel", "first"]), "give --reason and --yes"),
        (stack.assay(["cancel", "first", "--reason", "x"]), "give --yes"),
        (stack.assay(["cancel", "first", "--yes"]), "give --reason"),
    ];
    for (program, missing) in unconfirmed {
        program.run().await.expect_one_clear_line(2, &[missing]);
    }

    let _stages = [small(stack.predictor()).start(), small(stack.writer()).start()];
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally.total(), rows_read);
    cancel().run().await.expect_exit(0).expect_says("run first is cancelled already");
    stack.assay(["audit", "first"]).run().await.expect_exit(0).expect_says("run first (cancelled): audit passed");

    // Its source can be loaded again.
    let again = small(stack.loader(&object)).arg("--wait").env("BATCH_RUN_ID", "second").run().await;
    again.expect_exit(0).expect_says("Pipeline complete");
    assert_eq!(law::holds(&stack.database).await["second"].total(), 300);
}

#[tokio::test]
async fn a_finished_run_cannot_be_cancelled() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    stack
        .assay(["cancel", "first"])
        .run()
        .await
        .expect_one_clear_line(2, &["first is complete", "nothing is left to cancel"]);
    stack.assay(["cancel", "second", "--yes"]).run().await.expect_one_clear_line(2, &["second"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM operations").await, 0);
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 30, ..Tally::default() });
}

//! Runs that a person cancels or an error budget aborts, and programs that are stopped.

use assay_tests::{Program, Rows, Script, Stack, law};

#[tokio::test]
async fn a_cancelled_run_ends_and_its_chunks_are_not_scored_any_more() {
    let stack = Stack::new(Script::Hold).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    stack.loader(&object).env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "run").run().await.expect_exit(0);
    // A number of requests that adapts would rise with responses only.
    let _stages = [stack.predictor().env("API_CONCURRENCY", "fixed").start(), stack.writer().start()];
    stack.ml_api.asked(5).await;
    // The chunks in work are freed by the notice, though the API still holds their requests.
    let cancel = stack.assay(["cancel", "run", "--reason", "the wrong file", "--yes"]);
    cancel.env("ASSAY_OPERATOR", "somebody").run().await.expect_exit(0);
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!((tally.failed, tally.predicted), (300, 0), "{tally:?}");
    assert_eq!(stack.database.texts("SELECT state FROM runs").await, ["cancelled"]);
    assert_eq!(stack.database.texts("SELECT DISTINCT class FROM failed_transactions").await, ["cancelled"]);
    let operations = "SELECT concat_ws('|', operator, action, run_id, reason) FROM operations";
    assert_eq!(stack.database.texts(operations).await, ["somebody|cancel|run|the wrong file"]);

    // What was dropped can be had after all.
    stack.ml_api.set(Script::Score);
    stack.assay(["replay", "run", "--wait"]).run().await.expect_exit(0);
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 300);
}

#[tokio::test]
async fn a_loader_is_notified_that_its_run_is_cancelled() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(3_000));
    let loader = stack.loader(&object).env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20").env("BATCH_RUN_ID", "run");
    // A short queue without consumers: the loader waits for room.
    let loader = loader.env("QUEUE_MAX_LENGTH", "5").env("PUBLISH_WINDOW", "2").env("DRAIN_TIMEOUT", "1s").start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    stack.assay(["cancel", "run", "--reason", "mistake", "--yes"]).run().await.expect_exit(0);
    loader.end().await.expect_one_clear_line(1, &["run run is cancelled"]);
    let small = |program: Program| program.env("QUEUE_MAX_LENGTH", "5");
    let _stages = [small(stack.predictor()).start(), small(stack.writer()).start()];
    stack.database.until_finished().await;
    let tally = law::holds_for_one_run(&stack.database).await;
    assert!((40..3_000).contains(&tally.total()), "{tally:?}");
}

#[tokio::test]
async fn too_many_failures_abort_a_run() {
    let stack = Stack::new(Script::Refuse).await;
    let file = (1..=10_000).fold(Rows::header(), |file, number| {
        let row = assay_tests::row(number);
        file.with(&if number % 20 == 0 { row.replace("Card payment", "refuse me") } else { row })
    });
    let object = stack.s3.put("transactions", "a.csv", &file);
    let _stages = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").env("MAX_FAILED_RATIO", "0.02").env("CHUNK_ROWS", "20").start();
    // A part of it is scored, with its share of failures, and enough to tell; the rest has to wait until the budget is seen to be spent.
    stack.ml_api.asked(2_000).await;
    stack.ml_api.set(Script::Hold);
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE stop_kind = 'aborted')").await;
    loader.end().await.expect_exit(1).expect_says("MAX_FAILED_RATIO=0.02");
    law::holds_for_one_run(&stack.database).await;
    let aborted = "SELECT count(*) FROM failed_transactions WHERE class = 'aborted'";
    assert!(stack.database.count(aborted).await > 0, "the rest is not scored");
    assert_eq!(stack.database.texts("SELECT state FROM runs").await, ["failed"]);
}

#[tokio::test]
async fn the_drain_has_a_deadline_and_the_rest_is_redelivered() {
    let stack = Stack::new(Script::Hold).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let predictor = stack.predictor().env("DRAIN_TIMEOUT", "1s").start();
    stack.loader(&object).env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    stack.ml_api.asked(1).await;
    predictor.terminate();
    predictor.end().await.expect_exit(0);
    stack.ml_api.set(Script::Score);
    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 300);
}

#[tokio::test]
async fn a_second_signal_ends_every_program_at_once() {
    let stack = Stack::new(Script::Hold).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let mut loader = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").env("DRAIN_TIMEOUT", "1h").start();
    let mut predictor = stack.predictor().env("DRAIN_TIMEOUT", "1h").start();
    stack.ml_api.asked(1).await;
    let mut writer = stack.writer().env("DRAIN_TIMEOUT", "1h").start();
    let connected = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'assay-writer')";
    stack.database.until(connected).await;
    // No loader comes after this one.
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE state = 'sealed')").await;
    // Only the predictor holds work that lasts; the others may be done before the second signal.
    predictor.terminate();
    predictor.says("a second signal ends at once").await.terminate();
    assert_eq!(predictor.end().await.code, Some(130));
    for program in [&mut loader, &mut writer] {
        program.terminate();
        program.says("a second signal ends at once").await.terminate();
    }
    for (program, code) in [(loader, 3), (writer, 0)] {
        let ended = program.end().await;
        assert!(ended.code == Some(130) || ended.code == Some(code), "{} ended with {:?}", ended.name, ended.code);
    }
    stack.ml_api.set(Script::Score);
    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 300);
}

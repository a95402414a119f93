//! The same rows a second time: the same file, a corrected file, a file under the name of another run.

use assay_tests::{Program, Rows, STORED, Script, Stack, assert_same, content, law, row};
use assay_transaction::Tally;

const FAILURES: &str = "SELECT concat_ws('|', row_number, class, reason) FROM failed_transactions ORDER BY row_number";

#[tokio::test]
async fn the_same_file_twice_stores_nothing_twice() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    let stored = stack.database.texts(STORED).await;
    let asked = stack.ml_api.bodies().len();

    for wait in [&["--wait"][..], &[]] {
        let loader = wait.iter().fold(stack.loader(&object), Program::arg);
        loader.run().await.expect_exit(0).expect_says("already loaded").expect_silent_about("Batch 0");
    }

    assert_same(&stack.database.texts(STORED).await, &stored);
    assert_eq!(stack.ml_api.bodies().len(), asked, "the ML API is not asked again");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 150);
}

#[tokio::test]
async fn a_load_in_progress_is_not_started_again() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    stack.loader(&object).run().await.expect_exit(0);
    // Nothing is stored yet; who waits now waits for the first run.
    let mut waiting = stack.loader(&object).arg("--wait").start();
    waiting.says("already loaded").await;
    let _stages = stack.start_stages();
    waiting.end().await.expect_exit(0).expect_says("Pipeline complete: 150 processed, 0 failed, 0 invalid");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 150);
}

#[tokio::test]
async fn two_loaders_of_one_object_make_one_run() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(600);
    let object = stack.s3.put("transactions", "a.csv", &file);
    let _stages = stack.start_stages();
    let loader = || stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20");
    let loaders = [loader().start(), loader().start()];
    for loader in loaders {
        loader.end().await.expect_exit(0);
    }
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 600);
}

#[tokio::test]
async fn force_loads_again_and_every_row_is_a_duplicate() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let stored = stack.database.texts(STORED).await;
    let again = stack.loader(&object).args(["--wait", "--force"]).env("BATCH_RUN_ID", "second").run().await;
    again
        .expect_exit(0)
        .expect_says("150 rows repeat transactions that are stored")
        .expect_says("Pipeline complete: 0 processed");

    assert_same(&stack.database.texts(STORED).await, &stored);
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["first"], Tally { predicted: 150, ..Tally::default() });
    assert_eq!(tallies["second"], Tally { duplicate: 150, ..Tally::default() });
}

#[tokio::test]
async fn an_id_again_with_other_content_fails_and_shows_both() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(20));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let stored = stack.database.texts(STORED).await;

    stack.s3.put("transactions", "a.csv", Rows::valid(20).replace("7,Card payment 7,-7.07", "7,Card payment 7,-70.7"));
    let corrected = stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "second").run().await;
    corrected.expect_exit(1).expect_says("Pipeline complete: 0 processed, 1 failed, 0 invalid");

    assert_same(&stack.database.texts(STORED).await, &stored);
    let failures = stack.database.texts(FAILURES).await;
    assert!(failures[0].starts_with("7|id_conflict|"), "{failures:?}");
    for amount in ["-7.07", "-70.7"] {
        assert!(failures[0].contains(amount), "the reason shows both contents: {failures:?}");
    }
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["second"], Tally { failed: 1, duplicate: 19, ..Tally::default() });
}

#[tokio::test]
async fn under_update_the_new_content_replaces_the_stored_one() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(20));
    let _stages = [stack.predictor().start(), stack.writer().env("ID_CONFLICT", "update").start()];
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);

    stack.s3.put("transactions", "a.csv", Rows::valid(20).replace("7,Card payment 7,-7.07", "7,Card payment 7,-7.96"));
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "second").run().await.expect_exit(0);

    let replaced = "SELECT concat_ws('|', t.amount, p.prediction, p.fraud_score) FROM transactions t
        JOIN predictions p ON p.transaction_id = t.id WHERE t.external_id = '7'";
    assert_eq!(stack.database.texts(replaced).await, ["-7.9600|legitimate|0.796"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions").await, 20);
    let kept = "SELECT transaction ->> 'amount' FROM transaction_history WHERE replaced_by_run = 'second'";
    assert_eq!(stack.database.texts(kept).await, ["-7.0700"], "what was replaced is kept");
    // Each row is accounted for by the run that stored it first.
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["first"], Tally { predicted: 20, ..Tally::default() });
    assert_eq!(tallies["second"], Tally { duplicate: 20, ..Tally::default() });
}

#[tokio::test]
async fn an_id_twice_in_one_file_is_a_duplicate_or_a_conflict() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(12).with(&row(3)).with(&row(12)).with(&row(4).replace("-4.04", "-5.00"));
    let object = stack.s3.put("transactions", "a.csv", file);
    let _stages = stack.start_stages();
    // Chunks of ten rows: row 13 repeats one of the chunk before, row 14 one of its own.
    let loaded = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").run().await;
    loaded.expect_exit(1).expect_says("Pipeline complete: 12 processed, 1 failed, 0 invalid");
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 12, failed: 1, duplicate: 2, invalid: 0 });
}

#[tokio::test]
async fn the_same_rows_in_another_object_are_others_unless_they_share_a_namespace() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    for (number, (key, namespace)) in
        [("a.csv", "bank"), ("b.csv", "bank"), ("c.csv", "another bank")].into_iter().enumerate()
    {
        let object = stack.s3.put("transactions", key, Rows::valid(10).unlike(number));
        let run_id = key.replace('.', "-");
        let loader = stack.loader(&object).arg("--wait").env("ID_NAMESPACE", namespace).env("BATCH_RUN_ID", run_id);
        loader.run().await.expect_exit(0);
    }
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["a-csv"].predicted, 10);
    assert_eq!(tallies["b-csv"].duplicate, 10);
    assert_eq!(tallies["c-csv"].predicted, 10);
}

#[tokio::test]
async fn a_run_name_cannot_be_reused_by_another_source() {
    let stack = Stack::new(Script::Score).await;
    let first = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let second = stack.s3.put("transactions", "b.csv", Rows::valid(10).unlike(1));
    let _stages = stack.start_stages();
    let named = |object: &str| stack.loader(object).arg("--wait").env("BATCH_RUN_ID", "nightly");
    named(&first).run().await.expect_exit(0);
    named(&first).run().await.expect_exit(0).expect_says("already loaded");
    named(&second).run().await.expect_one_clear_line(2, &["BATCH_RUN_ID", "nightly", "a.csv"]);
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 10);
}

#[tokio::test]
async fn a_copy_of_a_loaded_object_is_skipped_unless_forced() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    let [first, copy] = ["a.csv", "copy.csv"].map(|key| stack.s3.put("transactions", key, Rows::valid(10)));
    stack.loader(&first).arg("--wait").env("BATCH_RUN_ID", "the-first").run().await.expect_exit(0);
    let load = || stack.loader(&copy).env("ID_NAMESPACE", "another bank").env("DELIMITER", "pipe");
    for ended in [load().run().await, load().arg("--wait").run().await] {
        ended.expect_exit(0).expect_says(
            "copy.csv is already loaded by run the-first (complete), as s3://transactions/a.csv (same content)",
        );
    }
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 10);
    let forced = stack.loader(&copy).args(["--wait", "--force"]).env("BATCH_RUN_ID", "forced").run().await;
    forced.expect_exit(0);
    assert_eq!(law::holds(&stack.database).await["forced"].predicted, 10);
}

#[tokio::test]
async fn an_object_without_a_valid_row_has_failed_and_can_be_loaded_again() {
    let stack = Stack::new(Script::Score).await;
    let _stages = stack.start_stages();
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(3).replace(" 10:00:", " 10h"));
    for wait in [false, true] {
        let loader = stack.loader(&object);
        let ended = if wait { loader.arg("--wait") } else { loader }.run().await;
        ended.expect_exit(1).expect_says("not one of 3 rows is valid").expect_says("TIMESTAMP_FORMAT");
    }
    stack.database.until("SELECT count(*) = 2 FROM runs WHERE state = 'failed'").await;
    let read = stack.loader(&object).arg("--wait").env("TIMESTAMP_FORMAT", "%Y-%m-%d %Hh%M").run().await;
    read.expect_exit(0).expect_says("Pipeline complete: 3 processed, 0 failed, 0 invalid");
    law::holds(&stack.database).await;
}

#[tokio::test]
async fn rows_that_are_stored_are_not_scored_again() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(150));
    let [_predictor, _writer] = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "first").run().await.expect_exit(0);
    let stored = stack.database.texts(STORED).await;
    let asked = stack.ml_api.requests();

    // The object is written again, as a `touch` does to a file; and by now the model refuses everything.
    stack.ml_api.set(Script::Broken(422));
    let again = || stack.loader(&object).arg("--wait");
    again()
        .arg("--force")
        .env("BATCH_RUN_ID", "second")
        .run()
        .await
        .expect_exit(0)
        .expect_says("150 rows are stored already with the same content: they are not scored again");
    assert_eq!(stack.ml_api.requests(), asked, "no row was asked for");

    // Rows that are new, or have changed, are asked for, and no others.
    stack.ml_api.set(Script::Score);
    let file = Rows::valid(151).replace("7,Card payment 7,-7.07", "7,Card payment 7,-70.7");
    stack.s3.put("transactions", "a.csv", file);
    again().env("BATCH_RUN_ID", "third").run().await.expect_exit(1).expect_says("1 processed, 1 failed");
    let bodies = stack.ml_api.bodies().split_off(asked);
    let transactions = bodies.iter().flat_map(|body| serde_json::from_str::<Vec<serde_json::Value>>(body).unwrap());
    let mut descriptions: Vec<_> =
        transactions.map(|asked| asked["description"].as_str().unwrap().to_owned()).collect();
    descriptions.sort();
    assert_eq!(descriptions, ["Card payment 151", "Card payment 7"]);

    let kept: Vec<_> = stack.database.texts(STORED).await.into_iter().filter(|row| stored.contains(row)).collect();
    assert_same(&kept, &stored);
    let tallies = law::holds(&stack.database).await;
    assert_eq!(tallies["first"], Tally { predicted: 150, ..Tally::default() });
    assert_eq!(tallies["second"], Tally { duplicate: 150, ..Tally::default() });
    assert_eq!(tallies["third"], Tally { predicted: 1, failed: 1, duplicate: 149, ..Tally::default() });
    stack.assay(["row", "second", "7"]).run().await.expect_exit(0);
    for run in ["second", "third"] {
        stack.assay(["audit", run]).run().await.expect_exit(0);
    }
}

//! What the ML API receives, and how its replies are handled.

use assay_tests::{HEADER, MlApi, Program, Rows, Script, Stack, law, row};
use assay_transaction::Tally;

#[tokio::test]
async fn rows_that_the_ml_api_refuses_fail_alone() {
    let stack = Stack::new(Script::Refuse).await;
    let refused = [3, 50, 51, 200];
    let file = (1..=250).fold(Rows::header(), |file, number| {
        let row = row(number);
        file.with(&if refused.contains(&number) { row.replace("Card payment", "refuse me") } else { row })
    });
    let object = stack.s3.put("transactions", "a.csv", file);
    let _stages = stack.start_stages();

    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(1).expect_says("Pipeline complete: 246 processed, 4 failed, 0 invalid");

    let failed = stack
        .database
        .texts("SELECT concat_ws('|', row_number, class) FROM failed_transactions ORDER BY row_number")
        .await;
    assert_eq!(failed, refused.map(|number| format!("{number}|rejected")));
    let unexplained = "SELECT count(*) FROM failed_transactions
        WHERE reason NOT LIKE '%422%' OR attempts < 1 OR position('refuse me' IN convert_from(payload, 'UTF8')) = 0";
    assert_eq!(stack.database.count(unexplained).await, 0, "failed rows say why, after how many attempts, and what");
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 246, failed: 4, ..Tally::default() });
    stack.loader(&object).run().await.expect_exit(0).expect_says("already loaded");
}

#[tokio::test]
async fn an_outage_of_the_api_fails_no_row() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(250));
    let [mut predictor, _writer] = stack.start_stages();
    predictor.says("scoring with up to").await;
    stack.ml_api.set(Script::Away);
    let loader = stack.loader(&object).arg("--wait").start();
    stack.ml_api.asked(1).await;
    stack.ml_api.set(Script::Score);
    loader.end().await.expect_exit(0).expect_says("Pipeline complete: 250 processed, 0 failed, 0 invalid");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 250);
}

#[tokio::test]
async fn an_api_with_categories_only_is_enough() {
    let stack = Stack::new(Script::Categorise).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(120));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    let rents = "SELECT count(*) FROM predictions WHERE prediction = 'Rent' AND fraud_score IS NULL";
    assert_eq!(stack.database.count(rents).await, 120);
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 120);
}

#[tokio::test]
async fn amounts_reach_the_api_and_the_database_to_the_last_digit() {
    let stack = Stack::new(Script::Categorise).await;
    let amounts = ["9999999999999999.9999", "-0.0001", "0.10", "1234567890123456.789", "-7"];
    let file = (1..).zip(amounts).fold(format!("{HEADER}\n"), |file, (id, amount)| {
        file + &format!("{id},Card,{amount},2026-01-01 10:00:00.123456,,card_payment,debit\n")
    });
    let object = stack.s3.put("transactions", "a.csv", file);
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);

    let body = &stack.ml_api.bodies()[0];
    for amount in amounts {
        assert!(body.contains(&format!(r#""amount":{amount},"#)), "{amount} in {body}");
    }
    assert!(body.contains(r#""timestamp":"2026-01-01T10:00:00.123456Z""#), "{body}");
    let stored = stack.database.texts("SELECT amount::text FROM transactions ORDER BY row_number").await;
    let expected = ["9999999999999999.9999", "-0.0001", "0.1000", "1234567890123456.7890", "-7.0000"];
    assert_eq!(stored, expected);
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn the_api_receives_what_is_stored() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(1));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    let told: serde_json::Value = serde_json::from_str(&stack.ml_api.bodies()[0]).unwrap();
    let expected = serde_json::json!([{
        "id": stack.database.texts("SELECT id::text FROM transactions").await[0],
        "description": "Card payment 1",
        "amount": -1.01,
        "timestamp": "2026-01-02T10:00:01Z",
        "merchant": "Shop",
        "operation_type": "card_payment",
        "side": "debit",
    }]);
    assert_eq!(told, expected);
    law::holds_for_one_run(&stack.database).await;
}

/// What an ML API answers to `GET /health` that has no such check.
const NO_HEALTH: [u16; 4] = [404, 405, 501, 302];

#[tokio::test]
async fn an_api_without_a_health_check_scores_for_the_fleet() {
    let stack = Stack::new(Script::Score).await;
    let _writer = stack.writer().start();
    for (status, number) in NO_HEALTH.into_iter().zip(1..) {
        stack.ml_api.set_health(status);
        let mut predictor = stack.predictor().start();
        predictor.says("scoring with up to").await;
        // It is unreachable, and recovers.
        stack.ml_api.stop().await;
        // Each file another content, as a copy is not loaded.
        let rows = 250 + number;
        let object = stack.s3.put("transactions", &format!("{number}.csv"), Rows::valid(rows));
        let loader = stack.loader(&object).arg("--wait").start();
        predictor.says("is unavailable (connection refused)").await;
        stack.ml_api.start_again();
        let said = format!("Pipeline complete: {rows} processed, 0 failed, 0 invalid");
        loader.end().await.expect_exit(0).expect_says(&said);
        predictor.terminate();
        predictor.end().await.expect_exit(0);
    }
    let invented = stack.ml_api.bodies().iter().filter(|body| body.contains("Assay connection check")).count();
    assert_eq!(invented, 0, "only what waits is asked for");
    assert_eq!(law::holds(&stack.database).await.len(), NO_HEALTH.len());
}

#[tokio::test]
async fn an_api_without_a_health_check_scores_for_one_process() {
    let ml_api = MlApi::start(Script::Score).await;
    for status in NO_HEALTH {
        ml_api.set_health(status);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), Rows::valid(250)).unwrap();
        let run = Program::new("assay").args(["run", "a.csv"]).within(folder.path()).env("ML_API_URL", ml_api.url());
        run.run().await.expect_exit(0).expect_says("Pipeline complete: 250 processed, 0 failed, 0 invalid");
        let tally = law::only(law::holds_in_file(&folder.path().join("assay.db")).await);
        assert_eq!(tally, Tally { predicted: 250, ..Tally::default() });
    }
}

#[tokio::test]
async fn an_api_that_rejects_credentials_is_waited_for_and_named() {
    for status in [401, 403] {
        let ml_api = MlApi::start(Script::Broken(status)).await;
        ml_api.set_health(status);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), Rows::valid(250)).unwrap();
        let run = Program::new("assay").args(["run", "a.csv"]).within(folder.path()).env("ML_API_URL", ml_api.url());
        let mut run = run.start();
        run.says(&format!("rejects every request (HTTP status {status}")).await;
        run.says("check ML_API_URL (with user and password").await;
        ml_api.set(Script::Score);
        run.end().await.expect_exit(0).expect_says("Pipeline complete: 250 processed, 0 failed, 0 invalid");
    }
}

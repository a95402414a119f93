//! Loads that succeed: their rows in the database, and their logs.

use assay_tests::{MlApi, Rows, STORED, Script, Stack, assert_same, content, law};
use sqlx::{AssertSqlSafe, Row};

#[tokio::test]
async fn every_row_of_a_file_is_stored_and_scored() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(1_250);
    let object = stack.s3.put("transactions", "2026/january.csv", &file);
    let _predictors = [stack.predictor().start(), stack.predictor().start()];
    let writer = stack.writer().start();

    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded
        .expect_exit(0)
        .expect_says(" - INFO - Starting batch pipeline")
        .expect_says("Pipeline Run ID: batch_")
        .expect_says("Batch 0: processed 1250 transactions")
        .expect_says("Pipeline complete: 1250 processed, 0 failed, 0 invalid");

    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 1_250);
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    let wrong = format!(
        "SELECT count(*) FROM transactions t JOIN predictions p ON p.transaction_id = t.id
         WHERE p.run_id <> t.run_id OR p.model_version <> 'scripted-1' OR t.processing_type <> 'batch'
            OR p.fraud_score IS DISTINCT FROM ({score})::float8
            OR p.prediction <> CASE WHEN {score} > 0.9 THEN 'fraud' ELSE 'legitimate' END",
        score = MlApi::SCORE_SQL
    );
    let wrong: i64 = sqlx::query_scalar(AssertSqlSafe(wrong)).fetch_one(stack.database.pool()).await.unwrap();
    assert_eq!(wrong, 0, "predictions that are not what the ML API said of their transaction");

    writer.terminate();
    writer.end().await.expect_exit(0).expect_says("Successfully wrote ");
}

#[tokio::test]
async fn the_monitoring_queries_work_as_written() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(100));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    let pool = stack.database.pool();

    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM transactions;").fetch_one(pool).await.unwrap();
    assert_eq!(count, 100);

    let by_prediction = sqlx::query(
        "SELECT prediction, COUNT(*) AS count, AVG(fraud_score) AS avg_score FROM predictions GROUP BY prediction;",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut counts: Vec<(String, i64)> =
        by_prediction.iter().map(|row| (row.get("prediction"), row.get("count"))).collect();
    counts.sort_unstable();
    // Row n costs n units and n cents: 9.09, 19.19 … 99.99 have last digits that score over 0.9.
    assert_eq!(counts, [("fraud".to_owned(), 10), ("legitimate".to_owned(), 90)]);
    for row in by_prediction {
        let average: f64 = row.get("avg_score");
        assert!((0.0..=1.0).contains(&average), "{average}");
    }

    let by_date = sqlx::query(
        "SELECT DATE(created_at) AS date, COUNT(*) AS transactions FROM transactions GROUP BY DATE(created_at) ORDER BY date DESC;",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let counts: i64 = by_date.iter().map(|row| row.get::<i64, _>("transactions")).sum();
    assert_eq!(counts, 100, "over today, and tomorrow where midnight passed");
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn a_french_spreadsheet_needs_no_settings() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::french(120);
    let object = stack.s3.put("transactions", "transactions_fr.csv", &file);
    let _stages = stack.start_stages();

    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(0).expect_says("Pipeline complete: 120 processed, 0 failed, 0 invalid");

    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b';', ','));
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 120);
}

#[tokio::test]
async fn columns_in_any_order_and_further_ones_in_another_encoding_and_zone() {
    let stack = Stack::new(Script::Score).await;
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let text = format!(
        "side|AMOUNT|pays|id|timestamp|operation_type|description\n\
         debit|-12.3|France|{uuid}|2026-07-01T12:00:00|transfer|Loyer d\u{e9}j\u{e0} pay\u{e9}\n"
    );
    let windows_1252: Vec<u8> = text.chars().map(|letter| u8::try_from(letter).expect("Latin 1")).collect();
    let object = stack.s3.put("transactions", "a.csv", windows_1252);
    let _stages = stack.start_stages();

    let loader = stack.loader(&object).arg("--wait");
    loader.env("ENCODING", "windows-1252").env("TIME_ZONE", "Europe/Paris").run().await.expect_exit(0);

    let stored = "SELECT concat_ws('|', id, coalesce(external_id, 'no external id'), description, amount,
        coalesce(merchant, 'no merchant'), attributes ->> 'pays', \"timestamp\" AT TIME ZONE 'UTC') FROM transactions";
    let expected = format!("{uuid}|no external id|Loyer déjà payé|-12.3000|no merchant|France|2026-07-01 10:00:00");
    assert_eq!(stack.database.texts(stored).await, [expected]);
    let bodies = stack.ml_api.bodies();
    for told in [r#""pays":"France""#, r#""amount":-12.3,"#, r#""timestamp":"2026-07-01T10:00:00Z""#, uuid] {
        assert!(bodies[0].contains(told), "the ML API was not told {told}: {}", bodies[0]);
    }
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn the_source_may_come_from_the_environment() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    let loader = stack.known_to(assay_tests::Program::new("loader")).env("SOURCE_URL", &object);
    loader.arg("--wait").run().await.expect_exit(0).expect_says("Pipeline complete: 10 processed");
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn a_local_file_loads_too() {
    let stack = Stack::new(Script::Score).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), Rows::valid(10)).unwrap();
    let _stages = stack.start_stages();
    let loader = stack.loader("a.csv").within(folder.path()).without("KEY").without("SECRET");
    loader.arg("--wait").run().await.expect_exit(0).expect_says("Pipeline complete: 10 processed");
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn without_wait_the_loader_ends_when_all_is_published() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(250));
    let loaded = stack.loader(&object).run().await;
    loaded.expect_exit(0).expect_says("Batch 0: published 250 transactions").expect_silent_about("Pipeline complete");
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions").await, 0);

    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 250);
}

#[tokio::test]
async fn the_row_batch_size_is_the_unit_of_the_log() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(130).with(",no id,1,2026-01-01 10:00:00,,x,debit"));
    let _stages = stack.start_stages();
    let loaded = stack.loader(&object).arg("--wait").env("ROW_BATCH_SIZE", "50").run().await;
    loaded
        .expect_exit(0)
        .expect_says("Batch 0: processed 50 transactions")
        .expect_says("Batch 1: processed 50 transactions")
        .expect_says("Batch 2: processed 30 transactions")
        .expect_silent_about("Batch 3")
        .expect_says("Pipeline complete: 130 processed, 0 failed, 1 invalid");
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn the_api_batch_size_bounds_every_request() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(47));
    let _stages = [stack.predictor().env("API_BATCH_SIZE", "10").start(), stack.writer().start()];
    stack.loader(&object).arg("--wait").run().await.expect_exit(0);
    let mut sizes: Vec<usize> = stack
        .ml_api
        .bodies()
        .iter()
        .map(|body| serde_json::from_str::<Vec<serde_json::Value>>(body).expect("a JSON array").len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [7, 10, 10, 10, 10]);
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn a_run_may_be_given_a_name() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "nightly-2026-01-11");
    loader.run().await.expect_exit(0).expect_says("Pipeline Run ID: nightly-2026-01-11");
    assert_eq!(stack.database.texts("SELECT DISTINCT run_id FROM transactions").await, ["nightly-2026-01-11"]);
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn secrets_may_lie_in_mounted_files() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    let secrets = tempfile::tempdir().unwrap();
    let mut loader = stack.loader(&object).arg("--wait");
    let url = std::env::var("TEST_AMQP_URL").unwrap();
    for (name, value) in [
        ("KEY", assay_tests::S3Server::KEY),
        ("SECRET", assay_tests::S3Server::SECRET),
        ("DATABASE_URL", stack.database.url()),
        ("AMQP_URL", &url),
    ] {
        let path = secrets.path().join(name);
        std::fs::write(&path, format!("{value}\n")).unwrap();
        loader = loader.without(name).env(&format!("{name}_FILE"), path);
    }
    loader.run().await.expect_exit(0);
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn logs_may_be_json() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    let loaded = stack.loader(&object).arg("--wait").env("LOG_FORMAT", "json").run().await;
    loaded.expect_exit(0);
    let lines: Vec<serde_json::Value> =
        loaded.stderr.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
    assert!(lines.iter().any(|line| line["message"] == "Starting batch pipeline"), "{lines:?}");
    law::holds_for_one_run(&stack.database).await;
}

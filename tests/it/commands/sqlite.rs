//! All commands after a first `assay run`: without settings, on its SQLite file.

use std::path::Path;

use assay_tests::{MlApi, Program, Rows, Script, law, row};
use assay_transaction::Tally;
use serde_json::json;

use super::assay;

#[tokio::test]
async fn every_command_works_without_settings() {
    let ml_api = MlApi::start(Script::Refuse).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = Rows::valid(21)
        .replace("Card payment 7,", "refuse me,")
        .with(&row(21))
        .with(",no id,1,2026-01-01 10:00:00,,x,debit");
    std::fs::write(folder.join("a.csv"), &file).unwrap();
    let run = Program::new("assay").args(["run", "a.csv"]).within(folder);
    // One request at a time, so that the first of two rows with one id is stored.
    let run = run.env("ML_API_URL", ml_api.url()).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10");
    let run = run.env("API_MAX_WORKERS", "1");
    run.run().await.expect_exit(1);
    let database = folder.join("assay.db");
    let refused = Tally { predicted: 20, invalid: 1, failed: 1, duplicate: 1 };
    assert_eq!(law::only(law::holds_in_file(&database).await), refused);
    let assay = async |arguments: &[&str]| assay(folder, arguments).await;

    assay(&["runs"]).await.expect_exit(0).expect_says("first  complete         23");
    assay(&["status", "first", "--watch"]).await.expect_exit(0).expect_says("failed      1  rejected 1");
    assay(&["audit", "first"])
        .await
        .expect_exit(0)
        .expect_says("23 = 20 predicted + 1 invalid + 1 failed + 1 duplicate");
    assay(&["audit", "--all"]).await.expect_exit(0).expect_says("1 run: audit passed");
    let outcomes = [("1", "predicted"), ("7", "failed"), ("22", "duplicate"), ("23", "invalid"), ("24", "never_read")];
    for source in ["first", "a.csv", "./a.csv", folder.join("a.csv").to_str().unwrap()] {
        for (number, outcome) in outcomes {
            let answer = assay(&["row", source, number, "--json"]).await.expect_exit(0).json();
            assert_eq!(
                (&answer["outcome"], &answer["run_id"]),
                (&json!(outcome), &json!("first")),
                "{source} {number}"
            );
        }
    }
    assay(&["transaction", "21"]).await.expect_exit(0).expect_says("from            row 21 of run first");
    assay(&["failures"]).await.expect_exit(0).expect_says("rejected      1    7  ");
    assay(&["invalid", "first"]).await.expect_exit(0).expect_says("row 23, line 24: id_empty");
    let csv = assay(&["invalid", "first", "--csv"]).await;
    assert_eq!(csv.expect_exit(0).stdout.lines().nth(1), Some(",no id,1,2026-01-01 10:00:00,,x,debit"));

    // Replays and repairs start stages themselves: the reference model scores the rows that the other one refused.
    assay(&["replay", "first", "--dry-run"]).await.expect_exit(0).expect_says("rejected     1");
    assay(&["replay", "first"]).await.expect_exit(0).expect_says("stored            1\n");
    let scored = Tally { predicted: 21, failed: 0, ..refused };
    assert_eq!(law::only(law::holds_in_file(&database).await), scored);
    assay(&["replay", "first"]).await.expect_exit(0).expect_says("nothing to replay");

    delete_chunk(&database).await;
    assay(&["audit", "first"]).await.expect_exit(1).expect_says("missing: chunk 1");
    assay(&["repair", "first"]).await.expect_exit(0).expect_says("10 rows in 1 chunk").expect_says("and recorded");
    assay(&["audit", "first"]).await.expect_exit(0);
    assert_eq!(law::only(law::holds_in_file(&database).await), scored);

    assay(&["audit", "first"]).await.expect_silent_about("\u{1b}");
    assay(&["audit", "first", "--color", "always"]).await.expect_says("(complete): \u{1b}[32maudit passed\u{1b}[0m\n");

    assay(&["cancel", "first"]).await.expect_one_clear_line(2, &["first is complete"]);
    let operations = assay(&["operations"]).await;
    operations.expect_exit(0).expect_says("  repair  first").expect_says("  replay  first");
    // USER is not set, as in containers: the system knows the user.
    operations.expect_silent_about("unknown");
}

/// As in a file that was restored from a backup.
async fn delete_chunk(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let delete = "
        DELETE FROM predictions WHERE transaction_id IN (SELECT id FROM transactions WHERE row_number BETWEEN 11 AND 20);
        DELETE FROM transactions WHERE row_number BETWEEN 11 AND 20;
        DELETE FROM chunks WHERE chunk = 1";
    sqlx::raw_sql(delete).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_killed_run_can_be_cancelled() {
    let ml_api = MlApi::start(Script::Hold).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), Rows::valid(300)).unwrap();
    let run = Program::new("assay").args(["run", "a.csv"]).within(folder.path()).env("ML_API_URL", ml_api.url());
    let run = run.env("BATCH_RUN_ID", "first").start();
    ml_api.asked(1).await;
    run.kill().await;
    let assay = async |arguments: &[&str]| assay(folder.path(), arguments).await;
    let cancelled = assay(&["cancel", "first", "--reason", "mistake", "--yes"]).await;
    // Published chunks were lost with that process.
    cancelled.expect_exit(0);
    if cancelled.stdout.contains("assay repair first") {
        assay(&["repair", "first"]).await.expect_exit(0);
    }
    assay(&["audit", "first"]).await.expect_exit(0).expect_says("run first (cancelled): audit passed");
    law::holds_in_file(&folder.path().join("assay.db")).await;
}

//! `assay status` names the obstacles of a run, and `assay runs` lists runs with their outcomes.

use assay_tests::{Rows, Script, Stack, law};
use serde_json::json;

/// The obstacles in the status.
async fn in_the_way(stack: &Stack, run: &str) -> Vec<String> {
    let status = stack.assay(["status", run, "--json"]).run().await.expect_exit(0).json();
    let lines = status["in_the_way"].as_array().unwrap_or_else(|| panic!("{status}"));
    lines.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_obstacles_of_a_run_are_named() {
    let stack = Stack::new(Script::Broken(500)).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    let loader = stack.loader(&object).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10");
    loader.run().await.expect_exit(0);
    let lines = in_the_way(&stack, "first").await;
    assert!(lines[0].starts_with("no predictor consumes transactions.batch: start one"), "{lines:?}");
    assert!(lines[1].starts_with("no writer consumes predictions.batch: start one"), "{lines:?}");
    let status = stack.assay(["status", &object]).run().await;
    status.expect_exit(0).expect_says("\nin the way:\n  no predictor consumes");

    // With both connected, a failing model stops all rows.
    let [predictor, writer] = [stack.predictor().start(), stack.writer().start()];
    stack.ml_api.asked(1).await;
    let waiting = "UPDATE runs SET started_at = started_at - interval '1 minute'";
    sqlx::raw_sql(waiting).execute(stack.database.pool()).await.unwrap();
    let found = async {
        loop {
            let lines = in_the_way(&stack, "latest").await;
            if lines.iter().any(|line| line.contains("though predictors are connected: their ML API is unreachable")) {
                return lines;
            }
        }
    };
    let lines = tokio::time::timeout(std::time::Duration::from_mins(1), found).await.expect("it is named");
    assert_eq!(lines.len(), 1, "{lines:?}");

    stack.ml_api.set(Script::Score);
    stack.database.until_finished().await;
    assert!(in_the_way(&stack, "first").await.is_empty());
    law::holds_for_one_run(&stack.database).await;
    drop((predictor, writer));
}

#[tokio::test]
async fn a_lost_loader_is_named_with_the_command_to_resume() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(300));
    let loader = stack.loader(&object).env("QUEUE_MAX_LENGTH", "5").env("PUBLISH_WINDOW", "2");
    let loader = loader.env("CHUNK_ROWS", "10").env("ROW_BATCH_SIZE", "20").env("BATCH_RUN_ID", "first").start();
    stack.database.until("SELECT EXISTS (SELECT FROM runs WHERE checkpoint_row >= 41)").await;
    loader.kill().await;
    let lost = "UPDATE runs SET lease_until = now() - interval '1 second'";
    sqlx::raw_sql(lost).execute(stack.database.pool()).await.unwrap();
    let status = stack.assay(["status", "first"]).env("QUEUE_MAX_LENGTH", "5").run().await;
    status.expect_exit(0).expect_says(&format!("no loader reads its source: resume with `loader {object}`"));
    status.expect_says("transactions.batch is full, with ").expect_says(": the loader waits for the predictors");
}

#[tokio::test]
async fn runs_are_listed_with_outcomes_and_by_filters() {
    let stack = Stack::new(Script::Refuse).await;
    let good = stack.s3.put("transactions", "good.csv", Rows::valid(20));
    let file = Rows::valid(20).replace("Card payment 7,", "refuse me,");
    let bad = stack.s3.put("transactions", "bad.csv", file.replace("2026-01-02", "2026-02-02"));
    let _stages = stack.start_stages();
    stack.loader(&good).arg("--wait").env("BATCH_RUN_ID", "good").run().await.expect_exit(0);
    stack.loader(&bad).arg("--wait").env("BATCH_RUN_ID", "bad").run().await;
    let named = async |arguments: [&str; 4]| {
        let list = stack.assay(arguments).run().await.expect_exit(0).json();
        let runs = list.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned());
        runs.collect::<Vec<_>>()
    };
    assert_eq!(named(["runs", "--json", "--since", "1h"]).await, ["bad", "good"]);
    assert_eq!(named(["runs", "--json", "--source", "good"]).await, ["good"]);
    assert_eq!(named(["runs", "--json", "--source", "s3://*/b*.csv"]).await, ["bad"]);
    assert_eq!(named(["runs", "--json", "--state", "complete"]).await, ["bad", "good"]);
    assert!(named(["runs", "--json", "--state", "failed,stalled"]).await.is_empty());
    let runs = stack.assay(["runs", "--json"]).run().await.expect_exit(0).json();
    for run in runs.as_array().unwrap() {
        let sum: u64 =
            ["predicted", "invalid", "failed", "duplicate"].map(|name| run[name].as_u64().unwrap()).iter().sum();
        assert_eq!(json!(sum), run["rows_read"], "{run}");
    }
    stack.assay(["runs", "--state", "done"]).run().await.expect_exit(2).expect_says("allowed: loading, sealed");
    stack.assay(["runs", "--since", "lately"]).run().await.expect_exit(2).expect_says("such as 12h or 7d");
    stack.assay(["audit", &good]).run().await.expect_exit(0).expect_says("run good (complete): audit passed");
    law::holds(&stack.database).await;
}

//! `assay replay`: rows that the ML API refused are sent again, and replaced by their new outcomes.

use assay_tests::{MlApi, Rows, STORED, Script, Stack, assert_same, content, law, row};
use assay_transaction::Tally;
use serde_json::json;

/// 250 rows in chunks of 20, of which every tenth is refused.
fn file() -> Rows {
    (1..=250).fold(Rows::header(), |file, number| {
        let row = row(number);
        file.with(&if number % 10 == 0 { row.replace("Card payment", "refuse me") } else { row })
    })
}

/// A stack with that file loaded as run `first`.
async fn loaded() -> (Stack, [assay_tests::Running; 2]) {
    let stack = Stack::new(Script::Refuse).await;
    let object = stack.s3.put("transactions", "a.csv", file());
    let stages = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "20").env("BATCH_RUN_ID", "first");
    loader.run().await.expect_exit(1);
    assert_eq!(law::holds_for_one_run(&stack.database).await, REFUSED);
    (stack, stages)
}

const REFUSED: Tally = Tally { predicted: 225, invalid: 0, failed: 25, duplicate: 0 };
const FAILED: &str = "SELECT concat_ws('|', row_number, class, attempts) FROM failed_transactions ORDER BY row_number";

/// Of rows 20 and 30.
async fn attempts(stack: &Stack) -> Vec<i64> {
    let attempts = "SELECT attempts FROM failed_transactions WHERE row_number IN (20, 30) ORDER BY row_number";
    sqlx::query_scalar(attempts).fetch_all(stack.database.pool()).await.unwrap()
}

#[tokio::test]
async fn refused_rows_are_scored_once_the_model_accepts_them() {
    let (stack, _stages) = loaded().await;
    let failed = stack.database.texts(FAILED).await;

    let dry = stack.assay(["replay", "first", "--dry-run"]).run().await;
    dry.expect_exit(0).expect_says("rejected    25\n").expect_says("nothing was sent (--dry-run)");
    assert_same(&stack.database.texts(FAILED).await, &failed);
    assert_eq!(stack.database.count("SELECT count(*) FROM operations").await, 0, "and nothing is recorded");

    // The model still refuses: the rows stay failed, with their attempts added up.
    let before = attempts(&stack).await;
    let in_vain = stack.assay(["replay", "first", "--wait", "--rows", "1-20"]).run().await;
    in_vain.expect_exit(1).expect_says("rows sent         2, in 1 part").expect_says("failed again      2\n");
    assert_eq!(law::holds_for_one_run(&stack.database).await, REFUSED);
    let after = attempts(&stack).await;
    assert!(after[0] > before[0], "row 20 was sent again: {before:?}, {after:?}");
    assert_eq!(after[1], before[1], "row 30 was not");

    // Now it does not; the other rows are not sent again.
    let asked = stack.ml_api.bodies().len();
    stack.ml_api.set(Script::Score);
    let replay = stack.assay(["replay", "first", "--wait", "--class", "rejected", "--json", "--reason", "repaired"]);
    let report = replay.env("ASSAY_OPERATOR", "ada").run().await.expect_exit(0).json();
    let counts = ["replay", "rows_sent", "parts_sent", "stored", "failed", "gone"].map(|name| report[name].as_u64());
    assert_eq!(counts, [2, 25, 2, 25, 0, 0].map(Some), "{report}");
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 250, ..Tally::default() });
    assert_same(&stack.database.texts(STORED).await, &content(file().as_ref(), b',', '.'));
    let scored = format!(
        "SELECT count(*) FROM transactions t JOIN predictions p ON p.transaction_id = t.id
         WHERE p.fraud_score <> {}",
        MlApi::SCORE_SQL
    );
    let wrong: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(scored)).fetch_one(stack.database.pool()).await.unwrap();
    assert_eq!(wrong, 0, "each has the score of its own content");
    let others: Vec<_> =
        stack.ml_api.bodies().split_off(asked).into_iter().filter(|body| !body.contains("refuse me")).collect();
    assert_eq!(others, [""; 0], "no other row is scored again");
    stack.assay(["audit", "first"]).run().await.expect_exit(0).expect_says("audit passed");

    // Again: nothing is left, nothing changes.
    let again = stack.assay(["replay", "first", "--wait"]).run().await;
    again.expect_exit(0).expect_says("nothing to replay");
    stack.assay(["row", "first", "20"]).run().await.expect_exit(0).expect_says("predicted: legitimate");

    let status = stack.assay(["status", "first", "--json"]).run().await.expect_exit(0).json();
    let replays: Vec<_> = status["replays"].as_array().unwrap().iter().map(|it| it["stored"].as_u64()).collect();
    assert_eq!(replays, [Some(0), Some(25)], "{status}");
    let operations = stack.assay(["operations", "first", "--json"]).run().await.expect_exit(0).json();
    let latest = &operations[0];
    assert_eq!(
        (&latest["operator"], &latest["action"], &latest["reason"]),
        (&json!("ada"), &json!("replay"), &json!("repaired"))
    );
    assert_eq!(latest["details"], json!({ "rows_selected": 25, "classes": ["rejected"] }));
    let operator = operations[1]["operator"].as_str().unwrap();
    assert!(!operator.is_empty() && operator != "unknown", "without USER, the system knows it: {operator}");
    stack.assay(["operations"]).run().await.expect_exit(0).expect_says(" replay  first  repaired");
}

#[tokio::test]
async fn two_replays_at_once_store_each_row_once() {
    let (stack, _stages) = loaded().await;
    stack.ml_api.set(Script::Hold);
    // Without --wait both send all rows: each is scored twice, and replaced by the first outcome.
    for _ in 0..2 {
        let sent = stack.assay(["replay", "first"]).run().await;
        sent.expect_exit(0).expect_says("rows sent  25, in 2 parts").expect_says("sent to predictors and writers");
    }
    stack.ml_api.set(Script::Score);
    stack.database.until("SELECT count(*) = 4 FROM replay_parts").await;
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 250, ..Tally::default() });
    let (stored, gone): (i64, i64) = sqlx::query_as("SELECT sum(stored)::bigint, sum(gone)::bigint FROM replay_parts")
        .fetch_one(stack.database.pool())
        .await
        .unwrap();
    assert_eq!((stored, gone), (25, 25));
    stack.assay(["status", "first"]).run().await.expect_exit(0).expect_says("failed again  gone  by");
}

#[tokio::test]
async fn without_a_broker_rows_are_scored_in_this_process_if_an_api_is_set() {
    let (stack, stages) = loaded().await;
    drop(stages);
    stack.ml_api.set(Script::Score);
    let here = || stack.assay(["replay", "first"]).without("AMQP_URL");
    // Not by the demonstration model if AMQP_URL was forgotten.
    here().run().await.expect_one_clear_line(2, &["AMQP_URL", "ML_API_URL"]);
    assert_eq!(law::holds_for_one_run(&stack.database).await, REFUSED);
    here().env("ML_API_URL", stack.ml_api.url()).run().await.expect_exit(0).expect_says("stored            25\n");
    assert_eq!(law::holds_for_one_run(&stack.database).await, Tally { predicted: 250, ..Tally::default() });
}

#[tokio::test]
async fn a_selection_is_checked() {
    let stack = Stack::new(Script::Score).await;
    let cases = [("--rows", "10-1", "such as 4711 or 1-100"), ("--class", "rejectd", "rejected")];
    for (option, value, allowed) in cases {
        stack.assay(["replay", "first", option, value]).run().await.expect_one_clear_line(2, &[value, option, allowed]);
    }
    stack.assay(["replay", "first"]).run().await.expect_one_clear_line(2, &["no run first"]);
}

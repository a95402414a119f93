//! `assay audit` verifies the row accounting, and fails if a row is deleted from any table.

use assay_tests::{Database, Rows, Script, Stack, law, row};
use serde_json::json;

/// 24 rows in chunks of 10, of every kind.
async fn loaded() -> Stack {
    let stack = Stack::new(Script::Refuse).await;
    let file = Rows::valid(21).replace("Card payment 7,", "refuse me,").with(&row(3)).with(",,,,,,").with(&row(24));
    let object = stack.s3.put("transactions", "a.csv", &file);
    let _stages = stack.start_stages();
    let loader = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "first");
    loader.run().await.expect_exit(1);
    law::holds_for_one_run(&stack.database).await;
    stack
}

async fn execute(database: &Database, statement: &'static str) {
    let done = sqlx::raw_sql(statement).execute(database.pool()).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[tokio::test]
async fn the_audit_fails_if_any_table_lacks_a_row() {
    let stack = loaded().await;
    let audit = async || stack.assay(["audit", "first"]).run().await;
    let whole = audit().await;
    whole.expect_exit(0).expect_says("run first (complete): audit passed");
    whole.expect_says("24 = 21 predicted + 1 invalid + 1 failed + 1 duplicate").expect_says("3 of 3 recorded");

    // A row of each table is deleted, missed, and restored.
    let tables = [
        ("transactions", "DELETE FROM transactions WHERE row_number = 5", "1 row has no outcome"),
        (
            "predictions",
            "DELETE FROM predictions WHERE transaction_id IN (SELECT id FROM transactions WHERE row_number = 5)",
            "1 transaction has no prediction",
        ),
        ("invalid_transactions", "DELETE FROM invalid_transactions", "1 row has no outcome"),
        ("failed_transactions", "DELETE FROM failed_transactions", "1 row has no outcome"),
        ("chunks", "UPDATE chunks SET duplicate_rows = NULL", "1 row has no outcome"),
        ("chunks", "DELETE FROM chunks WHERE chunk = 1", "1 chunk is not recorded"),
    ];
    for (table, statement, breach) in tables {
        execute(&stack.database, "CREATE TABLE kept AS SELECT 1 AS nothing").await;
        let keep = format!("DROP TABLE kept; CREATE TABLE kept AS TABLE {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(keep)).execute(stack.database.pool()).await.unwrap();
        execute(&stack.database, statement).await;

        let broken = audit().await;
        broken.expect_exit(1).expect_says("AUDIT FAILED").expect_says(breach);
        if statement.contains("chunk = 1") {
            broken.expect_says("2 of 3 recorded; missing: chunk 1");
        }

        let restore = format!("TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept");
        sqlx::raw_sql(sqlx::AssertSqlSafe(restore)).execute(stack.database.pool()).await.unwrap();
        audit().await.expect_exit(0);
    }
}

#[tokio::test]
async fn all_runs_are_audited_and_a_broken_one_is_named() {
    let stack = loaded().await;
    let object = stack.s3.put("transactions", "b.csv", Rows::valid(10));
    let _stages = stack.start_stages();
    stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "second").run().await.expect_exit(0);
    stack.assay(["audit", "--all"]).run().await.expect_exit(0).expect_says("2 runs: audit passed");

    execute(&stack.database, "INSERT INTO invalid_transactions SELECT 'second', 5, 6, 'x', 'x', ''").await;
    let all = stack.assay(["audit", "--all"]).run().await;
    all.expect_exit(1)
        .expect_says("run first (complete): audit passed")
        .expect_says("run second (complete): AUDIT FAILED");
    all.expect_says("2 runs: audit failed for 1");
    let json = stack.assay(["audit", "--all", "--json"]).run().await.expect_exit(1).json();
    let verdict = |index: usize| (json[index]["run_id"].clone(), json[index]["holds"].clone());
    assert_eq!([verdict(0), verdict(1)], [(json!("second"), json!(false)), (json!("first"), json!(true))]);
    let breaches = json[0]["breaches"].as_array().unwrap();
    assert!(breaches.contains(&json!({ "breach": "doubled", "outcomes": 1 })), "{json}");

    // `assay row` agrees with the audit.
    execute(&stack.database, "DELETE FROM failed_transactions").await;
    stack.assay(["row", "first", "7"]).run().await.expect_exit(1).expect_says("lost").expect_says("assay audit first");
    stack.assay(["audit", "third"]).run().await.expect_one_clear_line(2, &["third"]);
    stack.assay(["audit"]).run().await.expect_exit(2);

    // Rows of unknown runs are reported.
    execute(&stack.database, "DELETE FROM runs WHERE run_id = 'second'").await;
    let all = stack.assay(["audit", "--all"]).run().await;
    all.expect_exit(1)
        .expect_says("run second: NOT IN THE LEDGER")
        .expect_says("10 transactions, 1 invalid, 0 failed, in");
    execute(&stack.database, "DELETE FROM runs").await;
    let all = stack.assay(["audit", "--all"]).run().await;
    all.expect_exit(1).expect_says("0 runs: audit passed; 2 runs that are not in the ledger have rows");
    let json = stack.assay(["audit", "--all", "--json"]).run().await.expect_exit(1).json();
    assert_eq!((&json[0]["run_id"], &json[1]["breaches"][0]["breach"]), (&json!("first"), &json!("no_run")));
}

#[tokio::test]
async fn an_unfinished_run_is_audited_by_its_recorded_rows() {
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(30));
    stack.loader(&object).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "10").run().await.expect_exit(0);
    let audit = stack.assay(["audit", "first"]).run().await;
    audit.expect_exit(0).expect_says("run first (sealed): not finished; audit passed for the recorded rows");
    audit.expect_says("0 of 3 recorded");
    let _stages = stack.start_stages();
    stack.database.until_finished().await;
    stack.assay(["audit", "first"]).run().await.expect_exit(0).expect_says("run first (complete): audit passed");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 30);
}

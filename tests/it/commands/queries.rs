//! The commands that only read, for a run with rows of every outcome: predicted, invalid, failed and duplicate.

use assay_tests::{Ended, Program, Rows, Script, Stack, law, row};
use assay_transaction::Tally;
use serde_json::{Value, json};

/// A valid card number, and how it is shown.
const CARD: &str = "4111111111111111";
const MASKED: &str = "************1111";

/// 24 rows in chunks of 10: the ML API refuses row 7, row 22 repeats row 21, row 23 has no id, the others are scored. Rows 21
/// and 22 are in one chunk, so that row 21 is stored first.
fn file() -> Rows {
    (1..=21)
        .fold(Rows::header(), |file, number| file.with(&row(number)))
        .replace("Card payment 7,", &format!("refuse me {CARD},"))
        .replace("Card payment 9,", &format!("CB {CARD} EDF,"))
        .with(&row(21))
        .with(&format!(",no id {CARD},1,2026-01-01 10:00:00,,x,debit"))
        .with(&row(24))
}

/// A stack with that file loaded as run `first`, and the URL of its object.
async fn loaded() -> (Stack, String, [assay_tests::Running; 2]) {
    let stack = Stack::new(Script::Refuse).await;
    let object = stack.s3.put("transactions", "a.csv", file());
    // One request at a time, so that the first of two rows with one id is stored.
    let stages =
        [stack.predictor().env("API_MAX_WORKERS", "1").env("REASONS_FROM", "0.9").start(), stack.writer().start()];
    let loader = stack.loader(&object).arg("--wait").env("CHUNK_ROWS", "10").env("BATCH_RUN_ID", "first");
    loader.run().await.expect_exit(1);
    let tally = law::holds_for_one_run(&stack.database).await;
    assert_eq!(tally, Tally { predicted: 21, invalid: 1, failed: 1, duplicate: 1 });
    (stack, object, stages)
}

async fn answered<const N: usize>(stack: &Stack, arguments: [&str; N]) -> Ended {
    let ended = stack.assay(arguments).run().await;
    ended.expect_exit(0).expect_silent_about(CARD);
    ended
}

#[tokio::test]
async fn a_row_is_shown_with_its_outcome() {
    let (stack, object, _stages) = loaded().await;
    let predicted = answered(&stack, ["row", "first", "9"]).await;
    predicted.expect_says("row 9 of run first\n").expect_says("predicted: fraud, score 0.9090, by model scripted-1");
    predicted.expect_says(&format!("CB {MASKED} EDF")).expect_says("external id     9\n");
    predicted.expect_says("  reasons         R07\n").expect_says("  scored by       http://127.0.0.1:");
    let predicted = answered(&stack, ["row", "first", "9", "--json"]).await.json();
    assert_eq!((&predicted["outcome"], &predicted["transaction"]["row"]), (&json!("predicted"), &json!(9)));
    assert_eq!(predicted["transaction"]["prediction"]["fraud_score"], 0.909, "{predicted}");
    assert_eq!(predicted["transaction"]["amount"], "-9.09", "as where it failed");
    assert_eq!(predicted["transaction"]["prediction"]["reasons"], json!(["R07"]));
    let unlikely = answered(&stack, ["row", "first", "8", "--json"]).await.json();
    assert_eq!(unlikely["transaction"]["prediction"]["reasons"], Value::Null, "below REASONS_FROM: {unlikely}");
    let status = answered(&stack, ["status", "first", "--json"]).await.json();
    assert_eq!(status["models"][0]["model_version"], "scripted-1", "{status}");

    let invalid = answered(&stack, ["row", &object, "23"]).await;
    invalid.expect_says("row 23 of run first, the latest run of that source").expect_says("invalid: id_empty");
    invalid.expect_says(&format!("raw text  ,no id {MASKED},1,")).expect_says("line      24\n");

    let failed = answered(&stack, ["row", "first", "7"]).await;
    failed.expect_says("failed: rejected\n").expect_says("replayable      yes: assay replay first --rows 7");
    failed.expect_says(&format!("description     refuse me {MASKED}"));
    assert_eq!(answered(&stack, ["row", "first", "7", "--json"]).await.json()["replayable"], true);

    let duplicate = answered(&stack, ["row", "first", "22"]).await;
    duplicate.expect_says("duplicate: row 21 of run first stored this transaction");
    let duplicate = answered(&stack, ["row", "first", "22", "--json"]).await.json();
    assert_eq!((&duplicate["outcome"], &duplicate["of"]["row"]), (&json!("duplicate"), &json!(21)));

    answered(&stack, ["row", "first", "25"]).await.expect_says("never read: the source has 24 rows");
    answered(&stack, ["row", "first", "0"]).await.expect_says("never read: rows count from 1");
    for unknown in ["second", "s3://transactions/b.csv", "b.csv"] {
        stack.assay(["row", unknown, "1"]).run().await.expect_one_clear_line(2, &[unknown, "assay runs"]);
    }
}

#[tokio::test]
async fn every_row_is_shown_as_the_tables_have_it() {
    let (stack, ..) = loaded().await;
    let mut outcomes = std::collections::BTreeMap::<String, u64>::new();
    for number in 1..=24_u64 {
        let answer = answered(&stack, ["row", "first", &number.to_string(), "--json"]).await.json();
        *outcomes.entry(answer["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected = [("duplicate", 1), ("failed", 1), ("invalid", 1), ("predicted", 21)];
    assert_eq!(outcomes, expected.map(|(outcome, count)| (outcome.to_owned(), count)).into());
}

#[tokio::test]
async fn a_transaction_is_shown_by_its_ids() {
    let (stack, _, stages) = loaded().await;
    let by_external_id = answered(&stack, ["transaction", "9", "--json"]).await.json();
    let stored = &by_external_id["stored"][0];
    assert_eq!((&stored["external_id"], &stored["run_id"], &stored["row"]), (&json!("9"), &json!("first"), &json!(9)));
    let id = stored["id"].as_str().unwrap();
    for id in [id, &id.replace('-', "").to_uppercase()] {
        let by_id = answered(&stack, ["transaction", id]).await;
        by_id.expect_says("from            row 9 of run first\n").expect_says(&format!("CB {MASKED} EDF"));
    }
    let failed = answered(&stack, ["transaction", "7"]).await;
    failed.expect_says("failed: rejected").expect_says("from            row 7 of run first");
    stack.assay(["transaction", "4711"]).run().await.expect_one_clear_line(2, &["4711"]);

    // Another source may use the same id for another transaction; a replaced transaction shows that.
    drop(stages);
    let _stages = [stack.predictor().start(), stack.writer().env("ID_CONFLICT", "update").start()];
    let other = stack.s3.put("transactions", "b.csv", Rows::header().with(&row(9)));
    stack.loader(&other).arg("--wait").run().await.expect_exit(0);
    stack.s3.put("transactions", "a.csv", Rows::header().with(&row(9).replace("-9.09", "-9.99")));
    stack.loader("s3://transactions/a.csv").arg("--wait").run().await.expect_exit(0);
    let both = answered(&stack, ["transaction", "9", "--json"]).await.json();
    let mut replaced: Vec<_> = both["stored"].as_array().unwrap().iter().map(|it| it["replaced"].as_u64()).collect();
    replaced.sort_unstable();
    assert_eq!(replaced, [Some(0), Some(1)], "{both}");
}

#[tokio::test]
async fn runs_are_shown_with_their_progress() {
    let (stack, object, _stages) = loaded().await;
    answered(&stack, ["runs"]).await.expect_says("first  complete         24").expect_says(&object);
    let runs = answered(&stack, ["runs", "--json", "--limit", "1"]).await.json();
    assert_eq!(
        (&runs[0]["run_id"], &runs[0]["state"], &runs[0]["rows_read"]),
        (&json!("first"), &json!("complete"), &json!(24))
    );

    let status = answered(&stack, ["status", "first"]).await;
    status.expect_says("run first: complete\n").expect_says("stored  24 rows, 3 of 3 chunks");
    status.expect_says("predicted  21  legitimate 19, fraud 2").expect_says("failed      1  rejected 1");
    let status = answered(&stack, ["status", "first", "--json"]).await.json();
    assert_eq!(
        (&status["outcome"]["predicted"], &status["outcome"]["invalid_by_reason"]["id_empty"]),
        (&json!(21), &json!(1))
    );
    // Of a finished run, --watch shows the status once.
    let watched = answered(&stack, ["status", "first", "--watch", "--json"]).await;
    assert_eq!(watched.stdout.lines().count(), 1, "{}", watched.stdout);
    stack.assay(["status", "second"]).run().await.expect_one_clear_line(2, &["second", "assay runs"]);
}

#[tokio::test]
async fn failed_and_invalid_rows_are_listed() {
    let (stack, ..) = loaded().await;
    for arguments in [&["failures"][..], &["failures", "first"]] {
        let ended = arguments.iter().fold(stack.assay([]), Program::arg).run().await;
        ended.expect_exit(0).expect_silent_about(CARD).expect_says("run first (complete), s3://transactions/a.csv");
        ended.expect_says("rejected      1    7  ").expect_says("there is no dead letter");
    }
    let failures = answered(&stack, ["failures", "first", "--json", "--limit", "5"]).await.json();
    let class = &failures["runs"][0]["classes"][0];
    assert_eq!(
        (&class["class"], &class["count"], &class["first"][0]["row"]),
        (&json!("rejected"), &json!(1), &json!(7))
    );
    answered(&stack, ["failures", "first", "--class", "suspect"]).await.expect_says("no transaction failed");
    let typo = stack.assay(["failures", "--class", "rejectd"]).run().await;
    typo.expect_one_clear_line(2, &["rejectd", "--class", "rejected, suspect"]);

    let listed = answered(&stack, ["invalid", "first"]).await;
    listed.expect_says("row 23, line 24: id_empty: `id` is empty\n").expect_says(&format!("    ,no id {MASKED},1,"));
    let listed = answered(&stack, ["invalid", "first", "--json"]).await.json();
    assert_eq!((&listed[0]["row"], &listed[1]), (&json!(23), &Value::Null));
}

#[tokio::test]
async fn help_has_examples_and_errors_are_one_line() {
    for command in [
        "runs",
        "status",
        "row",
        "transaction",
        "audit",
        "failures",
        "invalid",
        "replay",
        "repair",
        "cancel",
        "operations",
    ] {
        let help = Program::new("assay").args([command, "--help"]).run().await;
        help.expect_exit(0).expect_says("Examples:").expect_says(&format!("  assay {command}"));
        let unset = match command {
            "row" => vec!["run", "1"],
            "runs" | "failures" | "operations" => vec![],
            "transaction" => vec!["4711"],
            _ => vec!["run"],
        };
        let program = Program::new("assay").arg(command);
        let nothing = unset.iter().fold(program, Program::arg).run().await;
        nothing.expect_one_clear_line(2, &["no database", "DATABASE_URL"]);
        assert_eq!(nothing.stdout, "");
    }
}

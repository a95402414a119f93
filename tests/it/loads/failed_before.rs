//! A source that was loaded before: its earlier failures are reported again, and so are unused arguments of the command.

use assay_tests::{MlApi, Program, Rows, Script, Stack, law};
use serde_json::{Value, json};

#[tokio::test]
async fn a_retry_does_not_hide_what_failed() {
    let ml_api = MlApi::start(Script::Refuse).await;
    let folder = tempfile::tempdir().unwrap();
    let file = Rows::valid(20).replace("Card payment 7,", "refuse me,");
    std::fs::write(folder.path().join("a.csv"), file).unwrap();
    let assay = |arguments: &[&str]| {
        let program = Program::new("assay").within(folder.path()).env("ML_API_URL", ml_api.url());
        arguments.iter().fold(program, Program::arg)
    };
    assay(&["run", "a.csv"]).env("BATCH_RUN_ID", "first").run().await.expect_exit(1);
    let again = assay(&["run", "a.csv"]).env("BATCH_RUN_ID", "second").run().await;
    again.expect_exit(1).expect_says("loaded before, by run first").expect_says("BATCH_RUN_ID=second is not used");
    again.expect_says("1 row failed: `assay failures first` shows why, `assay replay first` tries again");
    let json = assay(&["run", "a.csv", "--json"]).run().await.expect_exit(1).json();
    assert_eq!((&json["already_loaded"], &json["sources"][0]["failed"]), (&json!(true), &json!(1)), "{json}");
    // A pattern with one source or several has one form.
    std::fs::write(folder.path().join("b.csv"), Rows::valid(3)).unwrap();
    let json = assay(&["run", "a.csv", "b.csv", "--json"]).run().await.expect_exit(1).json();
    assert_eq!(json["sources"][0]["run_id"], "first", "{json}");

    ml_api.set(Script::Score);
    assay(&["replay", "first"]).run().await.expect_exit(0);
    assay(&["run", "a.csv"]).run().await.expect_exit(0).expect_silent_about("failed:");
    law::holds_in_file(&folder.path().join("assay.db")).await;
}

#[tokio::test]
async fn a_loader_reports_what_failed_before() {
    let stack = Stack::new(Script::Refuse).await;
    let file = Rows::valid(20).replace("Card payment 7,", "refuse me,");
    let object = stack.s3.put("transactions", "a.csv", file);
    let _stages = stack.start_stages();
    let loaded = stack.loader(&object).args(["--wait", "--json"]).env("BATCH_RUN_ID", "first").run().await;
    let json = loaded.expect_exit(1).json();
    assert_eq!((&json["sources"][0]["run_id"], &json["sources"][0]["failed"]), (&json!("first"), &json!(1)), "{json}");
    let again = stack.loader(&object).arg("--wait").env("BATCH_RUN_ID", "second").run().await;
    again.expect_exit(1).expect_says("1 row of run first failed: `assay failures first` shows why");
    again.expect_says("BATCH_RUN_ID=second is not used");
    // A load that does not wait reports it, and succeeds.
    stack.loader(&object).run().await.expect_exit(0).expect_says("1 row of run first failed");
    law::holds_for_one_run(&stack.database).await;
}

#[tokio::test]
async fn log_lines_name_the_run_they_are_about() {
    let stack = Stack::new(Script::Score).await;
    for name in ["a.csv", "b.csv"] {
        let rows = Rows::valid(20);
        stack.s3.put("transactions", name, if name == "a.csv" { rows } else { rows.replace("2026", "2025") });
    }
    let _stages = stack.start_stages();
    let loader = || stack.loader("s3://transactions/*.csv").arg("--wait");
    let text = loader().run().await;
    let processed: Vec<&str> = text.stderr.lines().filter(|line| line.contains("processed 20 transactions")).collect();
    assert!(processed.len() == 2 && processed.iter().all(|line| line.contains(" run_id=batch_")), "{processed:?}");
    for line in text.stderr.lines() {
        assert!(line.as_bytes().get(19) == Some(&b'Z'), "a time says its zone: {line}");
    }
    let lines = loader().env("LOG_FORMAT", "json").run().await.stderr;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let before = lines.iter().filter(|line| line["message"].as_str().unwrap().contains("is already loaded"));
    assert!(before.clone().count() == 2 && before.clone().all(|line| line["run_id"].is_string()), "{lines:?}");
    law::holds(&stack.database).await;
}

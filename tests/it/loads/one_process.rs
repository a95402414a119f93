//! `assay run`: the three stages in one process, without services, and with each part replaced by a real one.

use std::path::Path;

use assay_tests::{HEADER, Program, Rows, STORED, Script, Stack, assert_same, content, law};
use assay_transaction::Tally;
use serde_json::Value;

/// A folder with a file in it, and where `assay run` puts its database.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, file: &str) -> Program {
        Program::new("assay").args(["run", file]).within(self.path())
    }

    async fn law_holds(&self) -> Tally {
        law::only(law::holds_in_file(&self.path().join("assay.db")).await)
    }
}

fn json(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap_or_else(|error| panic!("stdout is one JSON object ({error}):\n{stdout}"))
}

#[tokio::test]
async fn a_file_needs_nothing_else() {
    let file = Rows::valid(1_200).with(",no id,1,2026-01-01 10:00:00,,x,debit");
    let folder = Folder::with("a.csv", &file);
    let ended = folder.run("a.csv").arg("--json").run().await;
    ended.expect_exit(0);
    let result = json(&ended.stdout);
    let counts = ["rows_read", "predicted", "invalid", "failed", "duplicate"].map(|name| result[name].as_u64());
    assert_eq!(counts, [1_201, 1_200, 1, 0, 0].map(Some), "{result}");
    assert_eq!(result["state"], "complete");
    assert_eq!(result["invalid_by_reason"]["id_empty"], 1);
    let predictions = result["predictions"].as_array().expect("counts by prediction");
    let predicted: u64 = predictions.iter().filter_map(|prediction| prediction["count"].as_u64()).sum();
    assert_eq!(predicted, 1_200, "{result}");
    let tally = folder.law_holds().await;
    assert_eq!(tally, Tally { predicted: 1_200, invalid: 1, ..Tally::default() });

    let again = folder.run("a.csv").arg("--json").run().await;
    again.expect_exit(0).expect_says("already loaded");
    let result = json(&again.stdout);
    assert_eq!((&result["already_loaded"], &result["predicted"]), (&Value::Bool(true), &Value::from(1_200)));
    // Numbers are grouped on a terminal only.
    folder.run("a.csv").run().await.expect_exit(0).expect_says(" 1201\n").expect_silent_about("1,201");
    assert_eq!(folder.law_holds().await, tally);
}

#[tokio::test]
async fn a_terminal_gets_a_table() {
    let folder = Folder::with("a.csv", Rows::valid(250));
    let ended = folder.run("a.csv").run().await;
    ended.expect_exit(0).expect_says("Pipeline complete: 250 processed, 0 failed, 0 invalid");
    for words in ["rows read", "predicted", "invalid", "failed", "duplicate", "mean score", "rows a second"] {
        assert!(ended.stdout.contains(words), "`{words}` in the table:\n{}", ended.stdout);
    }
    folder.law_holds().await;
}

#[tokio::test]
async fn a_file_without_transactions_is_refused() {
    let folder = Folder::with("a.csv", HEADER.replace("amount,", ""));
    folder.run("a.csv").run().await.expect_one_clear_line(4, &["missing required column `amount`"]);
    folder.run("b.csv").run().await.expect_one_clear_line(4, &["b.csv", "does not exist"]);
    folder.run("a.csv").env("ROW_BATCH_SIZE", "x").run().await.expect_one_clear_line(2, &["ROW_BATCH_SIZE", "`x`"]);
}

#[tokio::test]
async fn every_part_may_be_a_real_one() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(250);
    let object = stack.s3.put("transactions", "a.csv", &file);
    let folder = Folder::with("unused", "");
    let run = stack.known_to(folder.run(&object)).arg("--json").env("ML_API_URL", stack.ml_api.url());
    let ended = run.run().await;
    ended.expect_exit(0);
    assert_eq!(json(&ended.stdout)["predicted"], 250);
    assert_same(&stack.database.texts(STORED).await, &content(file.as_ref(), b',', '.'));
    let scripted = "SELECT count(*) FROM predictions WHERE model_version = 'scripted-1'";
    assert_eq!(stack.database.count(scripted).await, 250, "scored by the ML API that was named");
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 250);
    assert!(!folder.path().join("assay.db").exists(), "no SQLite file beside a database that is named");
}

#[tokio::test]
async fn each_part_may_be_a_real_one_alone() {
    let stack = Stack::new(Script::Score).await;
    let amqp_url = std::env::var("TEST_AMQP_URL").expect("./scripts/test sets it");
    for (name, value) in [("AMQP_URL", amqp_url), ("ML_API_URL", stack.ml_api.url())] {
        let folder = Folder::with("a.csv", Rows::valid(150));
        stack.broker.known_to(folder.run("a.csv")).without("AMQP_URL").env(name, value).run().await.expect_exit(0);
        assert_eq!(folder.law_holds().await.predicted, 150, "with {name}");
    }
    let folder = Folder::with("a.csv", Rows::valid(150));
    folder.run("a.csv").env("DATABASE_URL", stack.database.url()).run().await.expect_exit(0);
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 150);
}

#[tokio::test]
async fn queues_of_others_are_left_alone() {
    let stack = Stack::new(Script::Hold).await;
    let object = stack.s3.put("transactions", "fleet.csv", Rows::valid(20));
    let predictor = stack.predictor().start();
    stack.loader(&object).run().await.expect_exit(0);
    stack.ml_api.asked(1).await;
    let folder = Folder::with("a.csv", Rows::valid(30));
    let run = || stack.broker.known_to(folder.run("a.csv"));
    run().run().await.expect_one_clear_line(2, &["transactions.batch has 1 consumers", "`loader`", "QUEUE_PREFIX"]);

    let queue = stack.broker.look_at("transactions.batch").await;
    predictor.kill().await;
    while queue.depth().await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let held = ["transactions.batch holds 1 messages", "`loader`", "QUEUE_PREFIX", "--take-queued"];
    run().run().await.expect_one_clear_line(2, &held);
    assert_eq!(queue.depth().await, 1);

    // As after an `assay run` that was stopped.
    stack.ml_api.set(Script::Score);
    let run = stack.known_to(folder.run("a.csv")).env("ML_API_URL", stack.ml_api.url());
    run.arg("--take-queued").run().await.expect_exit(0);
    stack.database.until("SELECT count(*) = 50 FROM predictions").await;
    assert_eq!(law::holds(&stack.database).await.len(), 2);
}

#[tokio::test]
async fn refused_rows_fail_and_the_exit_code_says_so() {
    let stack = Stack::new(Script::Refuse).await;
    let folder = Folder::with("a.csv", Rows::valid(50).replace("Card payment 7,", "refuse me,"));
    let ended = folder.run("a.csv").arg("--json").env("ML_API_URL", stack.ml_api.url()).run().await;
    ended.expect_exit(1);
    assert_eq!(json(&ended.stdout)["failed_by_class"]["rejected"], 1);
    assert_eq!(folder.law_holds().await, Tally { predicted: 49, failed: 1, ..Tally::default() });
}

#[tokio::test]
async fn a_killed_or_stopped_run_resumes_when_it_is_started_again() {
    let stack = Stack::new(Script::Score).await;
    let file = Rows::valid(300);
    let folder = Folder::with("a.csv", &file);
    let run = || folder.run("a.csv").env("CHUNK_ROWS", "10").env("ML_API_URL", stack.ml_api.url());
    stack.ml_api.set(Script::Hold);
    let killed = run().start();
    stack.ml_api.asked(1).await;
    killed.kill().await;

    let mut stopped = run().start();
    let before = stack.ml_api.bodies().len();
    stack.ml_api.asked(before + 1).await;
    stopped.terminate();
    stopped.says("shutting down").await;
    stack.ml_api.set(Script::Score);
    stopped.end().await.expect_exit(3).expect_says("repeat the command");

    // What the drain has left, perhaps nothing.
    run().run().await.expect_exit(0);
    assert_eq!(folder.law_holds().await.predicted, 300);
}

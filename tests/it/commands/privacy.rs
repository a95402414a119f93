//! `assay purge` and `assay erase`: what is old, and what a customer wants forgotten, is gone wherever it was, and stays gone.

use std::path::Path;

use assay_tests::{HEADER, MlApi, Program, Rows, Script, Stack, law, row};
use assay_transaction::Tally;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::assay;

const GUIDE: &str = include_str!("../../../docs/privacy.md");
/// What a customer's rows hold.
const CUSTOMER: &str = "Ottilie Quandt";

#[tokio::test]
async fn every_command_works_as_documented() {
    let folder = super::operator_guide::play(GUIDE).await;
    let tallies = law::holds_in_file(&folder.path().join("privacy.db")).await;
    assert!(tallies["january"].failed >= 2 && tallies["again"].failed >= 2, "{tallies:?}");
}

/// Every value of every table, as text.
async fn everything(folder: &Path) -> String {
    let file = SqliteConnectOptions::new().filename(folder.join("assay.db"));
    let pool = SqlitePool::connect_with(file).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&pool).await.unwrap();
    let mut all = String::new();
    for table in tables {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(&table).fetch_all(&pool).await.unwrap();
        for column in columns {
            let query = format!("SELECT CAST(\"{column}\" AS blob) FROM \"{table}\" WHERE \"{column}\" IS NOT NULL");
            let values: Vec<Vec<u8>> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&pool).await.unwrap();
            for value in values {
                all.extend([&*String::from_utf8_lossy(&value), "\n"]);
            }
        }
    }
    all
}

/// A file with four rows of the customer: stored, stored, refused by the model, and broken.
fn file() -> Rows {
    let of = |number: u64, text: &str| row(number).replace("Card payment", text);
    Rows::header()
        .with(&row(1))
        .with(&of(777_001, CUSTOMER))
        .with(&of(777_002, CUSTOMER))
        .with(&of(777_003, &format!("refuse me {CUSTOMER}")))
        .with(&of(777_004, CUSTOMER).replace("2026-01", "2026-13"))
        .with(&format!("\"777005,{CUSTOMER} never closed,1,2026-01-01 10:00:00,,x,debit"))
        .with(&row(2))
}

#[tokio::test]
async fn a_customer_is_forgotten() {
    let ml_api = MlApi::start(Script::Refuse).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.csv"), file()).unwrap();
    std::fs::write(folder.join("b.csv"), file().replace("-7001.01", "-7001.02")).unwrap();
    let load = async |run: &str, file: &str| {
        let program = Program::new("assay").args(["run", "--force", file]).within(folder).env("BATCH_RUN_ID", run);
        let program = program.env("ML_API_URL", ml_api.url()).env("ID_NAMESPACE", "bank");
        program.env("ID_CONFLICT", "update").env("API_MAX_WORKERS", "1").run().await
    };
    load("first", "a.csv").await.expect_exit(1);
    load("second", "b.csv").await.expect_exit(1);
    let before = everything(folder).await;
    assert!(before.contains(CUSTOMER) && before.contains("777001"));

    let ids = ["777001", "777002", "", "777003", "777004", "no-such-customer"].join("\n");
    std::fs::write(folder.join("ids.txt"), ids).unwrap();
    let said = std::sync::Mutex::new(String::new());
    let erase = async |arguments: &[&str]| {
        let program = Program::new("assay").within(folder).env("ASSAY_OPERATOR", "ada").env("LOG_LEVEL", "trace");
        let ended = arguments.iter().fold(program.arg("erase"), Program::arg).run().await;
        said.lock().unwrap().extend([ended.stdout.as_str(), ended.stderr.as_str()]);
        ended
    };
    let expected = json!({ "transactions": 2, "failed": 2, "duplicates": 2, "invalid": 2, "history": 1,
        "dead_letters": 0, "live_messages": 0 });
    let dry = erase(&["ids.txt", "--dry-run", "--json"]).await.expect_exit(0).json();
    assert_eq!((&dry["erased"], &dry["unknown_id_lines"]), (&expected, &json!([6])));
    assert_eq!(dry["unreadable_rows"], json!({ "first": 1, "second": 1 }));
    assert_eq!(everything(folder).await, before, "a dry run changes nothing");
    erase(&["ids.txt", "--yes"]).await.expect_one_clear_line(2, &["--reason"]);
    erase(&["777001", "--yes", "--reason", "x"]).await.expect_one_clear_line(2, &["history of the shell"]);
    erase(&[]).await.expect_exit(2);
    let erased = erase(&["ids.txt", "--yes", "--reason", "request 81", "--json"]).await.expect_exit(0).json();
    assert_eq!(erased["erased"], expected);

    // What cannot be read is named by its number.
    std::fs::write(folder.join("rows.txt"), "first:6\nsecond:6\nnowhere:1\nfirst:2\n").unwrap();
    let erased = erase(&["--rows", "rows.txt", "--yes", "--reason", "request 81"]).await;
    erased.expect_exit(0).expect_says("invalid rows          2").expect_says("rows without content  2: lines 3-4");
    std::fs::write(folder.join("wrong.txt"), "first;6\n").unwrap();
    erase(&["--rows", "wrong.txt"]).await.expect_one_clear_line(2, &["line 1", "RUN:ROW"]);

    let forgotten = |text: &str| {
        for piece in [CUSTOMER, "777001", "777002", "777003", "777004", "777005", "no-such-customer"] {
            assert!(
                !text.contains(piece),
                "`{piece}` is left in: {}",
                text.lines().find(|it| it.contains(piece)).unwrap()
            );
        }
    };
    forgotten(&everything(folder).await);
    // The name of a file is no id, but the command does not know.
    forgotten(&said.lock().unwrap());
    let tallies = law::holds_in_file(&folder.join("assay.db")).await;
    assert_eq!(tallies["first"], Tally { predicted: 2, failed: 5, ..Tally::default() });
    assert_eq!(tallies["second"], Tally { duplicate: 2, failed: 5, ..Tally::default() });
    let by = "erased by ada, ";
    for (run, number) in
        [("first", "2"), ("first", "4"), ("first", "5"), ("first", "6"), ("second", "2"), ("second", "3")]
    {
        assay(folder, &["row", run, number]).await.expect_exit(0).expect_says(by).expect_says("request 81");
    }
    assay(folder, &["row", "first", "2", "--source"]).await.expect_one_clear_line(2, &["row 2", "erased"]);
    for command in ["status", "audit"] {
        let ended = assay(folder, &[command, "first"]).await;
        ended.expect_exit(0).expect_says("4 rows by ada, ").expect_says("1 row by ada, ").expect_says("(operation ");
    }
    assay(folder, &["transaction", "777001"]).await.expect_exit(2);
    assay(folder, &["replay", "first", "--reason", "x"]).await.expect_exit(0).expect_says("nothing to replay");
    let operations = assay(folder, &["operations"]).await;
    operations.expect_exit(0).expect_says("request 81").expect_says("\"transactions\":2");
    forgotten(&operations.stdout);

    // A new load brings back nothing but the rows that no rule can read.
    load("third", "a.csv").await.expect_exit(1);
    let tallies = law::holds_in_file(&folder.join("assay.db")).await;
    assert_eq!(tallies["third"], Tally { duplicate: 2, failed: 3, invalid: 2, ..Tally::default() });
    assay(folder, &["row", "third", "2"]).await.expect_exit(0).expect_says(by);
    let left = everything(folder).await;
    assert!(!left.contains("777001") && !left.contains("777003") && left.contains("777004"));
    erase(&["ids.txt", "--yes", "--reason", "again"]).await.expect_exit(0).expect_says("invalid rows       1");
}

#[tokio::test]
async fn a_message_that_waited_brings_nothing_back() {
    let stack = Stack::new(Script::Refuse).await;
    let rows = Rows::valid(20).with(&row(21).replace("Card payment", "refuse me"));
    let object = stack.s3.put("transactions", "a.csv", rows);
    let predictor = stack.predictor().start();
    let loader = stack.loader(&object).env("BATCH_RUN_ID", "first").env("CHUNK_ROWS", "5");
    loader.run().await.expect_exit(0);
    let queue = stack.broker.look_at("predictions.batch").await;
    while queue.depth().await < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The third chunk becomes a dead letter.
    let letter = "INSERT INTO dead_letters (queue, message_id, message_type, run_id, reason, attempt, body, outcome)
        VALUES ('transactions.batch', 'other/0', 'assay.chunk.v1', NULL, 'expired', 0,
            '{\"transactions\":[{\"row\":1,\"external_id\":\"7\"}]}', 'known'),
            ('transactions.batch', 'other/1', 'assay.chunk.v1', NULL, 'expired', 0,
            '{\"transactions\":[{\"row\":1,\"external_id\":\"77\"}]}', 'known'),
            ('transactions.batch', NULL, NULL, NULL, 'unreadable', 0, convert_to('{\"id\":\"21', 'UTF8'), 'unreadable')";
    stack.database.execute(letter).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ids.txt"), "7\n13\n21\n").unwrap();
    let erase = || {
        let program = stack.assay(["erase", "ids.txt", "--yes", "--reason", "request 81", "--json"]);
        program.within(folder.path()).run()
    };
    let erased = erase().await.expect_exit(0).json();
    assert_eq!((&erased["erased"]["transactions"], &erased["erased"]["dead_letters"]), (&json!(0), &json!(2)));
    assert_eq!(erased["unfinished_runs"], json!(["first"]));
    let bodies = "SELECT convert_from(body, 'UTF8') FROM dead_letters WHERE length(body) > 0";
    assert_eq!(stack.database.texts(bodies).await, [r#"{"transactions":[{"row":1,"external_id":"77"}]}"#]);

    let writer = stack.writer().start();
    stack.database.until_finished().await;
    assert_eq!(law::holds(&stack.database).await["first"], Tally { predicted: 18, failed: 3, ..Tally::default() });
    let left = "SELECT concat_ws('|', row_number, class, transaction_id, length(payload)) FROM failed_transactions ORDER BY row_number";
    let nil = "00000000-0000-0000-0000-000000000000";
    let tombstone = |row: u64| format!("{row}|erased|{nil}|0");
    assert_eq!(stack.database.texts(left).await, [7, 13, 21].map(tombstone));
    let again = erase().await.expect_exit(0).json();
    assert_eq!((&again["erased"]["failed"], &again["unfinished_runs"]), (&json!(0), &json!([])));
    for program in [predictor, writer] {
        program.terminate();
        program.end().await.expect_exit(0);
    }
}

#[tokio::test]
async fn old_content_is_purged() {
    let ml_api = MlApi::start(Script::Refuse).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.csv"), file()).unwrap();
    let run = Program::new("assay").args(["run", "a.csv"]).within(folder).env("BATCH_RUN_ID", "first");
    run.env("ML_API_URL", ml_api.url()).run().await.expect_exit(1);
    let purge = async |arguments: &[&str]| {
        let program = Program::new("assay").within(folder).env("ASSAY_OPERATOR", "ada").arg("purge");
        arguments.iter().fold(program, Program::arg).run().await
    };
    purge(&["--before", "2999-01-01"]).await.expect_one_clear_line(2, &["--before", "past"]);
    purge(&["--before", "0d", "--what", "everything"]).await.expect_exit(2).expect_says("dead-letters");
    purge(&["--before", "0d", "--yes"]).await.expect_one_clear_line(2, &["--reason"]);
    purge(&["--before", "1d", "--yes"]).await.expect_exit(0).expect_says("nothing is left from before ");
    let dry = purge(&["--before", "0d", "--dry-run", "--json"]).await.expect_exit(0).json();
    assert_eq!((&dry["purged"][0]["kind"], &dry["purged"][0]["rows"]), (&json!("raw"), &json!(2)));
    assert!(dry["purged"][1]["bytes"].as_u64() > Some(0) && dry["operation"].is_null());
    assert!(everything(folder).await.contains("never closed"));

    purge(&["--before", "0d", "--reason", "retention", "--yes"]).await.expect_exit(0).expect_says("raw");
    let left = everything(folder).await;
    assert!(!left.contains("never closed") && !left.contains("refuse me") && left.contains(CUSTOMER));
    let tally = law::only(law::holds_in_file(&folder.join("assay.db")).await);
    assert_eq!(tally, Tally { predicted: 4, failed: 3, ..Tally::default() });
    let of_row = async |number: &str| assay(folder, &["row", "first", number]).await;
    of_row("4").await.expect_exit(0).expect_says("purged by ada, ").expect_says("it had failed: rejected");
    of_row("5").await.expect_exit(0).expect_says("it was invalid: timestamp_format");
    assay(folder, &["audit", "first"]).await.expect_exit(0).expect_says("purged").expect_says("3 rows by ada, ");
    assay(folder, &["replay", "first", "--reason", "x"]).await.expect_exit(0).expect_says("nothing to replay");
    let operations = assay(folder, &["operations", "--json"]).await.expect_exit(0).json();
    assert_eq!((&operations[0]["action"], &operations[0]["details"]["raw"]["rows"]), (&json!("purge"), &json!(2)));
    let csv = assay(folder, &["invalid", "first", "--csv"]).await;
    assert_eq!(csv.expect_exit(0).stdout, format!("{HEADER}\n"));
}

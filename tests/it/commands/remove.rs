//! `assay remove`: a wrong load is removed, and all other rows are as they would be without it.

use std::path::Path;

use assay_tests::{Ended, Program, Rows, STORED, Script, Stack, law, row};
use serde_json::json;

async fn assay(folder: &Path, arguments: &[&str]) -> Ended {
    let program = Program::new("assay").within(folder).env("ASSAY_OPERATOR", "ada").env("ID_NAMESPACE", "bank");
    arguments.iter().fold(program, Program::arg).run().await
}

async fn load(folder: &Path, run: &str, file: &str) -> Ended {
    let program = Program::new("assay").within(folder).env("ID_NAMESPACE", "bank").env("BATCH_RUN_ID", run);
    program.env("ID_CONFLICT", "update").args(["run", file]).run().await
}

#[tokio::test]
async fn a_wrong_load_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let assay = async |arguments: &[&str]| assay(folder, arguments).await;
    std::fs::write(folder.join("january.csv"), Rows::valid(20)).unwrap();
    // Ten rows again, one of them with another amount, ten new ones, and one that is none.
    let wrong = (11..=30).map(|number| {
        let row = row(number);
        if number == 15 { row.replace("-15.", "-77.") } else { row }
    });
    let wrong = wrong.fold(Rows::header(), |file, row| file.with(&row)).with(",no id,1,2026-01-01 10:00:00,,x,debit");
    std::fs::write(folder.join("wrong.csv"), wrong).unwrap();
    std::fs::write(folder.join("february.csv"), (25..=35).fold(Rows::header(), |file, number| file.with(&row(number))))
        .unwrap();
    load(folder, "january", "january.csv").await.expect_exit(0);
    let before = assay(&["transaction", "15", "--json"]).await.expect_exit(0).json();
    load(folder, "wrong", "wrong.csv").await.expect_exit(0);
    load(folder, "february", "february.csv").await.expect_exit(0);
    assay(&["audit", "february"])
        .await
        .expect_exit(0)
        .expect_says("11 = 5 predicted + 0 invalid + 0 failed + 6 duplicate");

    let dry = assay(&["remove", "wrong", "--dry-run"]).await;
    dry.expect_exit(0)
        .expect_says("6 of the predicted, to run february")
        .expect_says("nothing was removed (--dry-run)");
    assay(&["remove", "wrong", "--yes"]).await.expect_one_clear_line(2, &["--reason"]);
    assay(&["remove", "wrong", "--reason", "wrong"]).await.expect_one_clear_line(2, &["--yes"]);
    assay(&["audit", "wrong"]).await.expect_exit(0).expect_says("run wrong (complete): audit passed");

    let removed = assay(&["remove", "wrong", "--yes", "--reason", "not ours", "--json"]).await.expect_exit(0).json();
    assert_eq!(removed["removed"], json!({ "rows": 21, "passed_on": 6, "restored": 1 }));
    let again = assay(&["remove", "wrong", "--reason", "again"]).await;
    again.expect_exit(0).expect_says("was removed before: removed by ada");
    law::holds_in_file(&folder.join("assay.db")).await;
    let audit = assay(&["audit", "wrong"]).await;
    audit.expect_exit(0).expect_says("0 predicted + 0 invalid + 21 failed + 0 duplicate").expect_says("ada");
    assay(&["audit", "february"])
        .await
        .expect_exit(0)
        .expect_says("11 = 11 predicted + 0 invalid + 0 failed + 0 duplicate");
    assay(&["runs"]).await.expect_exit(0).expect_says("removed");
    assert_eq!(
        assay(&["transaction", "15", "--json"]).await.expect_exit(0).json()["description"],
        before["description"]
    );
    let returned = assay(&["transaction", "15"]).await;
    returned.expect_exit(0).expect_says("from            row 15 of run january");
    assay(&["row", "wrong", "3"]).await.expect_exit(0).expect_says("removed by ada").expect_says("not ours");
    assay(&["row", "wrong", "3", "--source"]).await.expect_one_clear_line(2, &["removed"]);
    assay(&["replay", "wrong"]).await.expect_exit(0).expect_says("21 rows were removed, and cannot be sent");
    assay(&["repair", "wrong"]).await.expect_one_clear_line(2, &["run wrong was removed"]);
    assay(&["operations", "wrong"]).await.expect_exit(0).expect_says("remove").expect_says("not ours");
    load(folder, "wrong", "wrong.csv").await.expect_one_clear_line(2, &["run wrong was removed", "BATCH_RUN_ID"]);
    load(folder, "right", "wrong.csv").await.expect_exit(0);
    let audit = assay(&["audit", "right"]).await;
    audit.expect_exit(0).expect_says("21 = 4 predicted + 1 invalid + 0 failed + 16 duplicate");
    law::holds_in_file(&folder.join("assay.db")).await;
}

#[tokio::test]
async fn a_killed_removal_resumes() {
    const ROWS: u64 = 20_000;
    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", Rows::valid(ROWS));
    let stages = stack.start_stages();
    for run in ["first", "second"] {
        let loader = stack.loader(&object).args(["--wait", "--force"]).env("BATCH_RUN_ID", run);
        loader.run().await.expect_exit(0);
    }
    stack.assay(["remove", "second"]).run().await.expect_one_clear_line(2, &["--reason"]);
    let mut kills = 0;
    loop {
        let remove = stack.assay(["remove", "first", "--yes", "--reason", "killed"]).start();
        let begun = async {
            while stack.database.count("SELECT count(*) FROM failed_transactions").await < (kills + 1) * 2_000 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(assay_tests::DEADLINE, begun).await.expect("it removes rows");
        remove.kill().await;
        law::holds(&stack.database).await;
        kills += 1;
        if kills == 3 {
            break;
        }
    }
    stack.assay(["remove", "first", "--yes", "--reason", "killed"]).run().await.expect_exit(0);
    for stage in stages {
        stage.terminate();
        stage.end().await.expect_exit(0);
    }
    let tallies = law::holds(&stack.database).await;
    assert!(!tallies.is_empty());
    assert_eq!(stack.database.count("SELECT count(*) FROM transactions WHERE run_id = 'second'").await, 20_000);
    assert_eq!(stack.database.count(STORED_OF_FIRST).await, 0);
    assert_eq!(stack.database.texts(STORED).await.len(), 20_000);
}

const STORED_OF_FIRST: &str = "SELECT (SELECT count(*) FROM transactions WHERE run_id = 'first') \
    + (SELECT count(*) FROM predictions WHERE run_id = 'first')";

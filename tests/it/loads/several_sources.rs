//! Several sources in one invocation: by name, prefix and pattern; a broken one among them; only those that are new.

use assay_tests::{Program, Rows, Script, Stack, law};
use assay_transaction::Tally;
use serde_json::Value;

#[tokio::test]
async fn a_broken_source_does_not_prevent_the_others() {
    let stack = Stack::new(Script::Score).await;
    stack.s3.put("transactions", "2026/a.csv", Rows::valid(10));
    stack.s3.put("transactions", "2026/b.csv", "");
    stack.s3.put("transactions", "2026/07/c.csv", Rows::valid(20));
    stack.s3.put("transactions", "2027/d.csv", Rows::valid(40));
    let _stages = stack.start_stages();

    let loaded = stack.loader("s3://transactions/2026/").args(["s3://transactions/none/*", "--wait"]).run().await;
    loaded.expect_exit(4);
    for words in [
        "s3://transactions/2026/07/c.csv: run batch_",
        " is complete, 20 rows",
        "s3://transactions/2026/b.csv: the source is empty",
        "no source matches s3://transactions/none/*: check the argument or SOURCE_URL",
        "4 sources: 2 loaded with 30 rows, 0 loaded before, 2 broken",
    ] {
        loaded.expect_says(words);
    }
    assert_eq!(stack.database.texts("SELECT state FROM runs").await, ["complete", "complete"]);

    // What was read is known by the listing, or where that has no ETags by each object.
    let again = stack.loader("s3://transactions/**/[acd].csv").args(["--new", "--wait"]).run().await;
    again.expect_exit(0).expect_says("1 of 3 sources are new").expect_says("Pipeline complete: 40 processed");
    let nothing = stack.loader("s3://transactions/**/[acd].csv").args(["--new", "--wait"]).run().await;
    nothing.expect_exit(0).expect_says("0 of 3 sources are new").expect_silent_about("Starting batch pipeline");

    let named = stack.loader("s3://transactions/2026/").env("BATCH_RUN_ID", "nightly").run().await;
    named.expect_one_clear_line(2, &["BATCH_RUN_ID names one run, but there are 3 sources"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM runs").await, 3);
    law::holds(&stack.database).await;
}

#[tokio::test]
async fn one_process_loads_a_directory_and_reports_each_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (name, rows) in [("a.csv", Rows::valid(300)), ("b.csv", Rows::valid(200).with(",no id,1,2026-01-01,,x,debit"))]
    {
        std::fs::write(folder.path().join("in").join(name), rows).unwrap();
    }
    let run = || Program::new("assay").arg("run").within(folder.path());
    let ended = run().args(["in", "none.csv", "--json"]).run().await;
    ended.expect_exit(4);
    let result: Value = serde_json::from_str(&ended.stdout).expect("stdout is JSON");
    let names = ["rows_read", "predicted", "invalid", "failed", "duplicate", "broken"];
    assert_eq!(names.map(|name| result[name].as_u64()), [501, 500, 1, 0, 0, 1].map(Some), "{result}");
    let states: Vec<_> = (0..3).map(|at| result["sources"][at]["state"].as_str()).collect();
    assert_eq!(states, [Some("complete"), Some("complete"), None], "{result}");
    assert!(result["sources"][2]["error"].as_str().unwrap().contains("does not exist"), "{result}");

    let table = run().args(["in/*.csv"]).run().await;
    table.expect_exit(0);
    for words in ["complete, before", "2 sources", "in/b.csv", "rows a second"] {
        assert!(table.stdout.contains(words), "`{words}` in the table:\n{}", table.stdout);
    }
    let nothing = run().args(["in/*.csv", "--new", "--json"]).run().await;
    nothing.expect_exit(0);
    assert_eq!(serde_json::from_str::<Value>(&nothing.stdout).unwrap()["sources"], Value::Array(Vec::new()));
    let tallies = law::holds_in_file(&folder.path().join("assay.db")).await;
    assert_eq!(tallies.len(), 2);
    let tally = |name: &str| {
        let run = result["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|source| source["source"].as_str().is_some_and(|source| source.ends_with(name)));
        tallies[run.and_then(|run| run["run_id"].as_str()).expect("it has a run")]
    };
    assert_eq!(tally("a.csv"), Tally { predicted: 300, ..Tally::default() });
    assert_eq!(tally("b.csv"), Tally { predicted: 200, invalid: 1, ..Tally::default() });
}

//! `assay generate`: files whose manifest states the outcome of every row.

use std::path::Path;

use assay_tests::{Program, STORED, Script, Stack, assert_same, content, law};
use assay_transaction::{RejectReason, Tally};

fn generate(folder: &Path) -> Program {
    Program::new("assay").arg("generate").within(folder)
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes_and_all_rows_load() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, other] =
        ["7", "7", "8"].map(|seed| generate(folder.path()).args(["--rows=2000", "--seed", seed]));
    let first = first.run().await;
    first.expect_exit(0);
    assert_eq!(first.stdout, second.run().await.expect_exit(0).stdout);
    assert_ne!(first.stdout, other.run().await.expect_exit(0).stdout);
    assert_eq!(first.stdout.lines().count(), 2_001);

    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "transactions_fr.csv", &first.stdout);
    let _stages = [stack.predictor(), stack.predictor(), stack.writer(), stack.writer()].map(Program::start);
    let loaded = stack.loader(&object).arg("--wait").run().await;
    loaded.expect_exit(0).expect_says("Pipeline complete: 2000 processed, 0 failed, 0 invalid");
    assert_same(&stack.database.texts(STORED).await, &content(first.stdout.as_bytes(), b';', ','));
    assert_eq!(law::holds_for_one_run(&stack.database).await.predicted, 2_000);
}

#[tokio::test]
async fn every_row_has_the_outcome_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let shares = ["--invalid=0.2", "--duplicates=0.1", "--invalid-kinds=all", "--attributes", "--rows=1500"];
    let generated =
        generate(folder.path()).args(shares).args(["--output=a.csv", "--manifest=manifest.csv"]).run().await;
    generated.expect_exit(0);
    let manifest = std::fs::read_to_string(folder.path().join("manifest.csv")).unwrap();
    let mut foretold: Vec<String> = Vec::new();
    for line in manifest.lines().skip(1) {
        let fields: Vec<&str> = line.splitn(5, ',').collect();
        foretold.push(format!("{}|{}|{}", fields[0], fields[1], fields[2]));
    }

    let stack = Stack::new(Script::Score).await;
    let object = stack.s3.put("transactions", "a.csv", std::fs::read(folder.path().join("a.csv")).unwrap());
    let _stages = stack.start_stages();
    // Set, as so many broken texts and amounts would make it doubtful.
    let loader = stack.loader(&object).arg("--wait").env("ENCODING", "utf-8").env("DECIMAL_MARK", "comma");
    loader.run().await.expect_exit(0);

    // A duplicate is which of the two rows lost: where both lie in chunks that two predictors could swap, either.
    let found = "
        SELECT concat_ws('|', row_number, outcome, reason) FROM (
            SELECT row_number, 'valid' AS outcome, '' AS reason FROM transactions
            UNION ALL SELECT row_number, 'invalid', reason FROM invalid_transactions
            UNION ALL SELECT (pair ->> 0)::bigint, 'duplicate', '' FROM chunks, jsonb_array_elements(duplicate_rows) AS pair
        ) AS outcomes ORDER BY row_number";
    let (found, counted) = (stack.database.texts(found).await, law::holds_for_one_run(&stack.database).await);
    let of = |rows: &[String], outcome: &str| -> Vec<String> {
        rows.iter().filter(|row| row.contains(outcome)).cloned().collect()
    };
    assert_eq!(of(&found, "|invalid|"), of(&foretold, "|invalid|"));
    let count = |outcome| of(&foretold, outcome).len() as u64;
    let tally =
        Tally { predicted: count("|valid|"), invalid: count("|invalid|"), duplicate: count("|duplicate|"), failed: 0 };
    assert_eq!(counted, tally);
    assert!(RejectReason::ALL.iter().filter(|reason| manifest.contains(reason.code())).count() > 10, "many kinds");
}

#[tokio::test]
async fn every_dialect_that_is_written_is_read() {
    let dialects: [(&str, &[&str]); 6] = [
        ("semicolons and commas", &[]),
        ("commas and points", &["--delimiter=comma", "--decimal-mark=point", "--quoting=needed"]),
        ("commas and commas", &["--delimiter=comma", "--decimal-mark=comma", "--quoting=all"]),
        ("tabs", &["--delimiter=tab", "--crlf", "--bom"]),
        ("pipes", &["--delimiter=pipe", "--decimal-mark=point", "--uuid-ids", "--labels"]),
        ("Windows-1252", &["--encoding=windows-1252"]),
    ];
    for (name, flags) in dialects {
        let folder = tempfile::tempdir().unwrap();
        let program = flags.iter().fold(generate(folder.path()), Program::arg);
        program.args(["--rows=300", "--output=a.csv"]).run().await.expect_exit(0);
        let run = Program::new("assay").args(["run", "a.csv"]).within(folder.path());
        let run = if name == "Windows-1252" { run.env("ENCODING", "windows-1252") } else { run };
        run.run().await.expect_exit(0);
        let tally = law::only(law::holds_in_file(&folder.path().join("assay.db")).await);
        assert_eq!(tally, Tally { predicted: 300, ..Tally::default() }, "{name}");
    }
}

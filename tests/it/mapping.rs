//! `--mapping`: files of other schemas, loaded by the mappings that are shipped as examples.

use std::path::Path;

use assay_tests::{Program, law};
use assay_transaction::Tally;
use serde_json::Value;

use crate::desk_guide::play;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

fn assay(folder: &Path, arguments: &[&str]) -> Program {
    arguments.iter().fold(Program::new("assay").within(folder), Program::arg)
}

async fn json(folder: &Path, arguments: &[&str]) -> Value {
    let ended = assay(folder, arguments).arg("--json").run().await;
    serde_json::from_str(&ended.expect_exit(0).stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

async fn tally(folder: &Path) -> Tally {
    law::only(law::holds_in_file(&folder.join("assay.db")).await)
}

/// Loads an example, and gives what is stored of one of its rows.
async fn load(folder: &Path, name: &str, row: &str) -> Value {
    let [mapping, source] = ["mapping.toml", "transactions.csv"].map(|file| format!("{EXAMPLES}/{name}/{file}"));
    assay(folder, &["run", "--mapping", &mapping, &source]).env("BATCH_RUN_ID", "mapped").run().await.expect_exit(0);
    assert_eq!(tally(folder).await, Tally { predicted: 300, ..Tally::default() });
    let stored = json(folder, &["row", "mapped", row]).await;
    assert_eq!(stored["outcome"], "predicted", "{stored}");
    let id = stored["transaction"]["external_id"].as_str().expect("the source's id");
    let found = json(folder, &["transaction", id]).await;
    assert_eq!(found["stored"][0]["id"], stored["transaction"]["id"], "it is found by the id that the mapping made");
    stored["transaction"].clone()
}

/// A row of an example, by the names of its header.
fn source_row(name: &str, row: usize) -> impl Fn(&str) -> String {
    let mut reader = csv::Reader::from_path(format!("{EXAMPLES}/{name}/transactions.csv")).unwrap();
    let header = reader.headers().unwrap().clone();
    let record = reader.records().nth(row - 1).unwrap().unwrap();
    move |column| record[header.iter().position(|name| name == column).expect(column)].to_owned()
}

#[tokio::test]
async fn the_layout_of_paysim() {
    let folder = tempfile::tempdir().unwrap();
    // Far enough from the start that its hour is none of the first day's, and of a type that is paid out.
    let row = (200..300).find(|row| source_row("paysim", *row)("type") == "PAYMENT").unwrap();
    let stored = load(folder.path(), "paysim", &row.to_string()).await;
    let theirs = source_row("paysim", row);
    let (step, from) = (theirs("step"), theirs("nameOrig"));
    assert_eq!(stored["external_id"], format!("{from}-{step}-{row}"));
    assert_eq!(stored["description"], format!("PAYMENT from {from} to {}", theirs("nameDest")));
    assert_eq!((&stored["operation_type"], &stored["side"]), (&"payment".into(), &"debit".into()));
    assert_eq!(stored["amount"], format!("-{}", theirs("amount")));
    assert_eq!(stored["merchant"], theirs("nameDest"));
    let hours: i64 = step.parse().unwrap();
    let at = format!("2023-01-{:02}T{:02}:00:00Z", hours / 24 + 1, hours % 24);
    assert_eq!(stored["timestamp"], at);
    let kept: Vec<&str> = stored["attributes"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(kept, ["oldbalanceDest", "oldbalanceOrg"], "and no label");
}

#[tokio::test]
async fn the_layout_of_sparkov() {
    let folder = tempfile::tempdir().unwrap();
    let stored = load(folder.path(), "sparkov", "300").await;
    let theirs = source_row("sparkov", 300);
    assert_eq!(stored["external_id"], theirs("trans_num"));
    assert_eq!(stored["merchant"], theirs("merchant"));
    assert_eq!(stored["description"], format!("{} at {}", theirs("category"), theirs("merchant")));
    assert_eq!(stored["timestamp"], theirs("trans_date_trans_time").replace(' ', "T") + "Z");
    assert_eq!(stored["amount"], format!("-{}", theirs("amt")));
    let attributes = stored["attributes"].as_object().unwrap();
    let kept: Vec<&str> = attributes.keys().map(String::as_str).collect();
    let expected = ["category", "city_pop", "home_lat", "home_long", "merch_lat", "merch_long", "state"];
    assert_eq!(kept, expected, "and neither label nor person nor card");
    assert_eq!(attributes["home_lat"], theirs("lat"));
}

#[tokio::test]
async fn a_rejected_row_is_written_as_its_source_has_it_and_loads_once_it_is_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, mapping) = (folder.path(), format!("{EXAMPLES}/paysim/mapping.toml"));
    let example = std::fs::read_to_string(format!("{EXAMPLES}/paysim/transactions.csv")).unwrap();
    let header = example.lines().next().unwrap();
    let bad = "3,WIRE,10.00,C1000000001,0.00,0.00,C1000000002,0.00,0.00,0,0";
    std::fs::write(folder.join("a.csv"), format!("{example}{bad}\n")).unwrap();
    let run = ["run", "--mapping", &mapping, "--batch-run-id"];
    assay(folder, &[&run[..], &["first", "a.csv"]].concat()).run().await.expect_exit(0);
    assert_eq!(tally(folder).await, Tally { predicted: 300, invalid: 1, ..Tally::default() });
    let rejected = json(folder, &["row", "first", "301"]).await;
    assert_eq!((&rejected["reason"], &rejected["raw"]), (&"value_unknown".into(), &bad.into()));
    let message = "`operation_type` (column `type`) is no value that the mapping knows: `WIRE`";
    assert_eq!(rejected["message"], message);

    let written = assay(folder, &["invalid", "first", "--csv"]).run().await;
    assert_eq!(written.expect_exit(0).stdout, format!("{header}\n{bad}\n"));
    std::fs::write(folder.join("b.csv"), written.stdout.replace("WIRE", "TRANSFER")).unwrap();
    let corrected = [&run[..], &["second", "b.csv"]].concat();
    assay(folder, &corrected).run().await.expect_exit(0).expect_says("1 processed, 0 failed, 0 invalid");
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = format!("{EXAMPLES}/sparkov/transactions.csv");
    let other = format!("{EXAMPLES}/paysim/mapping.toml");
    let refused = assay(folder, &["run", "--mapping", &other, &source]).run().await;
    refused.expect_one_clear_line(4, &["sparkov/transactions.csv", "`step` for `timestamp`", "`trans_num`"]);
    std::fs::write(folder.join("m.toml"), "id = \"trans_num\"\namuont = \"amt\"\n").unwrap();
    let refused = assay(folder, &["run", "--mapping", "m.toml", &source]).run().await;
    refused.expect_one_clear_line(2, &["m.toml, line 2, column 1", "`amuont`", "`amount`"]);
}

#[tokio::test]
async fn every_command_of_the_page_works_as_it_is_written() {
    let folder = play(include_str!("../../docs/mapping.md")).await;
    let tallies = law::holds_in_file(&folder.path().join("assay.db")).await;
    assert_eq!([tallies["paysim"], tallies["sparkov"]].map(|tally| tally.predicted), [300, 300]);
}

//! `--mapping`: files of other schemas, loaded by the mappings that are shipped as examples.

use std::path::Path;

use assay_tests::{Program, law};
use assay_transaction::Tally;
use serde_json::Value;

use crate::commands::operator_guide::play;

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
    assert_eq!(stored["amount"], format!("-{:.2}", theirs("amount").parse::<f64>().unwrap()));
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
    assert_eq!(stored["amount"], format!("-{:.2}", theirs("amt").parse::<f64>().unwrap()));
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
    let message = "`operation_type` (column `type`) is not a value known to the mapping: `WIRE`";
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
    refused.expect_one_clear_line(4, &["sparkov/transactions.csv", "`step` for `timestamp`", "has 23 fields"]);
    std::fs::write(folder.join("m.toml"), "id = \"trans_num\"\namuont = \"amt\"\n").unwrap();
    let refused = assay(folder, &["run", "--mapping", "m.toml", &source]).run().await;
    refused.expect_one_clear_line(2, &["m.toml, line 2, column 1", "`amuont`", "`amount`"]);
}

#[tokio::test]
async fn every_command_of_the_page_works_as_it_is_written() {
    let folder = play(include_str!("../../../docs/mapping.md")).await;
    let tallies = law::holds_in_file(&folder.path().join("mapping.db")).await;
    assert_eq!([tallies["paysim"], tallies["sparkov"]].map(|tally| tally.predicted), [300, 300]);
    let predicted = |predicted| Tally { predicted, ..Tally::default() };
    assert_eq!(["german", "french", "british"].map(|run| tallies[run]), [7, 6, 6].map(predicted));
    assert_eq!(tallies["german-april"], Tally { duplicate: 7, ..predicted(3) });
    // Where a command looks that has nothing set.
    std::fs::rename(folder.path().join("mapping.db"), folder.path().join("assay.db")).unwrap();
    are_stored(folder.path()).await;
}

/// The rows of the banks' exports as they are stored: run, row, amount, timestamp, side, kind, merchant, description.
async fn are_stored(folder: &Path) {
    for expected in [
        "german 1 -1150.00 2024-03-28 debit direct_debit Hausverwaltung Größenfeld: Lastschrift Miete April",
        "german 2 -3.40 2024-03-28 debit card_payment Café Lübke: Kartenzahlung",
        "german 3 -3.40 2024-03-28 debit card_payment Café Lübke: Kartenzahlung",
        "german 4 2845.67 2024-03-27 credit salary Arbeit & Söhne GmbH: Gehalt Lohn März",
        "german 6 -24.90 2024-03-15 debit card_payment Bücher; Tee & mehr: Kartenzahlung Rechnung 4711",
        "german 7 0.00 2024-03-01 credit other Musterbank: Abschluss Zinsen",
        "german-april 2 1120.50 2024-04-02 credit transfer Finanzamt Größenfeld: Überweisung Erstattung 2023",
        "french 1 -1050.00 2024-03-28 debit direct_debit LOYER AVRIL: Prélèvement LOYER AVRIL",
        "french 2 2310.45 2024-03-27 credit transfer SALAIRE SOCIÉTÉ DUPRÉ: Virement SALAIRE SOCIÉTÉ DUPRÉ",
        "french 4 -60.00 2024-03-25 debit withdrawal DISTRIBUTEUR LYON PART-DIEU: Retrait DISTRIBUTEUR LYON PART-DIEU",
        "french 5 32.80 2024-03-23 credit transfer REMBOURSEMENT MUTUELLE: Virement REMBOURSEMENT MUTUELLE",
        "british 1 -1050.00 2024-03-28 debit account RENT FLAT 4: RENT FLAT 4",
        "british 2 2310.45 2024-03-27 credit account ACME LTD, SALARY: ACME LTD, SALARY",
        "british 4 -3.40 2024-03-26 debit account CORNER CAFE: CORNER CAFE",
        "british 5 -60.00 2024-03-25 debit account CASH MACHINE: CASH MACHINE",
    ] {
        let [run, row] = [0, 1].map(|at| expected.split(' ').nth(at).unwrap());
        let stored = json(folder, &["row", run, row]).await["transaction"].clone();
        let text = |key: &str| stored[key].as_str().unwrap_or_default().to_owned();
        let day = text("timestamp").replace("T00:00:00Z", "");
        let [amount, side, kind, merchant, description] =
            ["amount", "side", "operation_type", "merchant", "description"].map(text);
        assert_eq!(format!("{run} {row} {amount} {day} {side} {kind} {merchant}: {description}"), expected);
    }
    let third = json(folder, &["row", "german-april", "6"]).await["transaction"].clone();
    assert_eq!(third["external_id"], "28.03.2024|Café Lübke||-3,40|3", "the third coffee is the new one");
    assert_eq!(third["attributes"], serde_json::json!({ "currency": "EUR", "Valuta": "28.03.2024" }));
}

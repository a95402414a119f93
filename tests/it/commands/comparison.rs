//! `assay row --source`: compares stored rows with their source.

use std::path::Path;

use assay_tests::{HEADER, Rows, row};
use serde_json::{Value, json};
use sqlx::SqlitePool;

use super::assay;

/// A valid card number.
const CARD: &str = "4111111111111111";

/// Row 2 has a line end and a card number in it, row 3 no side; row 6 repeats row 5, in the same chunk, where the
/// first one is stored.
fn file() -> Rows {
    Rows::header()
        .with(&row(1))
        .with(&row(2).replace("Card payment 2", &format!("\"CB {CARD}\nof Monday\"")))
        .with(&row(3).replace("debit", ""))
        .with(&row(4))
        .with(&row(5))
        .with(&row(5))
}

async fn comparison(folder: &Path, row: &str, exit: i32) -> Value {
    let ended = assay(folder, &["row", "a.csv", row, "--source", "--json"]).await;
    ended.expect_exit(exit).expect_silent_about(CARD);
    ended.json()
}

fn differing(answer: &Value) -> Vec<&str> {
    let values = answer["source_says"]["values"].as_array().unwrap();
    values.iter().filter(|value| value["is_same"] == false).map(|value| value["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_value_equals_the_source_until_one_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("a.csv"), file()).unwrap();
    assay(folder, &["run", "a.csv", "--api-batch-size", "2"]).await.expect_exit(0);
    for (row, outcome, values) in
        [("1", "predicted", 8), ("2", "predicted", 8), ("3", "invalid", 3), ("6", "duplicate", 8)]
    {
        let answer = comparison(folder, row, 0).await;
        assert_eq!(answer["outcome"], outcome, "{answer}");
        assert_eq!(answer["source_says"]["is_same"], true, "{answer}");
        assert_eq!(answer["source_says"]["values"].as_array().unwrap().len(), values, "{answer}");
    }
    let second = comparison(folder, "2", 0).await;
    assert_eq!(second["source_says"]["line"], 3);
    assert_eq!(second["source_says"]["values"][2]["source"], "CB ************1111\nof Monday");
    let said = assay(folder, &["row", "a.csv", "3", "--source"]).await;
    said.expect_exit(0).expect_says("side_empty").expect_says("all recorded values equal the source");
    let beyond = assay(folder, &["row", "a.csv", "7", "--source"]).await;
    beyond.expect_exit(0).expect_says("never read").expect_says("the source has no such row");

    let pool = SqlitePool::connect(&format!("sqlite://{}", folder.join("assay.db").display())).await.unwrap();
    let changes = [
        "UPDATE transactions SET amount = '2.03', merchant = NULL WHERE row_number = 2",
        "UPDATE invalid_transactions SET reason = 'amount_empty' WHERE row_number = 3",
    ];
    for change in changes {
        sqlx::query(change).execute(&pool).await.unwrap();
    }
    pool.close().await;
    assert_eq!(differing(&comparison(folder, "2", 1).await), ["amount", "merchant"]);
    assert_eq!(differing(&comparison(folder, "3", 1).await), ["reason"]);
    assay(folder, &["row", "a.csv", "2", "--source"])
        .await
        .expect_exit(1)
        .expect_says("differ from the source: amount, merchant\n");

    std::fs::write(folder.join("a.csv"), format!("{HEADER}\n{}\n", row(9))).unwrap();
    let replaced = assay(folder, &["row", "a.csv", "2", "--source"]).await;
    replaced.expect_one_clear_line(4, &["a.csv", "cannot be read again", "which now has version"]);
    std::fs::remove_file(folder.join("a.csv")).unwrap();
    assay(folder, &["row", "a.csv", "2", "--source"]).await.expect_one_clear_line(4, &["a.csv"]);
    assay(folder, &["row", "a.csv", "1"]).await.expect_exit(0);
}

#[tokio::test]
async fn a_mapped_row_shows_the_columns_of_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/paysim");
    let [mapping, source] = ["mapping.toml", "transactions.csv"].map(|file| format!("{examples}/{file}"));
    assay(folder, &["run", "--mapping", &mapping, &source]).await.expect_exit(0);
    let answer = assay(folder, &["row", &source, "250", "--source", "--json"]).await;
    let answer = answer.expect_exit(0).json();
    let values = answer["source_says"]["values"].as_array().unwrap();
    let of =
        |name: &str| values.iter().find(|value| value["name"] == name).unwrap_or_else(|| panic!("{name}: {answer}"));
    let external = of("external id");
    assert!(external["source"].as_str().unwrap().starts_with("step: "), "{external}");
    assert!(external["source"].as_str().unwrap().contains("; nameOrig: "), "{external}");
    assert_eq!((&of("oldbalanceOrg")["is_same"], &of("id")["source"]), (&json!(true), &Value::Null));
}

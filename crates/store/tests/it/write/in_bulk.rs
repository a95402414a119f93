//! Batches that are large enough for COPY, with everything that may prevent it.

use assay_store::IdConflict;
use assay_transaction::Tally;

use crate::chunks::{Row, chunk, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    known_ids_among_new_ones_count_once,
    all_columns_are_stored_as_sent,
    an_orphaned_prediction_in_a_large_batch_gives_way,
}

/// Scored rows with these ids.
fn rows(ids: std::ops::Range<u128>) -> Vec<Row> {
    ids.map(|id| scored(id, "-12.50")).collect()
}

async fn write(database: &Database, run: &str, rows: &[Row]) -> Tally {
    database.write(&[chunk(run, 0, 1, rows)], IdConflict::Fail).await.unwrap();
    let tally = database.store.tally(&run_id(run)).await.unwrap();
    assert_eq!(tally.total(), rows.len() as u64);
    tally
}

async fn known_ids_among_new_ones_count_once(database: &Database) {
    let all_new = |count| Tally { predicted: count, ..Tally::default() };
    assert_eq!(write(database, "a", &rows(0..300)).await, all_new(300));
    // The first batch finds out that ids may be stored; the second looks them up: one way after the other.
    for (run, from) in [("b", 290), ("c", 580)] {
        let mut mixed = rows(from..from + 300);
        mixed.push(scored(from + 5, "7"));
        let tally = write(database, run, &mixed).await;
        assert_eq!(tally, Tally { predicted: 290, duplicate: 10, failed: 1, invalid: 0 }, "{run}");
    }
    assert_eq!(write(database, "d", &rows(0..300)).await, Tally { duplicate: 300, ..Tally::default() });
    assert_eq!(write(database, "e", &rows(2_000..2_300)).await, all_new(300));
    let counts = "SELECT CAST(count(*) AS text) FROM transactions t JOIN predictions p ON p.transaction_id = t.id AND p.run_id = t.run_id";
    assert_eq!(database.texts(counts).await, ["1180"]);
}

async fn all_columns_are_stored_as_sent(database: &Database) {
    let amounts = ["0", "-0.0001", "9999999999999999.9999", "-1234567890123456", "10000", "0.5", "123456.7800"];
    let bare = |id: u128| {
        let mut bare = transaction(id, "1");
        (bare.merchant, bare.attributes) = (None, std::collections::BTreeMap::new());
        Row::Scored(bare, "legitimate", 0.0)
    };
    let mut some: Vec<Row> = (0_u128..).zip(amounts).map(|(id, amount)| scored(id, amount)).collect();
    some.push(bare(50));
    let few = chunk("few", 0, 1, &some);
    some.extend(rows(100..400));
    let many = chunk("many", 0, 1, &some);
    // The same rows both ways: only the run differs.
    let content = "SELECT coalesce(external_id, '-') || '|' || description || '|' || amount || '|' || CAST(\"timestamp\" AS text) || '|' ||
        coalesce(merchant, '-') || '|' || operation_type || '|' || side || '|' || coalesce(CAST(attributes AS text), '-') || '|' ||
        row_number || '|' || processing_type || '|' || prediction || '|' || coalesce(CAST(fraud_score AS text), '-') || '|' ||
        coalesce(model_version, '-') || '|' || CAST(predicted_at AS text)
        FROM transactions JOIN predictions ON transaction_id = id WHERE row_number < 9 ORDER BY row_number";
    database.write(&[few], IdConflict::Fail).await.unwrap();
    let expected = database.texts(content).await;
    assert_eq!(expected.len(), 8);
    database.execute("DELETE FROM transactions").await;
    database.execute("DELETE FROM predictions").await;
    database.write(&[many], IdConflict::Fail).await.unwrap();
    assert_eq!(database.texts(content).await, expected);
}

async fn an_orphaned_prediction_in_a_large_batch_gives_way(database: &Database) {
    write(database, "a", &rows(0..200)).await;
    database.execute("DELETE FROM transactions WHERE row_number = 7").await;
    let fraud: Vec<Row> = (0..200).map(|id| Row::Scored(transaction(id, "-12.50"), "fraud", 0.75)).collect();
    let tally = write(database, "b", &fraud).await;
    assert_eq!(tally, Tally { predicted: 1, duplicate: 199, ..Tally::default() });
    let orphan = "DELETE FROM transactions WHERE row_number < 100";
    database.execute(orphan).await;
    let tally = write(database, "c", &fraud).await;
    assert_eq!(tally, Tally { predicted: 99, duplicate: 101, ..Tally::default() });
    let orphans =
        "SELECT CAST(count(*) AS text) FROM predictions WHERE transaction_id NOT IN (SELECT id FROM transactions)";
    assert_eq!(database.texts(orphans).await, ["0"]);
}

//! Rows whose data the database refuses: they fail alone.

use assay_store::IdConflict;
use assay_transaction::{Entry, Tally};

use crate::chunks::{Row, chunk, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    a_refused_row_fails_alone,
    the_next_row_with_its_id_replaces_a_refused_one,
    a_refused_replacement_keeps_the_stored_row,
}

/// A score that no database of Assay accepts.
fn refused(id: u128, amount: &str) -> Row {
    Row::Scored(transaction(id, amount), "fraud", f64::INFINITY)
}

async fn a_refused_row_fails_alone(database: &Database) {
    let store = &*database.store;
    let mut rows: Vec<Row> = (0..500).map(|id| scored(id, "1")).collect();
    for at in [0, 77, 78, 499] {
        rows[at] = refused(at as u128, "1");
    }
    rows.push(Row::Invalid(b"x"));
    let chunks = [chunk("a", 0, 1, &rows[..250]), chunk("a", 1, 251, &rows[250..])];
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.transactions, 496);
    let tally = Tally { predicted: 496, invalid: 1, failed: 4, duplicate: 0 };
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
    let failed = "SELECT row_number || '|' || class FROM failed_transactions ORDER BY row_number";
    assert_eq!(database.texts(failed).await, ["1|database", "78|database", "79|database", "500|database"]);
    let sign = if matches!(database.raw, crate::database::DirectAccess::Sqlite(_)) {
        "(SQLite error 275)"
    } else {
        "(SQLSTATE 23514)"
    };
    for reason in database.texts("SELECT reason FROM failed_transactions").await {
        assert!(reason.contains(sign), "{reason}");
    }
    let entry: Entry = serde_json::from_slice(
        &database.bytes("SELECT payload FROM failed_transactions WHERE row_number = 78").await[0],
    )
    .unwrap();
    assert_eq!(entry.transaction.decode().unwrap(), transaction(77, "1"));
    assert_eq!(database.texts("SELECT chunk || '|' || predicted FROM chunks ORDER BY chunk").await, ["0|247", "1|249"]);
}

async fn the_next_row_with_its_id_replaces_a_refused_one(database: &Database) {
    let rows = [refused(1, "1"), refused(1, "2"), scored(1, "3"), scored(1, "3"), scored(1, "4"), refused(1, "5")];
    database.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    let tally = Tally { predicted: 1, failed: 4, duplicate: 1, invalid: 0 };
    assert_eq!(database.store.tally(&run_id("a")).await.unwrap(), tally);
    let failed = "SELECT row_number || '|' || class FROM failed_transactions ORDER BY row_number";
    assert_eq!(database.texts(failed).await, ["1|database", "2|database", "5|id_conflict", "6|id_conflict"]);
    assert_eq!(database.count("SELECT row_number FROM transactions").await, 3);
}

async fn a_refused_replacement_keeps_the_stored_row(database: &Database) {
    let rows = [scored(1, "1"), refused(1, "2"), scored(1, "3"), refused(2, "1")];
    database.write(&[chunk("a", 0, 1, &rows)], IdConflict::Update).await.unwrap();
    let tally = Tally { predicted: 1, failed: 2, duplicate: 1, invalid: 0 };
    assert_eq!(database.store.tally(&run_id("a")).await.unwrap(), tally);
    assert_eq!(database.count("SELECT CAST(CAST(amount AS numeric) AS bigint) FROM transactions").await, 3);
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 1);
    assert_eq!(database.count("SELECT count(*) FROM predictions").await, 1);
}

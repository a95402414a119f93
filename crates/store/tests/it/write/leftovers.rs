//! Rows that were deleted by hand, and those that were left: loading or delivering again repairs them.

use assay_store::{ChunkOutcome, IdConflict};
use assay_transaction::{RunState, Tally};

use crate::chunks::{Row, begin, chunk, chunk_of_ids, finish, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    an_orphaned_prediction_gives_way,
    a_repeated_chunk_is_recorded_as_before,
    a_repeated_chunk_with_other_scores_counts_each_row_once,
    a_replaced_transaction_stays_its_own,
}

/// Everything that is recorded, except for times.
const STATE: &str = "SELECT 't' || run_id || row_number || processing_type || description || amount FROM transactions
    UNION ALL SELECT 'p' || CAST(transaction_id AS text) || prediction || run_id FROM predictions
    UNION ALL SELECT 'i' || run_id || row_number || reason || message FROM invalid_transactions
    UNION ALL SELECT 'f' || run_id || row_number || class || attempts FROM failed_transactions
    UNION ALL SELECT 'c' || run_id || chunk || ' ' || predicted || coalesce(CAST(duplicate_rows AS text), '-') FROM chunks
    ORDER BY 1";

async fn an_orphaned_prediction_gives_way(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    database.execute("DELETE FROM transactions WHERE row_number = 1").await;
    let rows = [Row::Scored(transaction(1, "-12.50"), "fraud", 0.75), scored(2, "-12.50"), scored(3, "1")];
    let written = database.write(&[chunk("b", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    assert_eq!((written.outcomes, written.transactions), (vec![ChunkOutcome::Recorded], 2));
    let tally = Tally { predicted: 2, duplicate: 1, ..Tally::default() };
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), tally);
    assert_eq!(store.tally(&run_id("a")).await.unwrap().predicted, 1, "an audit sees what was deleted");
    let predictions = "SELECT run_id || ' ' || prediction FROM predictions ORDER BY transaction_id";
    assert_eq!(database.texts(predictions).await, ["b fraud", "a legitimate", "b legitimate"]);
}

async fn a_repeated_chunk_is_recorded_as_before(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let rows = [
        scored(1, "1"),
        scored(1, "1"),
        Row::Invalid(b"x"),
        Row::Failed(transaction(2, "2")),
        scored(1, "9"),
        Row::Scored(transaction(3, "3"), "x", f64::INFINITY),
        scored(4, "4"),
    ];
    let chunks = [chunk("a", 0, 1, &rows), chunk("a", 1, 8, &[scored(4, "4"), Row::Invalid(b"y"), scored(5, "5")])];
    database.write(&chunks, IdConflict::Fail).await.unwrap();
    let before = database.texts(STATE).await;
    let deletions = [
        "",
        "DELETE FROM transactions WHERE row_number <> 7;",
        "DELETE FROM predictions;",
        "DELETE FROM invalid_transactions WHERE row_number = 3;",
        "DELETE FROM failed_transactions WHERE row_number < 6;",
    ];
    for deletion in deletions {
        database.execute(&format!("{deletion} DELETE FROM chunks;")).await;
        let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
        assert_eq!(written.outcomes, [ChunkOutcome::Recorded, ChunkOutcome::Recorded], "{deletion}");
        assert_eq!(written.transactions, if deletion.contains(" transactions") { 2 } else { 0 });
        assert_eq!(database.texts(STATE).await, before, "{deletion}");
    }
    assert!(store.tally(&run_id("a")).await.unwrap().accounts_for(10));
    assert_eq!(finish(store, "a", 10, 2).await, RunState::Complete);
}

async fn a_repeated_chunk_with_other_scores_counts_each_row_once(database: &Database) {
    let store = &*database.store;
    let failed = || Row::Failed(transaction(2, "2"));
    let first = [scored(1, "1"), failed(), scored(3, "3"), Row::Invalid(b"x"), scored(5, "5")];
    database.write(&[chunk("a", 0, 1, &first)], IdConflict::Fail).await.unwrap();
    database.execute("DELETE FROM chunks").await;
    let second = [
        Row::Failed(transaction(1, "1")),
        scored(2, "2"),
        Row::Scored(transaction(3, "3"), "fraud", 0.5),
        Row::Failed(transaction(4, "4")),
        scored(5, "5"),
    ];
    let written = database.write(&[chunk("a", 0, 1, &second)], IdConflict::Fail).await.unwrap();
    assert_eq!(written.transactions, 1);
    let tally = Tally { predicted: 4, failed: 1, ..Tally::default() };
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
    assert_eq!(database.texts("SELECT prediction FROM predictions WHERE prediction = 'fraud'").await, [""; 0]);
    assert_eq!(database.count("SELECT predicted FROM chunks").await, 4);
}

async fn a_replaced_transaction_stays_its_own(database: &Database) {
    let first = chunk("a", 0, 1, &[scored(1, "1"), scored(2, "2")]);
    database.write(std::slice::from_ref(&first), IdConflict::Update).await.unwrap();
    let second = chunk("b", 0, 1, &[Row::Scored(transaction(1, "9"), "fraud", 0.75)]);
    database.write(std::slice::from_ref(&second), IdConflict::Update).await.unwrap();
    let before = database.texts(STATE).await;
    for on_conflict in [IdConflict::Update, IdConflict::Fail] {
        database.execute("DELETE FROM chunks WHERE run_id = 'a'").await;
        let written = database.write(std::slice::from_ref(&first), on_conflict).await.unwrap();
        assert_eq!(written.transactions, 0);
        assert_eq!(database.texts(STATE).await, before);
    }
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 1);
}

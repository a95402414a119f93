//! Replayed rows trade their failure for a new outcome.

use assay_store::{ErrorClass, FailedRowSelection, IdConflict, ReplayCounts, RowOutcome, Store};
use assay_transaction::{RunState, ScoredReplay, Tally};
use futures_util::future::join_all;
use serde_json::json;

use crate::chunks::{Row, audit_context, begin, chunk, finish, part, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    replays_of_a_run_are_counted,
    each_row_gets_its_new_outcome,
    a_repeated_part_changes_nothing,
    update_lets_a_replayed_row_replace,
    a_row_that_the_database_refuses_fails_alone,
    a_row_that_is_no_longer_failed_is_gone,
    a_repeated_row_counts_as_it_came_first,
    a_row_without_a_covering_chunk_stays_failed,
    numbers_beyond_the_database_are_refused,
    the_first_replay_of_a_row_wins,
    earlier_failures_of_a_row_are_kept,
}

const CHUNKS: &str = "SELECT chunk || '|' || predicted || '|' || coalesce(replace(CAST(duplicate_rows AS text), ' ', ''), '-') \
    FROM chunks WHERE run_id = 'a' ORDER BY chunk";
const FAILED: &str = "SELECT row_number || '|' || class || '|' || attempts FROM failed_transactions WHERE run_id = 'a' \
    ORDER BY row_number";

fn failed(id: u128) -> Row {
    Row::Failed(transaction(id, "1"))
}

/// A run of two chunks: rows 1 and 2 are stored and a duplicate, 3 to 5 and 7 failed, 6 is invalid, 8 is a conflict.
async fn prepare(store: &dyn Store) {
    begin(store, "a").await;
    let chunks = [
        chunk("a", 0, 1, &[scored(1, "1"), scored(1, "1"), failed(3), failed(4)]),
        chunk("a", 1, 5, &[failed(5), Row::Invalid(b"x"), failed(1), scored(1, "9")]),
    ];
    store.write(&chunks, IdConflict::Fail).await.unwrap();
}

async fn lawful(store: &dyn Store, tally: Tally) {
    let audit = store.audit(&run_id("a")).await.unwrap().unwrap();
    assert_eq!((audit.tally, audit.breaches()), (tally, vec![]));
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
}

fn done(stored: u64, failed: u64, gone: u64) -> ReplayCounts {
    ReplayCounts { is_new: true, stored, failed, gone }
}

async fn replays_of_a_run_are_counted(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    begin(store, "b").await;
    let details = json!({"classes": ["rejected"], "rows": [[1, 9]]});
    for (run, expected) in [("a", 1), ("a", 2), ("b", 1), ("a", 3)] {
        assert_eq!(store.begin_replay(&run_id(run), &details, &audit_context()).await.unwrap(), expected);
    }
    let operations = store.operations(Some(&run_id("a")), 2).await.unwrap();
    assert_eq!(operations.len(), 2);
    assert_eq!((operations[0].action.as_str(), &operations[0].details), ("replay", &Some(details.clone())));
    let error = store.begin_replay(&run_id("unknown"), &details, &audit_context()).await.unwrap_err();
    assert!(error.to_string().starts_with("run unknown is not in the ledger"), "{error}");
    let begun = join_all((0..8).map(|_| async {
        let run = run_id("b");
        store.begin_replay(&run, &details, &audit_context()).await.unwrap()
    }))
    .await;
    let mut begun: Vec<u64> = begun;
    begun.sort_unstable();
    assert_eq!(begun, (2..10).collect::<Vec<_>>());
}

async fn each_row_gets_its_new_outcome(database: &Database) {
    for is_finished in [false, true] {
        let store = &*database.store;
        for table in ["runs", "chunks", "transactions", "predictions", "failed_transactions", "invalid_transactions"] {
            database.execute(&format!("DELETE FROM {table}")).await;
        }
        database.execute("DELETE FROM replay_parts").await;
        prepare(store).await;
        if is_finished {
            assert_eq!(finish(store, "a", 8, 2).await, RunState::Complete);
        }
        lawful(store, Tally { predicted: 1, invalid: 1, failed: 5, duplicate: 1 }).await;
        let rows = [
            (3, Row::Scored(transaction(3, "1"), "fraud", 0.75)),
            (4, failed(4)),
            // The same content as row 1 has, and another one.
            (7, scored(1, "1")),
            (8, scored(1, "9")),
        ];
        assert_eq!(store.write_replay(&part("a", 1, 0, &rows), IdConflict::Fail).await.unwrap(), done(2, 2, 0));
        lawful(store, Tally { predicted: 2, invalid: 1, failed: 3, duplicate: 2 }).await;
        let id = uuid::Uuid::from_u128(1);
        assert_eq!(
            database.texts(CHUNKS).await,
            [format!("0|2|[[2,\"{id}\"]]"), format!("1|0|[[7,\"{id}\"]]")],
            "the chunks around them are credited"
        );
        // Earlier attempts count.
        assert_eq!(database.texts(FAILED).await, ["4|rejected|6", "5|rejected|3", "8|id_conflict|2"]);
        let RowOutcome::Predicted(stored) = store.row(&run_id("a"), 3).await.unwrap() else { panic!("it is stored") };
        let prediction = stored.prediction.unwrap();
        assert_eq!((prediction.prediction.as_str(), prediction.fraud_score), ("fraud", Some(0.75)));
        assert_eq!((prediction.run_id, prediction.predicted_at), (run_id("a"), part("a", 1, 0, &[]).predicted_at));
        assert_eq!(stored.external_id.as_deref(), Some("id 3"));

        // A duplicate joins those of its chunk.
        store.write_replay(&part("a", 1, 1, &[(4, scored(3, "1"))]), IdConflict::Fail).await.unwrap();
        assert_eq!(database.texts(FAILED).await.len(), 3, "it failed with another transaction");
        let again = [(4, Row::Scored(transaction(4, "1"), "fraud", 1.0)), (5, scored(5, "1"))];
        assert_eq!(store.write_replay(&part("a", 2, 0, &again), IdConflict::Fail).await.unwrap(), done(2, 0, 0));
        lawful(store, Tally { predicted: 4, invalid: 1, failed: 1, duplicate: 2 }).await;
        assert_eq!(
            store.replayed(&run_id("a"), 1).await.unwrap(),
            (2, ReplayCounts { is_new: false, ..done(2, 2, 1) })
        );
        assert_eq!(
            store.replayed(&run_id("a"), 2).await.unwrap(),
            (1, ReplayCounts { is_new: false, ..done(2, 0, 0) })
        );
        assert_eq!(store.replayed(&run_id("a"), 3).await.unwrap(), (0, ReplayCounts::default()));
        if !is_finished {
            assert_eq!(finish(store, "a", 8, 2).await, RunState::Complete);
        }
        lawful(store, Tally { predicted: 4, invalid: 1, failed: 1, duplicate: 2 }).await;
    }
}

async fn a_repeated_part_changes_nothing(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let first = part("a", 1, 0, &[(3, failed(3))]);
    assert_eq!(store.write_replay(&first, IdConflict::Fail).await.unwrap(), done(0, 1, 0));
    // The identity counts, whatever the content.
    for again in [first, part("a", 1, 0, &[(3, scored(3, "1")), (4, scored(4, "1"))])] {
        assert_eq!(store.write_replay(&again, IdConflict::Fail).await.unwrap(), ReplayCounts::default());
    }
    assert_eq!(database.texts(FAILED).await[..2], ["3|rejected|6", "4|rejected|3"]);
    let other_run = part("b", 1, 0, &[(3, scored(3, "1"))]);
    assert_eq!(store.write_replay(&other_run, IdConflict::Fail).await.unwrap(), done(0, 0, 1));
    let other_replay = part("a", 2, 0, &[(3, scored(3, "1"))]);
    assert_eq!(store.write_replay(&other_replay, IdConflict::Fail).await.unwrap(), done(1, 0, 0));
    assert_eq!(store.write_replay(&part("a", 2, 1, &[]), IdConflict::Fail).await.unwrap(), done(0, 0, 0));
}

async fn update_lets_a_replayed_row_replace(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let rows = [(8, Row::Scored(transaction(1, "9"), "fraud", 0.75)), (3, scored(3, "1"))];
    assert_eq!(store.write_replay(&part("a", 1, 0, &rows), IdConflict::Update).await.unwrap(), done(2, 0, 0));
    lawful(store, Tally { predicted: 2, invalid: 1, failed: 3, duplicate: 2 }).await;
    let stored = store.transaction(uuid::Uuid::from_u128(1)).await.unwrap().unwrap();
    assert_eq!((stored.row, stored.replaced, stored.transaction), (1, 1, transaction(1, "9")));
    assert_eq!(stored.prediction.unwrap().prediction, "fraud");
    let replaced = "SELECT replaced_by_run || replaced_by_row FROM transaction_history";
    assert_eq!(database.texts(replaced).await, ["a8"]);
}

async fn a_row_that_the_database_refuses_fails_alone(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let refused = Row::Scored(transaction(4, "1"), "fraud", f64::INFINITY);
    let rows = [(3, scored(3, "1")), (4, refused), (5, failed(5)), (7, scored(1, "1"))];
    assert_eq!(store.write_replay(&part("a", 1, 0, &rows), IdConflict::Fail).await.unwrap(), done(2, 2, 0));
    assert_eq!(database.texts(FAILED).await, ["4|database|4", "5|rejected|6", "8|id_conflict|1"]);
    lawful(store, Tally { predicted: 2, invalid: 1, failed: 3, duplicate: 2 }).await;
}

async fn a_row_that_is_no_longer_failed_is_gone(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let before = store.tally(&run_id("a")).await.unwrap();
    // Stored, a duplicate, invalid, of another transaction, and never read.
    let rows = [
        (1, scored(1, "1")),
        (2, scored(1, "1")),
        (6, scored(6, "1")),
        (3, scored(33, "1")),
        (4, failed(44)),
        (99, scored(99, "1")),
        (u64::MAX, scored(100, "1")),
    ];
    assert_eq!(store.write_replay(&part("a", 1, 0, &rows), IdConflict::Update).await.unwrap(), done(0, 0, 7));
    lawful(store, before).await;
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 1);
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 0);
}

async fn a_repeated_row_counts_as_it_came_first(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let rows = [
        (3, Row::Scored(transaction(3, "1"), "fraud", 0.75)),
        (3, scored(3, "1")),
        (3, failed(3)),
        (4, failed(4)),
        (4, failed(4)),
    ];
    assert_eq!(store.write_replay(&part("a", 1, 0, &rows), IdConflict::Fail).await.unwrap(), done(1, 1, 3));
    lawful(store, Tally { predicted: 2, invalid: 1, failed: 4, duplicate: 1 }).await;
    let stored = store.transaction(uuid::Uuid::from_u128(3)).await.unwrap().unwrap();
    assert_eq!(stored.prediction.unwrap().prediction, "fraud");
}

async fn a_row_without_a_covering_chunk_stays_failed(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    database.execute("DELETE FROM chunks WHERE chunk = 1").await;
    let both = part("a", 1, 0, &[(3, scored(3, "1")), (5, scored(5, "1"))]);
    let error = store.write_replay(&both, IdConflict::Fail).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Data);
    assert!(error.to_string().starts_with("row 5 of run a failed, but no recorded chunk covers it"), "{error}");
    assert_eq!(
        store.count_failed(&run_id("a"), &FailedRowSelection::default()).await.unwrap()[0],
        ("rejected".to_owned(), 4)
    );
    assert_eq!(store.replayed(&run_id("a"), 1).await.unwrap().0, 0, "the part may come again");
}

async fn numbers_beyond_the_database_are_refused(database: &Database) {
    for (replay, number) in [(u64::MAX, 0), (1, u64::MAX)] {
        let error = database.store.write_replay(&part("a", replay, number, &[]), IdConflict::Fail).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Data, "{error}");
    }
}

async fn the_first_replay_of_a_row_wins(database: &Database) {
    const ROWS: u64 = 40;
    const CHUNK: u64 = 10;
    let store = &*database.store;
    let other = database.another().await;
    begin(store, "a").await;
    let rows: Vec<Row> = (0..ROWS).map(|row| failed(u128::from(row) % 30)).collect();
    let cut = |number: u64| {
        let first = number * CHUNK;
        let rows = &rows[usize::try_from(first).unwrap()..usize::try_from(first + CHUNK).unwrap()];
        chunk("a", number, first + 1, rows)
    };
    // One chunk arrives while rows of the others are replayed.
    let chunks: Vec<_> = (0..ROWS / CHUNK).map(cut).collect();
    database.write(&chunks[..3], IdConflict::Fail).await.unwrap();
    // Ten parts, each with half of the rows, each sent twice; some rows fail again.
    let parts: Vec<ScoredReplay> = (0..10)
        .map(|number| {
            let some = (0..ROWS).filter(|row| (row + number) % 2 == 0);
            let outcome = |row: u64| match (row + number) % 5 {
                0 => failed(u128::from(row) % 30),
                _ => scored(u128::from(row) % 30, "1"),
            };
            part("a", 1, number, &some.map(|row| (row + 1, outcome(row))).collect::<Vec<_>>())
        })
        .collect();
    let exchange = |number: usize| {
        let (store, part) = if number.is_multiple_of(2) { (store, number / 2) } else { (&*other, number / 2) };
        let part = &parts[part];
        async move {
            loop {
                match store.write_replay(part, IdConflict::Fail).await {
                    Ok(exchanged) => return exchanged,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        }
    };
    let (exchanged, written) =
        tokio::join!(join_all((0..20).map(exchange)), database.write(&chunks[3..], IdConflict::Fail));
    written.unwrap();
    assert_eq!(exchanged.iter().filter(|exchanged| exchanged.is_new).count(), 10);
    let stored: u64 = exchanged.iter().map(|exchanged| exchanged.stored).sum();
    let tally = store.tally(&run_id("a")).await.unwrap();
    assert_eq!(tally.predicted + tally.duplicate, stored);
    assert_eq!(tally.predicted, database.count("SELECT count(*) FROM transactions").await.unsigned_abs());
    assert_eq!(
        tally.predicted,
        database.count("SELECT CAST(sum(predicted) AS bigint) FROM chunks").await.unsigned_abs()
    );
    lawful(store, tally).await;
    assert_eq!(finish(store, "a", ROWS, ROWS / CHUNK).await, RunState::Complete);
    lawful(store, tally).await;
    assert!(stored >= ROWS * 3 / 4, "{exchanged:?}");
}

async fn earlier_failures_of_a_row_are_kept(database: &Database) {
    let store = &*database.store;
    prepare(store).await;
    let kept = async |row: u64| {
        let earlier = store.earlier_failures(&run_id("a"), row).await.unwrap();
        earlier.into_iter().map(|it| (it.replay, it.class, it.reason, it.attempts)).collect::<Vec<_>>()
    };
    store.write_replay(&part("a", 1, 0, &[(3, failed(3)), (4, scored(44, "1"))]), IdConflict::Fail).await.unwrap();
    store.write_replay(&part("a", 2, 0, &[(3, scored(3, "1"))]), IdConflict::Fail).await.unwrap();
    store.write_replay(&part("a", 2, 1, &[(8, scored(1, "1"))]), IdConflict::Fail).await.unwrap();
    let rejected = |replay, attempts| (replay, "rejected".to_owned(), "422 Unprocessable Entity".to_owned(), attempts);
    assert_eq!(kept(3).await, [rejected(1, 3), rejected(2, 6)]);
    assert_eq!(kept(4).await, [], "it had not failed with that transaction");
    // No value of the difference is kept.
    let reason = "another transaction with this id is stored (run a, row 1)".to_owned();
    assert_eq!(kept(8).await, [(2, "id_conflict".to_owned(), reason, 1)]);
    // A repeated part adds nothing.
    store.write_replay(&part("a", 2, 0, &[(3, scored(3, "1"))]), IdConflict::Fail).await.unwrap();
    assert_eq!(kept(3).await.len(), 2);
}

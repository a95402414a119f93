//! One id, several rows: duplicates and conflicts.

use assay_store::IdConflict;
use assay_transaction::{ScoredChunk, Tally, TimeZone, Timestamp, Transaction};
use futures_util::future::join_all;

use crate::chunks::{Row, chunk, chunk_of_ids, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    the_same_content_is_a_duplicate,
    other_content_fails_and_quotes_both,
    every_field_is_content,
    content_that_differs_by_the_rules_of_reading_is_a_duplicate,
    update_replaces_other_content,
    update_keeps_each_version,
    the_first_of_a_call_wins,
    concurrent_writers_of_the_same_ids_finish,
}

const DUPLICATES: &str = "SELECT run_id || '/' || chunk || ' ' || replace(CAST(duplicate_rows AS text), ' ', '') FROM chunks \
    WHERE duplicate_rows IS NOT NULL ORDER BY 1";
const FAILED: &str =
    "SELECT run_id || '|' || row_number || '|' || class || '|' || attempts FROM failed_transactions ORDER BY 1";
const REASONS: &str = "SELECT reason FROM failed_transactions ORDER BY run_id, row_number";

async fn the_same_content_is_a_duplicate(database: &Database) {
    let store = &*database.store;
    database
        .write(&[chunk_of_ids("a", 0, 1, &[1, 2, 1]), chunk_of_ids("a", 1, 4, &[2])], IdConflict::Fail)
        .await
        .unwrap();
    for on_conflict in [IdConflict::Fail, IdConflict::Update] {
        let run = if on_conflict == IdConflict::Fail { "b" } else { "c" };
        // 12.5 is 12.50.
        let rows = [scored(1, "-12.5"), scored(2, "-12.50"), scored(3, "-12.5000")];
        let expected = u64::from(on_conflict == IdConflict::Fail);
        let written = database.write(&[chunk(run, 0, 1, &rows)], on_conflict).await.unwrap();
        assert_eq!(written.transactions, expected);
        let known = if expected == 1 { vec![(0, 1), (0, 2)] } else { vec![(0, 1), (0, 2), (0, 3)] };
        assert_eq!(written.unstored.into_iter().collect::<Vec<_>>(), known);
    }
    let id = |id: u128| uuid::Uuid::from_u128(id);
    assert_eq!(
        database.texts(DUPLICATES).await,
        [
            format!("a/0 [[3,\"{}\"]]", id(1)),
            format!("a/1 [[4,\"{}\"]]", id(2)),
            format!("b/0 [[1,\"{}\"],[2,\"{}\"]]", id(1), id(2)),
            format!("c/0 [[1,\"{}\"],[2,\"{}\"],[3,\"{}\"]]", id(1), id(2), id(3)),
        ]
    );
    let tally = |predicted, duplicate| Tally { predicted, duplicate, ..Tally::default() };
    for (run, expected) in [("a", tally(2, 2)), ("b", tally(1, 2)), ("c", tally(0, 3))] {
        assert_eq!(store.tally(&run_id(run)).await.unwrap(), expected, "{run}");
    }
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 0);
}

async fn other_content_fails_and_quotes_both(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk("a", 0, 1, &[scored(1, "-7.07"), scored(1, "-70.7")])], IdConflict::Fail).await.unwrap();
    let mut longer = transaction(1, "-7.07");
    longer.description = "x".repeat(100_000);
    let rows = [scored(1, "-7.08"), Row::Scored(longer, "fraud", 1.0)];
    database.write(&[chunk("b", 0, 8, &rows)], IdConflict::Fail).await.unwrap();
    assert_eq!(database.texts(FAILED).await, ["a|2|id_conflict|1", "b|8|id_conflict|1", "b|9|id_conflict|1"]);
    let reasons = database.texts(REASONS).await;
    assert_eq!(
        reasons[0],
        "another transaction with this id is stored (run a, row 1); amount is `-7.07` there and `-70.7` here"
    );
    let stored = if matches!(database.raw, crate::database::DirectAccess::Sqlite(_)) { "-7.07" } else { "-7.0700" };
    assert!(
        reasons[1].ends_with(&format!("(run a, row 1); amount is `{stored}` there and `-7.08` here")),
        "{reasons:?}"
    );
    assert!(reasons[2].contains("description is `Café 1` there and `xxx") && reasons[2].len() < 1_000, "{reasons:?}");
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), Tally { predicted: 1, failed: 1, ..Tally::default() });
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), Tally { failed: 2, ..Tally::default() });
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 1);
}

type Change = fn(&mut Transaction);

async fn every_field_is_content(database: &Database) {
    let store = &*database.store;
    let original = transaction(1, "1");
    database.write(&[chunk("a", 0, 1, &[Row::Scored(original.clone(), "x", 0.5)])], IdConflict::Fail).await.unwrap();
    let changes: [(&str, Change); 7] = [
        ("amount", |other| other.amount = "2".parse().unwrap()),
        ("timestamp", |other| {
            other.timestamp = Timestamp::parse(b"2024-01-01 00:00:00", TimeZone::UTC).unwrap();
        }),
        ("description", |other| other.description = "other".into()),
        ("merchant", |other| other.merchant = None),
        ("operation_type", |other| other.operation_type = "refund".into()),
        ("side", |other| other.side = "credit".into()),
        ("attributes", |other| drop(other.attributes.insert("country".into(), "DE".into()))),
    ];
    for (number, (field, change)) in (1..).zip(changes) {
        let mut other = original.clone();
        change(&mut other);
        database
            .write(&[chunk("a", number, number + 1, &[Row::Scored(other, "x", 0.5)])], IdConflict::Fail)
            .await
            .unwrap();
        let reason = database.texts(REASONS).await.pop().unwrap();
        assert!(reason.contains(&format!("; {field} is `")), "{field}: {reason}");
    }
    let mut other = chunk("a", 8, 9, &[Row::Scored(original, "x", 0.5)]);
    other.predicted[0].entry.external_id = None;
    database.write(&[other], IdConflict::Fail).await.unwrap();
    assert!(database.texts(REASONS).await.pop().unwrap().contains("external_id is `id 1` there and `` here"));
    assert_eq!(store.failed_counts(&run_id("a")).await.unwrap(), [("id_conflict".to_owned(), 8)]);
}

async fn content_that_differs_by_the_rules_of_reading_is_a_duplicate(database: &Database) {
    let store = &*database.store;
    let mut padded = transaction(1, "1");
    padded.description = format!(" {}\t", padded.description);
    padded.merchant = Some("\\N".into());
    padded.attributes =
        [("account".to_owned(), "=\"0001\"".to_owned()), ("branch".to_owned(), "NULL".to_owned())].into();
    let mut plain = transaction(1, "1.00");
    plain.merchant = None;
    plain.attributes = [("account".to_owned(), "0001".to_owned())].into();
    database.write(&[chunk("a", 0, 1, &[Row::Scored(padded, "x", 0.5)])], IdConflict::Fail).await.unwrap();
    for (run, on_conflict) in [("b", IdConflict::Fail), ("c", IdConflict::Update)] {
        let rows = [Row::Scored(plain.clone(), "x", 0.5)];
        assert_eq!(database.write(&[chunk(run, 0, 1, &rows)], on_conflict).await.unwrap().transactions, 0);
        assert_eq!(store.tally(&run_id(run)).await.unwrap(), Tally { duplicate: 1, ..Tally::default() });
    }
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 0, "what is stored stays");
}

async fn update_replaces_other_content(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk_of_ids("a", 0, 1, &[1, 2, 3])], IdConflict::Update).await.unwrap();
    let rows = [Row::Scored(transaction(2, "-99.99"), "fraud", 0.75), scored(3, "-12.50")];
    let written = database.write(&[chunk("b", 0, 1, &rows)], IdConflict::Update).await.unwrap();
    // One is a duplicate; the other's prediction was kept.
    assert_eq!((written.transactions, written.unstored), (0, [(0, 2)].into()));
    // The row belongs to the run that stored it first, so the law holds for both runs, now and later.
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), Tally { predicted: 3, ..Tally::default() });
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), Tally { duplicate: 2, ..Tally::default() });
    let now = "SELECT t.run_id || '|' || t.row_number || '|' || t.amount || '|' || p.prediction || '|' || p.fraud_score || '|' || p.run_id
        FROM transactions t JOIN predictions p ON p.transaction_id = t.id ORDER BY t.row_number";
    assert!(database.texts(now).await[1].starts_with("a|2|-99.99"));
    assert!(database.texts(now).await[1].ends_with("|fraud|0.75|b"));
    let before = "SELECT replaced_by_run || '|' || replaced_by_row || '|' || CAST(transaction_id AS text) || CAST(\"transaction\" AS text)
        || CAST(prediction AS text) FROM transaction_history";
    let before = database.texts(before).await;
    assert_eq!(before.len(), 1);
    assert!(before[0].starts_with("b|1|00000000-0000-0000-0000-000000000002{"), "{before:?}");
    for part in ["-12.50", "legitimate", "0.25", "Café 2"] {
        assert!(before[0].contains(part), "{part}: {before:?}");
    }
}

async fn update_keeps_each_version(database: &Database) {
    let store = &*database.store;
    let rows = [scored(1, "1"), scored(1, "2"), scored(1, "2.0"), scored(1, "3"), scored(2, "5")];
    let written = database.write(&[chunk("a", 0, 1, &rows)], IdConflict::Update).await.unwrap();
    assert_eq!(written.transactions, 2);
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), Tally { predicted: 2, duplicate: 3, ..Tally::default() });
    let replaced = "SELECT CAST(replaced_by_row AS text) FROM transaction_history ORDER BY id";
    assert_eq!(database.texts(replaced).await, ["2", "4"]);
    assert_eq!(
        database.count("SELECT CAST(CAST(amount AS numeric) AS bigint) FROM transactions WHERE row_number = 1").await,
        3
    );
}

async fn the_first_of_a_call_wins(database: &Database) {
    // Given in another order than (run, chunk, row).
    let chunks =
        [chunk("b", 0, 1, &[scored(1, "4")]), chunk("a", 1, 2, &[scored(1, "3")]), chunk("a", 0, 1, &[scored(1, "1")])];
    let written = database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.unstored, [(0, 1), (1, 2)].into(), "as they were given");
    assert_eq!(database.texts(FAILED).await, ["a|2|id_conflict|1", "b|1|id_conflict|1"]);
    assert_eq!(database.texts("SELECT run_id || row_number FROM transactions").await, ["a1"]);
}

async fn concurrent_writers_of_the_same_ids_finish(database: &Database) {
    const WRITERS: u64 = 4;
    let other = database.another().await;
    let chunks_of = |writer: u64| -> Vec<ScoredChunk> {
        // The same ids in every run; half of the writers disagree about their content.
        let amount = if writer.is_multiple_of(2) { "1" } else { "2" };
        let ids = |number: u64| (0..40).map(move |at| u128::from((at * 7 + number * 3 + writer) % 50));
        let rows = |number| ids(number).map(|id| scored(id, amount)).collect::<Vec<_>>();
        (0..6).map(|number| chunk(&format!("run-{writer}"), number, number * 40 + 1, &rows(number))).collect()
    };
    let write = |writer: u64| {
        let store = if writer.is_multiple_of(2) { &database.store } else { &other };
        let on_conflict = if writer < 2 { IdConflict::Fail } else { IdConflict::Update };
        async move {
            for batch in chunks_of(writer).chunks(2) {
                while let Err(error) = store.write(batch, on_conflict).await {
                    assert!(error.is_transient(), "{error}");
                }
            }
        }
    };
    let runs: Vec<String> = (0..WRITERS).map(|writer| format!("run-{writer}")).collect();
    database.begin(runs.iter().map(String::as_str)).await;
    join_all((0..WRITERS).map(write)).await;
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 50);
    let mut predicted = 0;
    for writer in 0..WRITERS {
        let tally = database.store.tally(&run_id(&format!("run-{writer}"))).await.unwrap();
        assert!(tally.accounts_for(240), "{tally:?}");
        predicted += tally.predicted;
    }
    assert_eq!(predicted, 50);
}

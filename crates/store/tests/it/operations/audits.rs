//! An audit trusts only data rows and chunks, and notices everything that is missing or superfluous.

use assay_store::{Audit, AuditBreach, ChunkOutcome, IdConflict, Store, StrayRun, Strays};
use assay_transaction::{RunState, SealedTotals, Tally};

use crate::chunks::{Row, begin, chunk, chunk_of_ids, finish, lease, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    a_whole_run_is_lawful,
    each_deleted_row_is_noticed,
    each_doubled_outcome_is_noticed,
    recorded_rows_of_an_open_run_must_be_right,
    chunks_beyond_the_end_are_noticed,
    an_unknown_run_has_no_audit,
    many_chunks_are_read_in_pages,
    a_duplicate_of_nothing_is_noticed,
    rows_of_no_run_are_found,
}

async fn audit(store: &dyn Store, run: &str) -> Audit {
    store.audit(&run_id(run)).await.unwrap().unwrap()
}

/// A finished run of two chunks and nine rows, with every outcome.
async fn prepare(store: &dyn Store, run: &str, number: u128) {
    let id = 100 * number;
    begin(store, run).await;
    let first = [scored(id, "1"), scored(id, "1"), Row::Invalid(b"x"), Row::Failed(transaction(id + 1, "1"))];
    let second = [scored(id + 2, "1"), scored(id + 3, "1"), Row::Invalid(b"y"), scored(id + 3, "2"), scored(id, "1")];
    store.write(&[chunk(run, 0, 1, &first), chunk(run, 1, 5, &second)], IdConflict::Fail).await.unwrap();
    assert_eq!(finish(store, run, 9, 2).await, RunState::Complete);
}

async fn a_whole_run_is_lawful(database: &Database) {
    let store = &*database.store;
    prepare(store, "other", 7).await;
    prepare(store, "a", 1).await;
    let audit = audit(store, "a").await;
    let tally = Tally { predicted: 3, invalid: 2, failed: 2, duplicate: 2 };
    let expected = Audit {
        run: store.run(&run_id("a")).await.unwrap().unwrap(),
        tally,
        distinct_rows: 9,
        uncovered_rows: 0,
        unpredicted: 0,
        unfounded_duplicates: 0,
        credited: 3,
        chunks_recorded: 2,
        rows_covered: 9,
        chunks_beyond: 0,
        missing: vec![],
        chunks_missing: 0,
    };
    assert_eq!(audit, expected);
    assert_eq!(store.tally(&run_id("a")).await.unwrap(), tally);
    assert!(audit.breaches().is_empty());
}

async fn each_deleted_row_is_noticed(database: &Database) {
    let store = &*database.store;
    let one_less = AuditBreach::Sum { expected: 9, found: 8 };
    let unpredicted = AuditBreach::Unpredicted { transactions: 1 };
    let cases: [(&str, Vec<AuditBreach>); 7] = [
        ("DELETE FROM transactions WHERE run_id = '{run}' AND row_number = 5", vec![one_less.clone()]),
        (
            "DELETE FROM predictions WHERE run_id = '{run}' AND transaction_id IN
                (SELECT id FROM transactions WHERE row_number = 6)",
            vec![one_less.clone(), unpredicted],
        ),
        ("DELETE FROM invalid_transactions WHERE run_id = '{run}' AND row_number = 7", vec![one_less.clone()]),
        ("DELETE FROM failed_transactions WHERE run_id = '{run}' AND row_number = 4", vec![one_less.clone()]),
        ("UPDATE chunks SET duplicate_rows = NULL WHERE run_id = '{run}' AND chunk = 1", vec![one_less]),
        (
            "DELETE FROM chunks WHERE run_id = '{run}' AND chunk = 0",
            // The chunk's duplicate goes with it; its other rows remain, unaccounted for.
            vec![
                AuditBreach::Sum { expected: 9, found: 8 },
                AuditBreach::Uncovered { outcomes: 3 },
                AuditBreach::Missing { chunks: 1 },
            ],
        ),
        (
            "DELETE FROM chunks WHERE run_id = '{run}' AND chunk = 1",
            vec![
                AuditBreach::Sum { expected: 9, found: 8 },
                AuditBreach::Uncovered { outcomes: 4 },
                AuditBreach::Missing { chunks: 1 },
            ],
        ),
    ];
    for (number, (deletion, expected)) in (1..).zip(cases) {
        let run = format!("run-{number}");
        prepare(store, &run, number).await;
        let deletion = deletion.replace("{run}", &run);
        database.execute(&deletion).await;
        let audit = audit(store, &run).await;
        assert_eq!(audit.breaches(), expected, "{deletion}");
        if expected.contains(&AuditBreach::Missing { chunks: 1 }) {
            let missing = if deletion.ends_with('0') { (0, 0) } else { (1, 1) };
            assert_eq!((audit.missing, audit.chunks_missing), (vec![missing], 1));
        }
    }
}

async fn each_doubled_outcome_is_noticed(database: &Database) {
    let store = &*database.store;
    let insertions = [
        "INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload) 
            SELECT run_id, 1, transaction_id, class, reason, attempts, payload
            FROM failed_transactions WHERE run_id = '{run}' AND row_number = 4",
        "INSERT INTO invalid_transactions SELECT run_id, 4, line, reason, message, raw
            FROM invalid_transactions WHERE run_id = '{run}' AND row_number = 3",
        "UPDATE chunks SET duplicate_rows = '[[2, \"00000000-0000-0000-0000-000000000001\"],
            [2, \"00000000-0000-0000-0000-000000000001\"]]' WHERE run_id = '{run}' AND chunk = 0",
        "UPDATE chunks SET duplicate_rows = '[[5, \"00000000-0000-0000-0000-000000000001\"],
            [9, \"00000000-0000-0000-0000-000000000001\"]]' WHERE run_id = '{run}' AND chunk = 1",
    ];
    for (number, insertion) in (1..).zip(insertions) {
        let run = format!("run-{number}");
        prepare(store, &run, number).await;
        database.execute(&insertion.replace("{run}", &run)).await;
        let mut expected = vec![AuditBreach::Sum { expected: 9, found: 10 }, AuditBreach::Doubled { outcomes: 1 }];
        if insertion.contains("duplicate_rows") {
            expected.push(AuditBreach::Unfounded { duplicates: 2 });
        }
        assert_eq!(audit(store, &run).await.breaches(), expected, "{insertion}");
    }
    // A surplus row that hides a missing one.
    prepare(store, "a", 9).await;
    database.execute("UPDATE invalid_transactions SET row_number = 4 WHERE run_id = 'a' AND row_number = 3").await;
    assert_eq!(audit(store, "a").await.breaches(), [AuditBreach::Doubled { outcomes: 1 }]);
    // A transaction without a prediction is no outcome.
    prepare(store, "b", 10).await;
    database.execute("DELETE FROM predictions WHERE run_id = 'b'").await;
    database
        .execute(
            "INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload) 
            SELECT run_id, 1, transaction_id, class, reason, attempts, payload
            FROM failed_transactions WHERE run_id = 'b' AND row_number = 4",
        )
        .await;
    let found = audit(store, "b").await;
    assert_eq!(
        found.breaches(),
        [AuditBreach::Sum { expected: 9, found: 7 }, AuditBreach::Unpredicted { transactions: 3 }],
        "{found:?}"
    );
}

async fn recorded_rows_of_an_open_run_must_be_right(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    assert!(audit(store, "a").await.breaches().is_empty());
    for number in [1, 4, 5] {
        let id = u128::from(number);
        database
            .write(&[chunk_of_ids("a", number, 2 * number + 1, &[2 * id, 2 * id + 1])], IdConflict::Fail)
            .await
            .unwrap();
    }
    let found = audit(store, "a").await;
    assert_eq!((found.breaches(), found.missing, found.chunks_missing), (vec![], vec![(0, 0), (2, 3)], 3));
    store.seal(&lease("a"), SealedTotals { rows_read: 16, chunks_total: 8, amount: None }, None).await.unwrap();
    let found = audit(store, "a").await;
    assert_eq!((found.breaches(), found.missing), (vec![], vec![(0, 0), (2, 3), (6, 7)]));
    assert_eq!((found.chunks_recorded, found.rows_covered, found.chunks_missing), (3, 6, 5));
    database.execute("DELETE FROM transactions WHERE row_number = 9").await;
    assert_eq!(audit(store, "a").await.breaches(), [AuditBreach::Sum { expected: 6, found: 5 }]);
}

async fn chunks_beyond_the_end_are_noticed(database: &Database) {
    let store = &*database.store;
    prepare(store, "a", 1).await;
    database
        .execute("INSERT INTO chunks (run_id, chunk, first_row, rows, predicted) VALUES ('a', 2, 10, 0, 0), ('a', 7, 99, 1, 0)")
        .await;
    assert_eq!(audit(store, "a").await.breaches(), [AuditBreach::Beyond { chunks: 2 }]);
}

async fn an_unknown_run_has_no_audit(database: &Database) {
    let written = database.store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    assert!(matches!(written.outcomes[0], ChunkOutcome::Refused { .. }), "{written:?}");
    assert_eq!(database.store.audit(&run_id("a")).await.unwrap(), None);
}

async fn many_chunks_are_read_in_pages(database: &Database) {
    begin(&*database.store, "a").await;
    database
        .execute(
            "INSERT INTO chunks (run_id, chunk, first_row, rows, predicted)
            WITH RECURSIVE numbers(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM numbers WHERE number < 25000)
            SELECT 'a', number, number + 1, 1, 0 FROM numbers WHERE number % 10000 <> 9999",
        )
        .await;
    let found = audit(&*database.store, "a").await;
    assert_eq!((found.chunks_recorded, found.rows_covered, found.chunks_missing), (24_999, 24_999, 2));
    assert_eq!(found.missing, [(9_999, 9_999), (19_999, 19_999)]);
    assert_eq!(found.breaches(), [AuditBreach::Sum { expected: 24_999, found: 0 }]);
}

/// Hiding a deleted transaction as a duplicate takes another stored one, and a change of the chunk's counts.
async fn a_duplicate_of_nothing_is_noticed(database: &Database) {
    let store = &*database.store;
    let hide = |named: u32| {
        format!(
            "DELETE FROM transactions WHERE run_id = 'run-{named}' AND row_number = 5;
            UPDATE chunks SET duplicate_rows = '[[5, \"00000000-0000-0000-0000-{named:012}\"],
                [9, \"00000000-0000-0000-0000-{named:012}\"]]' WHERE run_id = 'run-{named}' AND chunk = 1"
        )
    };
    prepare(store, "run-1", 1).await;
    database.execute(&hide(1)).await;
    let credited = AuditBreach::Credited { expected: 3, found: 2 };
    assert_eq!(audit(store, "run-1").await.breaches(), [AuditBreach::Unfounded { duplicates: 2 }, credited.clone()]);

    // The number of this run is the id of a transaction: 200 in hexadecimal.
    prepare(store, "run-2", 2).await;
    database.execute(&hide(2).replace("000000000002", "0000000000c8")).await;
    assert_eq!(audit(store, "run-2").await.breaches(), [credited]);
    database.execute("UPDATE chunks SET predicted = 1 WHERE run_id = 'run-1' AND chunk = 1").await;
    assert_eq!(audit(store, "run-1").await.breaches(), [AuditBreach::Unfounded { duplicates: 2 }]);
}

async fn rows_of_no_run_are_found(database: &Database) {
    let store = &*database.store;
    assert_eq!(store.strays().await.unwrap(), Strays::default());
    for (run, number) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        prepare(store, run, number).await;
    }
    assert_eq!(store.strays().await.unwrap(), Strays::default());
    database.execute("DELETE FROM runs WHERE run_id IN ('a', 'c'); DELETE FROM chunks WHERE run_id = 'c'").await;
    database.execute("DELETE FROM transactions WHERE run_id = 'c'").await;
    let a = StrayRun { run_id: "a".into(), chunks: 2, transactions: 3, invalid: 2, failed: 2 };
    let c = StrayRun { run_id: "c".into(), chunks: 0, transactions: 0, ..a.clone() };
    assert_eq!(store.strays().await.unwrap(), Strays { runs: 2, named: vec![a, c], predictions: 3 });

    let many = "INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload) 
            SELECT 'stray-' || number, 1, transaction_id, class, reason, attempts, payload
        FROM (SELECT * FROM failed_transactions WHERE run_id = 'b' LIMIT 1) failed, (
            WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 300)
            SELECT number FROM numbers
        ) numbers";
    database.execute(many).await;
    let strays = store.strays().await.unwrap();
    assert_eq!((strays.runs, strays.named.len()), (302, 100));
}

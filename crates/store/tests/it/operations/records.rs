//! The outcome of a row, and lists of rows.

use std::time::Duration;

use assay_store::{AuditContext, FailedRecord, FailedRowSelection, IdConflict, NewRun, RowOutcome, TallySource};
use assay_transaction::{Entry, Lane, Namespace};
use uuid::Uuid;

use crate::chunks::{Row, audit_context, begin, chunk, chunk_of_ids, new_run, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    every_row_has_an_outcome,
    a_transaction_is_found_by_its_id,
    failed_rows_are_selected,
    invalid_rows_come_in_order,
    runs_come_latest_first,
    namespaces_are_listed_once,
    the_pace_covers_the_window,
    the_failed_share_counts_failed_and_recorded_rows,
    operations_come_latest_first,
}

async fn every_row_has_an_outcome(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    let rows = [
        Row::Scored(transaction(3, "-952.4"), "fraud", 0.97),
        Row::Invalid(b"caf\xe9\0"),
        Row::Failed(transaction(2, "1")),
        scored(3, "-952.4"),
    ];
    let mut first = chunk("a", 0, 1, &rows);
    first.lane = Lane::Realtime;
    database.write(&[first.clone(), chunk_of_ids("a", 1, 5, &[5, 6])], IdConflict::Fail).await.unwrap();
    // An empty chunk covers no row.
    database.write(&[chunk("a", 2, 7, &[]), chunk("a", 3, 7, &[scored(3, "-952.4")])], IdConflict::Fail).await.unwrap();

    let RowOutcome::Predicted(stored) = store.row(&a, 1).await.unwrap() else { panic!("it is stored") };
    assert_eq!((&stored.transaction, stored.external_id.as_deref()), (&transaction(3, "-952.40"), Some("id 3")));
    assert_eq!((&stored.run_id, stored.row, stored.processing_type.as_str(), stored.replaced), (&a, 1, "streaming", 0));
    let prediction = stored.prediction.clone().unwrap();
    assert_eq!((prediction.prediction.as_str(), prediction.fraud_score), ("fraud", Some(0.97)));
    assert_eq!((prediction.model_version.as_deref(), &prediction.run_id), (Some("demo-1"), &a));
    assert_eq!(prediction.predicted_at, first.predicted_at);
    assert!(stored.created_at > prediction.predicted_at, "by the database's clock");

    let RowOutcome::Invalid(invalid) = store.row(&a, 2).await.unwrap() else { panic!("it is rejected") };
    assert_eq!((invalid.row, invalid.line, invalid.reason.as_str()), (2, 3, "amount_scale"));
    assert_eq!((invalid.message.as_str(), &invalid.raw[..]), ("`amount` has more than 4 decimals", &b"caf\xe9\0"[..]));

    let RowOutcome::Failed(failed) = store.row(&a, 3).await.unwrap() else { panic!("it failed") };
    assert_eq!((failed.row, failed.transaction_id, failed.attempts), (3, Uuid::from_u128(2), 3));
    assert_eq!((failed.class.as_str(), failed.reason.as_str()), ("rejected", "422 Unprocessable Entity"));
    assert_eq!(serde_json::from_slice::<Entry>(&failed.payload).unwrap(), first.failed[0].entry);

    let duplicate = RowOutcome::Duplicate { of: Some(stored.clone()), transaction_id: Uuid::from_u128(3) };
    for row in [4, 7] {
        assert_eq!(store.row(&a, row).await.unwrap(), duplicate, "{row}");
    }
    let RowOutcome::Predicted(stored) = store.row(&a, 6).await.unwrap() else { panic!("it is stored") };
    assert_eq!((stored.transaction, stored.processing_type.as_str()), (transaction(6, "-12.50"), "batch"));
    for row in [0, 8, u64::MAX] {
        assert_eq!(store.row(&a, row).await.unwrap(), RowOutcome::Unrecorded, "{row}");
    }
    assert_eq!(store.row(&run_id("b"), 1).await.unwrap(), RowOutcome::Unrecorded);

    database.execute("DELETE FROM predictions").await;
    let RowOutcome::Predicted(stored) = store.row(&a, 1).await.unwrap() else { panic!("it is stored") };
    assert_eq!(stored.prediction, None);
    database.execute("DELETE FROM transactions").await;
    let duplicate = RowOutcome::Duplicate { of: None, transaction_id: Uuid::from_u128(3) };
    assert_eq!(store.row(&a, 4).await.unwrap(), duplicate);
    assert_eq!(store.row(&a, 1).await.unwrap(), RowOutcome::Unrecorded);
}

async fn a_transaction_is_found_by_its_id(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    let id = Uuid::from_u128(1);
    assert_eq!(store.transaction(id).await.unwrap().unwrap().transaction, transaction(1, "-12.50"));
    assert_eq!(store.transaction(Uuid::from_u128(3)).await.unwrap(), None);
    for amount in ["1", "2"] {
        let rows = [Row::Scored(transaction(1, amount), "fraud", 0.5)];
        let number = amount.parse().unwrap();
        database.write(&[chunk("b", number, number + 1, &rows)], IdConflict::Update).await.unwrap();
    }
    let replaced = store.transaction(id).await.unwrap().unwrap();
    assert_eq!((replaced.replaced, &replaced.run_id, replaced.row), (2, &run_id("a"), 1));
    assert_eq!((replaced.transaction, replaced.prediction.unwrap().run_id), (transaction(1, "2"), run_id("b")));

    let failed = |amount| Row::Failed(transaction(1, amount));
    database
        .write(&[chunk("d", 0, 1, &[failed("1")]), chunk("c", 0, 7, &[failed("2"), failed("1")])], IdConflict::Fail)
        .await
        .unwrap();
    let found = store.failed_with_id(id).await.unwrap();
    let places: Vec<_> = found.iter().map(|failed| (failed.run_id.as_str(), failed.row)).collect();
    assert_eq!(places, [("c", 7), ("c", 8), ("d", 1)]);
    // By time, not by name. Times have a resolution of a millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    database.write(&[chunk("b", 3, 4, &[failed("5")])], IdConflict::Fail).await.unwrap();
    let found = store.failed_with_id(id).await.unwrap();
    let last = found.last().map(|failed| (failed.run_id.as_str(), failed.row));
    assert_eq!((found.len(), last), (4, Some(("b", 4))));
    assert!(store.failed_with_id(Uuid::from_u128(2)).await.unwrap().is_empty());
}

async fn failed_rows_are_selected(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    // Rows 1 to 20 failed in the model, 21 to 25 conflict with the stored row 26.
    let mut rows: Vec<Row> = (1..=20).map(|id| Row::Failed(transaction(id, "1"))).collect();
    database
        .write(&[chunk("other", 0, 1, &[scored(99, "1"), Row::Failed(transaction(1, "1"))])], IdConflict::Fail)
        .await
        .unwrap();
    rows.extend((0..5).map(|_| scored(99, "2")));
    let mut chunk = chunk("a", 0, 1, &rows);
    chunk.failed[6].class = "tricky \" \\ '\0".into();
    database.write(&[chunk], IdConflict::Fail).await.unwrap();

    let select = |classes: &[&str], rows: &[(u64, u64)]| FailedRowSelection {
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        rows: rows.to_vec(),
    };
    let numbers = |found: Vec<FailedRecord>| found.iter().map(|failed| failed.row).collect::<Vec<_>>();
    let cases: [(FailedRowSelection, Vec<u64>); 8] = [
        (select(&[], &[]), (1..=25).collect()),
        (select(&["id_conflict"], &[]), (21..=25).collect()),
        (select(&["tricky \" \\ '\0"], &[]), vec![7]),
        (select(&["id_conflict", "tricky \" \\ '\0"], &[(7, 21)]), vec![7, 21]),
        (select(&[], &[(3, 4), (20, 21), (24, u64::MAX)]), vec![3, 4, 20, 21, 24, 25]),
        (select(&["rejected"], &[(20, 30)]), vec![20]),
        (select(&["nonsense"], &[]), vec![]),
        (select(&[], &[(9, 3)]), vec![]),
    ];
    for (selection, expected) in cases {
        let found = store.failed_rows(&a, &selection, 1, 100).await.unwrap();
        assert_eq!(numbers(found), expected, "{selection:?}");
        let counted: u64 = store.count_failed(&a, &selection).await.unwrap().iter().map(|(_, count)| count).sum();
        assert_eq!(counted, expected.len() as u64, "{selection:?}");
    }
    let page = |from, limit| {
        let selection = select(&[], &[(3, 4), (20, 21)]);
        let a = &a;
        async move { numbers(store.failed_rows(a, &selection, from, limit).await.unwrap()) }
    };
    assert_eq!((page(0, 3).await, page(21, 3).await, page(22, 3).await), (vec![3, 4, 20], vec![21], vec![]));
    let counts = store.count_failed(&a, &FailedRowSelection::default()).await.unwrap();
    let counts: Vec<_> = counts.iter().map(|(class, count)| (class.as_str(), *count)).collect();
    assert_eq!(counts, [("rejected", 19), ("id_conflict", 5), ("tricky \" \\ '\u{fffd}", 1)]);
}

async fn invalid_rows_come_in_order(database: &Database) {
    let store = &*database.store;
    let rows = [Row::Invalid(b"1"), scored(1, "1"), Row::Invalid(b"\xff\0"), Row::Invalid(b"")];
    database
        .write(&[chunk("a", 1, 4, &rows), chunk("a", 0, 1, &[Row::Invalid(b"0")])], IdConflict::Fail)
        .await
        .unwrap();
    database.write(&[chunk("b", 0, 1, &[Row::Invalid(b"b")])], IdConflict::Fail).await.unwrap();
    let page = async |from, limit| {
        let found = store.invalid_rows(&run_id("a"), None, from, limit).await.unwrap();
        found.into_iter().map(|invalid| (invalid.row, invalid.line, invalid.raw)).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 2).await, [(1, 2, b"0".to_vec()), (4, 5, b"1".to_vec())]);
    assert_eq!(page(5, 9).await, [(6, 7, b"\xff\0".to_vec()), (7, 8, vec![])]);
    assert!(page(8, 9).await.is_empty());
    let reason = store.invalid_counts(&run_id("a")).await.unwrap().remove(0).0;
    for (reason, expected) in [(reason.as_str(), 4), ("king", 0), ("a\0", 0)] {
        assert_eq!(store.invalid_rows(&run_id("a"), Some(reason), 0, 9).await.unwrap().len(), expected, "{reason}");
    }
}

async fn runs_come_latest_first(database: &Database) {
    let store = &*database.store;
    for (name, location) in [("a", "s3://bank/a.csv"), ("b", "s3://bank/b.csv"), ("c", "s3://bank/a.csv")] {
        store.begin_run(&NewRun { force: true, ..new_run(name, location) }).await.unwrap();
        // So that no two begin within the resolution of the database's clock.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let names = async |location, limit| {
        let runs = store.runs(location, limit).await.unwrap();
        runs.into_iter().map(|run| run.run_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 9).await, ["c", "b", "a"]);
    assert_eq!(names(None, 2).await, ["c", "b"]);
    assert_eq!(names(Some("s3://bank/a.csv"), 9).await, ["c", "a"]);
    assert!(names(Some("s3://bank/%"), 9).await.is_empty());
    assert_eq!(store.runs(None, 1).await.unwrap()[0].source_bytes, Some(1_234));
}

async fn namespaces_are_listed_once(database: &Database) {
    let store = &*database.store;
    assert!(store.namespaces().await.unwrap().is_empty());
    for (name, namespace) in [("a", "one"), ("b", "two"), ("c", "one")] {
        let mut new = new_run(name, name);
        new.settings.namespace = Namespace::new(namespace);
        store.begin_run(&new).await.unwrap();
    }
    let mut expected: Vec<Uuid> =
        ["one", "two"].iter().map(|name| Namespace::new(name).to_string().parse().unwrap()).collect();
    expected.sort();
    assert_eq!(store.namespaces().await.unwrap(), expected);
}

async fn the_pace_covers_the_window(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    begin(store, "a").await;
    let pace = async |window| store.overview(&a, window, TallySource::Chunks).await.unwrap().unwrap().pace;
    assert_eq!(pace(60).await, assay_store::RunPace::default());
    let chunks = [chunk_of_ids("a", 0, 1, &[1, 2, 3]), chunk_of_ids("a", 1, 4, &[4, 5]), chunk_of_ids("b", 0, 1, &[6])];
    database.write(&chunks, IdConflict::Fail).await.unwrap();
    let ago = |chunk, seconds| {
        let at = if database.is_sqlite() {
            format!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{seconds} seconds')")
        } else {
            format!("now() - interval '{seconds} seconds'")
        };
        format!("UPDATE chunks SET recorded_at = {at} WHERE run_id = 'a' AND chunk = {chunk}")
    };
    database.execute(&ago(0, 500)).await;
    database.execute(&ago(1, 20)).await;
    let latest = pace(60).await;
    assert!(latest.rows == 2 && (20_000..50_000).contains(&latest.millis), "{latest:?}");
    let all = pace(1_000).await;
    assert!(all.rows == 5 && (500_000..530_000).contains(&all.millis), "{all:?}");
    assert_eq!(pace(5).await.rows, 0);
    let quiet = store.overview(&a, 5, TallySource::Chunks).await.unwrap().unwrap().quiet_millis;
    assert!((20_000..50_000).contains(&quiet), "{quiet}");
}

async fn the_failed_share_counts_failed_and_recorded_rows(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    assert_eq!(store.failed_share(&run_id("a")).await.unwrap(), (0, 0));
    let rows = [scored(1, "1"), Row::Failed(transaction(2, "1")), Row::Invalid(b"x"), scored(1, "2")];
    database.write(&[chunk("a", 0, 1, &rows), chunk_of_ids("a", 1, 5, &[7])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.failed_share(&run_id("a")).await.unwrap(), (2, 5));
}

async fn operations_come_latest_first(database: &Database) {
    let store = &*database.store;
    let details = serde_json::json!({"chunks": [[0, 7]], "of": "é"});
    store.record_operation("repair", Some(&run_id("a")), Some(&details), &audit_context()).await.unwrap();
    let with_nul = AuditContext { operator: "b\0b".into(), reason: None };
    store.record_operation("purge", None, None, &with_nul).await.unwrap();
    store.record_operation("force", Some(&run_id("b")), None, &audit_context()).await.unwrap();
    let all = store.operations(None, 10).await.unwrap();
    let actions: Vec<_> = all.iter().map(|operation| operation.action.as_str()).collect();
    assert_eq!(actions, ["force", "purge", "repair"]);
    assert_eq!(
        (all[1].operator.replace('\u{fffd}', "\0").as_str(), &all[1].reason, &all[1].run_id),
        ("b\0b", &None, &None)
    );
    assert_eq!((&all[2].details, &all[2].run_id), (&Some(details), &Some(run_id("a"))));
    assert!(all[0].done_at >= all[2].done_at);
    assert_eq!(store.operations(Some(&run_id("a")), 10).await.unwrap(), all[2..]);
    assert_eq!(store.operations(None, 1).await.unwrap(), all[..1]);
}

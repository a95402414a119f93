//! An erasure takes everything with an id, and nothing of it comes back.

use assay_store::{
    ChunkOutcome, ChunkPlace, DeadLetter, DeadLetterOutcome, ErasureCounts, FailedRowSelection, IdConflict,
    ReplayCounts, RowOutcome, Store,
};
use assay_transaction::{RunState, Tally};
use uuid::Uuid;

use crate::chunks::{Row, audit_context, begin, chunk, chunk_of_ids, finish, part, run_id, scored, transaction};
use crate::database::Database;
use crate::operations::dead_letters;
use crate::operations::removals::remove;

on_both! {
    everything_with_an_id_goes,
    an_id_that_comes_again_is_refused,
    an_id_may_be_admitted_again,
    a_replay_brings_nothing_back,
    a_writer_at_work_brings_nothing_back,
    rows_are_erased_by_number,
    letters_of_an_erased_row_are_emptied,
    names_of_live_messages_go_with_their_last_row,
    a_removal_keeps_what_was_erased,
    a_run_completes_although_its_rows_were_erased,
}

const TOMBSTONES: &str = "SELECT run_id || row_number || '|' || class || '|' || reason || '|' || attempts || '|' || length(payload) \
    || '|' || CAST(transaction_id AS text) || '|' || operation FROM failed_transactions WHERE class = 'erased' ORDER BY run_id, row_number";

fn ids(ids: &[u128]) -> Vec<Uuid> {
    ids.iter().copied().map(Uuid::from_u128).collect()
}

async fn duplicates(store: &dyn Store, wanted: &[Uuid]) -> Vec<ChunkPlace> {
    let (mut places, mut after) = (Vec::new(), None);
    loop {
        let (found, next) = store.find_duplicates(wanted, after.as_ref()).await.unwrap();
        places.extend(found.into_iter().map(|(_, place)| place));
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    places.sort();
    places.dedup();
    places
}

/// Erases ids as the command does.
pub(crate) async fn erase(store: &dyn Store, wanted: &[u128]) -> (u64, ErasureCounts) {
    let wanted = ids(wanted);
    let operation = store.begin_operation("erase", &serde_json::json!({}), &audit_context()).await.unwrap();
    store.refuse_ids(operation, &wanted).await.unwrap();
    let places = duplicates(store, &wanted).await;
    (operation, store.erase_ids(operation, &wanted, &places).await.unwrap())
}

async fn assert_lawful(store: &dyn Store, runs: &[&str]) {
    for run in runs {
        let audit = store.audit(&run_id(run)).await.unwrap().unwrap();
        assert_eq!(audit.breaches(), vec![], "{run}");
    }
}

async fn tally(store: &dyn Store, name: &str) -> Tally {
    store.tally(&run_id(name)).await.unwrap()
}

async fn everything_with_an_id_goes(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let rows = [scored(1, "1"), scored(2, "1"), scored(3, "1"), Row::Failed(transaction(4, "1")), Row::Invalid(b"x")];
    store.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    finish(store, "a", 5, 1).await;
    begin(store, "b").await;
    // Replaces 2, repeats 1 twice and 3 once, fails with 2; a replay failed with 4 before.
    let rows = [scored(2, "5"), scored(1, "1"), scored(3, "1"), Row::Failed(transaction(2, "9"))];
    store.write(&[chunk("b", 0, 1, &rows), chunk("b", 1, 5, &[scored(1, "1")])], IdConflict::Update).await.unwrap();
    finish(store, "b", 5, 2).await;
    let again = part("a", 1, 0, &[(4, Row::Failed(transaction(4, "1")))]);
    store.write_replay(&again, IdConflict::Fail).await.unwrap();

    assert_eq!(store.known_ids(&ids(&[1, 2, 4, 9])).await.unwrap().len(), 3);
    let wanted = ids(&[1, 2, 4]);
    let places = duplicates(store, &wanted).await;
    assert_eq!(places.iter().map(|place| place.chunk).collect::<Vec<_>>(), [0, 1]);
    let plan = store.plan_erasure(&wanted, &places).await.unwrap();
    let (operation, erased) = erase(store, &[1, 2, 4]).await;
    let expected = ErasureCounts { transactions: 2, failed: 2, duplicates: 3, history: 1, ..ErasureCounts::default() };
    assert_eq!((plan, erased), (expected, expected));
    assert_lawful(store, &["a", "b"]).await;
    assert_eq!(tally(store, "a").await, Tally { predicted: 1, invalid: 1, failed: 3, duplicate: 0 });
    assert_eq!(tally(store, "b").await, Tally { duplicate: 1, failed: 4, ..Tally::default() });
    let nil = Uuid::nil();
    let rows = ["a1", "a2", "a4", "b1", "b2", "b4", "b5"];
    let expected = rows.map(|row| format!("{row}|erased|erased|0|0|{nil}|{operation}"));
    assert_eq!(database.texts(TOMBSTONES).await, expected);
    for table in ["transaction_history", "row_history"] {
        assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(database.count("SELECT count(*) FROM predictions").await, 1);
    // A chunk keeps no id of an erased row, and those of all others.
    let RowOutcome::Predicted(kept) = store.row(&run_id("a"), 3).await.unwrap() else { panic!("it is stored") };
    assert_eq!(kept.transaction.id, Uuid::from_u128(3));
    let left = database
        .texts("SELECT coalesce(CAST(duplicate_rows AS text), '') FROM chunks WHERE run_id = 'b' ORDER BY chunk")
        .await;
    assert!(left[0].contains("000000000003") && !left[0].contains("000000000001") && left[1].is_empty(), "{left:?}");
    if !database.is_sqlite() {
        let recorded = database.texts("SELECT encode(ids, 'hex') FROM chunks ORDER BY run_id, chunk").await;
        let of_row = |id: &str| format!("{id:0>32}");
        assert_eq!(recorded[0], ["0", "0", "3", "0", "0"].map(of_row).concat());
        assert_eq!(recorded[1], ["0", "0", "3", "0"].map(of_row).concat());
    }
    let [tombstones] = &store.tombstones(&run_id("b")).await.unwrap()[..] else { panic!("one operation") };
    let of = tombstones.operation.as_ref().unwrap();
    assert_eq!(
        (tombstones.class.as_str(), tombstones.rows, of.id, of.operator.as_str()),
        ("erased", 4, operation, "ada")
    );
    let details = of.details.as_ref().unwrap();
    assert_eq!(
        (&details["erased"]["duplicates"], &details["erased"]["invalid"]),
        (&3.into(), &serde_json::Value::Null)
    );
    // Once more finds nothing.
    assert_eq!(erase(store, &[1, 2, 4]).await.1, ErasureCounts::default());
}

async fn an_id_that_comes_again_is_refused(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    let (operation, _) = erase(store, &[1]).await;
    for on_conflict in [IdConflict::Fail, IdConflict::Update] {
        let name = format!("{on_conflict:?}").to_lowercase();
        begin(store, &name).await;
        let rows =
            [scored(2, "-12.50"), scored(1, "7"), Row::Failed(transaction(1, "7")), scored(3, "1"), Row::Invalid(b"x")];
        let written = store.write(&[chunk(&name, 0, 1, &rows)], on_conflict).await.unwrap();
        assert_eq!(written.outcomes, [ChunkOutcome::Recorded]);
        assert_eq!(written.failed.get("erased"), Some(&2));
        assert!(written.unstored.contains(&(0, 2)), "nothing of it is announced");
        finish(store, &name, 5, 1).await;
        assert_lawful(store, &[&name]).await;
        assert_eq!(tally(store, &name).await.failed, 2, "{name}");
        assert_eq!(store.transaction(Uuid::from_u128(1)).await.unwrap(), None);
        assert!(store.failed_with_id(Uuid::from_u128(1)).await.unwrap().is_empty());
        let RowOutcome::Failed(row) = store.row(&run_id(&name), 2).await.unwrap() else { panic!("a tombstone") };
        assert_eq!((row.class.as_str(), row.operation, row.payload.len()), ("erased", Some(operation), 0));
    }
    // In bulk, where the writer copies.
    begin(store, "bulk").await;
    let many: Vec<u128> = (1..=300).collect();
    store.write(&[chunk_of_ids("bulk", 0, 1, &many)], IdConflict::Fail).await.unwrap();
    finish(store, "bulk", 300, 1).await;
    assert_lawful(store, &["bulk"]).await;
    assert_eq!(tally(store, "bulk").await.failed, 2, "one is erased, and one is stored with other content");
    // The list holds no id.
    let listed = database.texts("SELECT CAST(digest AS text) FROM erased_ids").await;
    assert!(listed.len() == 1 && !listed[0].starts_with("00000000-0000"), "{listed:?}");
}

async fn an_id_may_be_admitted_again(database: &Database) {
    let store = &*database.store;
    erase(store, &[1]).await;
    database.execute("DELETE FROM erased_ids").await;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    assert!(store.transaction(Uuid::from_u128(1)).await.unwrap().is_some());
}

async fn a_replay_brings_nothing_back(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let rows = [Row::Failed(transaction(1, "1")), Row::Failed(transaction(2, "1")), Row::Failed(transaction(3, "1"))];
    store.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    finish(store, "a", 3, 1).await;
    erase(store, &[1]).await;
    let sent = part("a", 1, 0, &[(1, scored(1, "1"))]);
    let gone = ReplayCounts { is_new: true, gone: 1, ..ReplayCounts::default() };
    assert_eq!(store.write_replay(&sent, IdConflict::Fail).await.unwrap(), gone);
    // The ids are listed, and the erasure was stopped there.
    let operation = store.begin_operation("erase", &serde_json::json!({}), &audit_context()).await.unwrap();
    store.refuse_ids(operation, &ids(&[2, 3])).await.unwrap();
    let sent = part("a", 2, 0, &[(2, scored(2, "1")), (3, Row::Failed(transaction(3, "1")))]);
    let failed = ReplayCounts { is_new: true, failed: 2, ..ReplayCounts::default() };
    assert_eq!(store.write_replay(&sent, IdConflict::Fail).await.unwrap(), failed);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 0);
    assert_eq!(database.texts(TOMBSTONES).await.len(), 3);
    assert_lawful(store, &["a"]).await;
    let left = store.failed_rows(&run_id("a"), &FailedRowSelection::default(), 0, 9).await.unwrap();
    assert!(left.iter().all(|row| row.payload.is_empty()));
}

async fn a_writer_at_work_brings_nothing_back(database: &Database) {
    let store = &*database.store;
    for round in 0..5_u128 {
        let names: Vec<String> = (0..4).map(|writer| format!("r{round}w{writer}")).collect();
        for name in &names {
            begin(store, name).await;
        }
        let case = round * 1_000;
        let rows: Vec<u128> = (case + 1..=case + 200).collect();
        let writes = names.iter().map(|name| {
            let (other, chunk) = (std::sync::Arc::clone(&database.store), chunk_of_ids(name, 0, 1, &rows));
            tokio::spawn(async move { other.write(&[chunk], IdConflict::Fail).await.map(drop) })
        });
        let writes: Vec<_> = writes.collect();
        erase(store, &[case + 7, case + 8]).await;
        for write in writes {
            write.await.unwrap().unwrap();
        }
        for name in &names {
            finish(store, name, 200, 1).await;
            assert_lawful(store, &[name]).await;
        }
        for id in ids(&[case + 7, case + 8]) {
            assert_eq!(store.transaction(id).await.unwrap(), None, "round {round}");
        }
    }
    // Each of two ids once in each of four runs of five rounds.
    assert_eq!(database.texts(TOMBSTONES).await.len(), 2 * 4 * 5);
}

async fn rows_are_erased_by_number(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let rows = [Row::Invalid(b"secret"), Row::Invalid(b"kept"), Row::Failed(transaction(3, "1")), scored(4, "1")];
    store.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    finish(store, "a", 4, 1).await;
    let invalid = store.all_invalid_rows(None, 1).await.unwrap();
    assert_eq!((invalid.len(), invalid[0].row), (1, 1));
    let invalid = store.all_invalid_rows(Some((&run_id("a"), 1)), 9).await.unwrap();
    assert_eq!((invalid.len(), invalid[0].raw.as_slice()), (1, &b"kept"[..]));
    let operation = store.begin_operation("erase", &serde_json::json!({}), &audit_context()).await.unwrap();
    let rows = [1, 3, 4, 99].map(|row| (run_id("a"), row));
    let erased = store.erase_rows(operation, &rows).await.unwrap();
    // A stored row is erased by its id.
    assert_eq!(erased, ErasureCounts { invalid: 1, failed: 1, ..ErasureCounts::default() });
    assert_lawful(store, &["a"]).await;
    assert_eq!(tally(store, "a").await, Tally { predicted: 1, invalid: 1, failed: 2, duplicate: 0 });
}

fn letter(kind: &str, name: &str) -> DeadLetter {
    DeadLetter {
        message_id: Some(name.into()),
        message_type: Some(kind.into()),
        body: name.into(),
        outcome: DeadLetterOutcome::Booked,
        ..dead_letters::letter()
    }
}

async fn letters_of_an_erased_row_are_emptied(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let chunks = [chunk_of_ids("a", 0, 1, &[1, 2]), chunk_of_ids("a", 1, 3, &[3, 4])];
    store.write(&chunks, IdConflict::Fail).await.unwrap();
    for (kind, name) in [("assay.chunk.v1", "a/0"), ("assay.chunk.v1", "a/1"), ("assay.live.v1", "tx-2")] {
        store.record_dead_letter(&letter(kind, name)).await.unwrap();
    }
    let (operation, erased) = erase(store, &[2]).await;
    assert_eq!(erased.dead_letters, 1, "that of its chunk");
    let bodies = store.letter_bodies(0, 9).await.unwrap();
    assert_eq!(bodies.iter().map(|letter| letter.body.as_slice()).collect::<Vec<_>>(), [&b"a/1"[..], b"tx-2"]);
    assert_eq!(store.letter_bodies(bodies[0].id, 9).await.unwrap().len(), 1);
    let erased = store.erase_letters(operation, &[bodies[1].id]).await.unwrap();
    assert_eq!(erased.dead_letters, 1);
    let named = "SELECT coalesce(message_id, '-') || length(body) || coalesce(CAST(operation AS text), '-') FROM dead_letters ORDER BY id";
    assert_eq!(database.texts(named).await, [format!("a/00{operation}"), "a/13-".to_owned(), format!("-0{operation}")]);
    // It comes again, and stays empty.
    assert!(!store.record_dead_letter(&letter("assay.chunk.v1", "a/0")).await.unwrap());
    assert_eq!(store.letter_bodies(0, 9).await.unwrap().len(), 1);
}

async fn names_of_live_messages_go_with_their_last_row(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let chunks = [chunk_of_ids("a", 0, 1, &[1]), chunk_of_ids("a", 1, 2, &[2, 3])];
    store.write(&chunks, IdConflict::Fail).await.unwrap();
    for (message, chunk, first_row, rows) in [("one", 0, 1, 1), ("two", 1, 2, 2)] {
        database
            .execute(&format!(
                "INSERT INTO live_messages VALUES ('a', '{message}', 'digest', {chunk}, {first_row}, {rows})"
            ))
            .await;
    }
    let (_, erased) = erase(store, &[1, 2]).await;
    assert_eq!(erased.live_messages, 1);
    assert_eq!(database.texts("SELECT message FROM live_messages").await, ["two"]);
    let (_, erased) = erase(store, &[3]).await;
    assert_eq!(erased.live_messages, 1);
}

async fn a_removal_keeps_what_was_erased(database: &Database) {
    let store = &*database.store;
    for name in ["a", "b"] {
        begin(store, name).await;
        store.write(&[chunk_of_ids(name, 0, 1, &[1, 2, 3])], IdConflict::Fail).await.unwrap();
        finish(store, name, 3, 1).await;
    }
    erase(store, &[1]).await;
    let removed = remove(store, "a", &["a", "b"]).await;
    assert_eq!((removed.rows, removed.passed_on), (2, 2));
    assert_eq!(tally(store, "b").await, Tally { predicted: 2, failed: 1, ..Tally::default() });
    let classes = "SELECT class || count(*) FROM failed_transactions WHERE run_id = 'a' GROUP BY class ORDER BY class";
    assert_eq!(database.texts(classes).await, ["erased1", "removed2"]);
    erase(store, &[2, 3]).await;
    assert_lawful(store, &["a", "b"]).await;
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 0);
}

async fn a_run_completes_although_its_rows_were_erased(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    erase(store, &[1, 4]).await;
    assert_lawful(store, &["a"]).await;
    store.write(&[chunk_of_ids("a", 1, 3, &[3, 4])], IdConflict::Fail).await.unwrap();
    assert_eq!(finish(store, "a", 4, 2).await, RunState::Complete);
    assert_lawful(store, &["a"]).await;
    assert_eq!(tally(store, "a").await, Tally { predicted: 2, failed: 2, ..Tally::default() });
}

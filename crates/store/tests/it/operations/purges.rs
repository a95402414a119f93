//! A purge takes what is old, and no more; the law holds after each of its steps.

use assay_store::{
    DeadLetter, DeadLetterOutcome, IdConflict, PurgeCounts, PurgeKind, PurgePosition, RemovalStart, ReplayCounts,
    RowOutcome, Store,
};
use assay_transaction::{Tally, TimeZone, Timestamp};

use crate::chunks::{Row, audit_context, begin, chunk, finish, part, run_id, scored, transaction};
use crate::database::Database;
use crate::operations::dead_letters;

on_both! {
    rows_of_old_runs_become_tombstones,
    a_purge_works_in_steps,
    old_letters_lose_their_bodies,
    old_history_is_emptied,
    names_of_old_live_messages_are_deleted,
    old_refusals_are_forgotten,
}

const OLD: &str = "2026-01-01T00:00:00.000Z";

fn before() -> Timestamp {
    Timestamp::parse(b"2026-01-02T00:00:00Z", TimeZone::UTC).unwrap()
}

/// Purges one kind to its end; returns the operation, the sum, and the steps it took.
async fn purge(store: &dyn Store, kind: PurgeKind) -> (u64, PurgeCounts, usize) {
    let plan = store.plan_purge(kind, before()).await.unwrap();
    let operation = store.begin_operation("purge", &serde_json::json!({}), &audit_context()).await.unwrap();
    let (mut sum, mut steps, mut from) = (PurgeCounts::default(), 0, PurgePosition::default());
    loop {
        let (taken, next) = store.purge_step(operation, kind, before(), &from).await.unwrap();
        sum += taken;
        let Some(next) = next else { break };
        (from, steps) = (next, steps + 1);
        for run in store.runs(None, 9).await.unwrap() {
            let audit = store.audit(&run.run_id).await.unwrap().unwrap();
            assert_eq!(audit.breaches(), vec![], "{} after step {steps} of {kind:?}", run.run_id);
        }
    }
    assert_eq!(plan, sum);
    assert_eq!(store.plan_purge(kind, before()).await.unwrap(), PurgeCounts::default());
    let recorded = store.operation(operation).await.unwrap().unwrap();
    let rows = recorded.details.unwrap()[kind.as_str()]["rows"].as_u64().unwrap_or_default();
    assert_eq!((recorded.action.as_str(), rows), ("purge", sum.rows));
    (operation, sum, steps)
}

/// A finished run that is old, one that is not, and an old one that is not finished.
async fn load(database: &Database, rows: &[Row]) {
    let store = &*database.store;
    for (at, name) in (0..).zip(["old", "new", "open"]) {
        begin(store, name).await;
        let rows: Vec<Row> = rows
            .iter()
            .map(|row| match row {
                Row::Scored(it, ..) => scored(it.id.as_u128() + at * 1_000_000, "1"),
                Row::Failed(it) => Row::Failed(transaction(it.id.as_u128() + at * 1_000_000, "1")),
                Row::Invalid(raw) => Row::Invalid(raw),
            })
            .collect();
        store.write(&[chunk(name, 0, 1, &rows)], IdConflict::Fail).await.unwrap();
        if name != "open" {
            finish(store, name, rows.len() as u64, 1).await;
        }
    }
    database.execute(&format!("UPDATE runs SET finished_at = '{OLD}' WHERE run_id = 'old'")).await;
    database.execute(&format!("UPDATE runs SET started_at = '{OLD}'")).await;
}

async fn rows_of_old_runs_become_tombstones(database: &Database) {
    let store = &*database.store;
    load(database, &[scored(1, "1"), Row::Failed(transaction(2, "1")), Row::Invalid(b"secret")]).await;
    let (raw, taken, _) = purge(store, PurgeKind::Raw).await;
    assert_eq!(taken, PurgeCounts { rows: 1, bytes: 6 });
    let (failures, taken, _) = purge(store, PurgeKind::Failures).await;
    assert_eq!(taken.rows, 1);
    let left = "SELECT row_number || '|' || class || '|' || reason || '|' || length(payload) || '|' || operation || '|' \
        || CAST(transaction_id AS text) FROM failed_transactions WHERE run_id = 'old' ORDER BY row_number";
    let nil = uuid::Uuid::nil();
    assert_eq!(
        database.texts(left).await,
        [
            format!("2|purged|purged; it had failed: rejected|0|{failures}|{nil}"),
            format!("3|purged|purged; it was invalid: amount_scale|0|{raw}|{nil}")
        ]
    );
    assert_eq!(store.tally(&run_id("old")).await.unwrap(), Tally { predicted: 1, failed: 2, ..Tally::default() });
    for run in ["new", "open"] {
        assert_eq!(store.tally(&run_id(run)).await.unwrap().invalid, 1, "{run}");
        let RowOutcome::Failed(row) = store.row(&run_id(run), 2).await.unwrap() else { panic!("it failed") };
        assert!(row.class == "rejected" && row.operation.is_none());
    }
    // It cannot be replayed, not even by a message on its way.
    let gone = ReplayCounts { is_new: true, gone: 1, ..ReplayCounts::default() };
    let sent = part("old", 1, 0, &[(2, scored(2, "1"))]);
    assert_eq!(store.write_replay(&sent, IdConflict::Fail).await.unwrap(), gone);
    let [first, second] = &store.tombstones(&run_id("old")).await.unwrap()[..] else { panic!("two operations") };
    assert_eq!([first, second].map(|it| (it.class.as_str(), it.rows)), [("purged", 1), ("purged", 1)]);
    if !database.is_sqlite() {
        let ids = database.texts("SELECT encode(ids, 'hex') FROM chunks WHERE run_id = 'old'").await;
        assert_eq!(ids[0], [1, 0, 0].map(|id| format!("{id:032x}")).concat());
    }
}

async fn a_purge_works_in_steps(database: &Database) {
    let store = &*database.store;
    let rows: Vec<Row> = (0..5_001).map(|_| Row::Invalid(b"x")).collect();
    load(database, &rows).await;
    let (_, taken, steps) = purge(store, PurgeKind::Raw).await;
    assert_eq!((taken, steps), (PurgeCounts { rows: 5_001, bytes: 5_001 }, 2));
}

async fn old_letters_lose_their_bodies(database: &Database) {
    let store = &*database.store;
    begin(store, "open").await;
    let letter = |name: &str, outcome| DeadLetter {
        message_id: Some(name.into()),
        message_type: None,
        run_id: Some("open".into()),
        body: b"secret".to_vec(),
        outcome,
        ..dead_letters::letter()
    };
    let letters = [
        ("booked", DeadLetterOutcome::Booked),
        ("unreadable", DeadLetterOutcome::Unreadable),
        ("known", DeadLetterOutcome::Known),
    ];
    for (name, outcome) in letters {
        store.record_dead_letter(&letter(name, outcome)).await.unwrap();
    }
    database.execute(&format!("UPDATE runs SET started_at = '{OLD}'")).await;
    database.execute(&format!("UPDATE dead_letters SET received_at = '{OLD}' WHERE message_id <> 'known'")).await;
    assert_eq!(purge(store, PurgeKind::DeadLetters).await.1, PurgeCounts { rows: 1, bytes: 6 });
    let left = "SELECT message_id || length(body) FROM dead_letters ORDER BY id";
    assert_eq!(database.texts(left).await, ["booked0", "unreadable6", "known6"]);
}

async fn old_history_is_emptied(database: &Database) {
    let store = &*database.store;
    for (name, amount) in [("a", "1"), ("b", "2"), ("c", "3")] {
        begin(store, name).await;
        store.write(&[chunk(name, 0, 1, &[scored(1, amount)])], IdConflict::Update).await.unwrap();
        finish(store, name, 1, 1).await;
    }
    database
        .execute(&format!("UPDATE transaction_history SET replaced_at = '{OLD}' WHERE replaced_by_run = 'b'"))
        .await;
    assert_eq!(purge(store, PurgeKind::History).await.1.rows, 1);
    let left = "SELECT replaced_by_run || CAST(\"transaction\" AS text) || coalesce(CAST(prediction AS text), '-') \
        FROM transaction_history WHERE replaced_by_run = 'b'";
    assert_eq!(database.texts(left).await, ["b{}-"]);
    // What replaced it cannot be removed any more, as nothing could be restored. All others can.
    let begun = store.begin_removal(&run_id("b"), &audit_context()).await.unwrap();
    assert!(matches!(begun, RemovalStart::Purged(_)), "{begun:?}");
    crate::operations::removals::remove(store, "c", &["a", "b", "c"]).await;
    let amount = "SELECT CAST(CAST(CAST(amount AS numeric) AS bigint) AS text) FROM transactions";
    assert_eq!(database.texts(amount).await, ["2"]);
}

async fn names_of_old_live_messages_are_deleted(database: &Database) {
    let store = &*database.store;
    load(database, &[scored(1, "1")]).await;
    for run in ["old", "new", "open"] {
        database.execute(&format!("INSERT INTO live_messages VALUES ('{run}', 'name', 'digest', 0, 1, 1)")).await;
    }
    assert_eq!(purge(store, PurgeKind::LiveMessages).await.1, PurgeCounts { rows: 1, bytes: 4 });
    assert_eq!(database.texts("SELECT run_id FROM live_messages ORDER BY 1").await, ["new", "open"]);
}

async fn old_refusals_are_forgotten(database: &Database) {
    let store = &*database.store;
    let ids: Vec<_> = (1..=3).map(uuid::Uuid::from_u128).collect();
    let operation = store.begin_operation("erase", &serde_json::json!({}), &audit_context()).await.unwrap();
    store.refuse_ids(operation, &ids).await.unwrap();
    assert_eq!(purge(store, PurgeKind::ErasedIds).await.1.rows, 0);
    database.execute(&format!("UPDATE operations SET done_at = '{OLD}' WHERE id = {operation}")).await;
    assert_eq!(purge(store, PurgeKind::ErasedIds).await.1.rows, 3);
    assert_eq!(database.count("SELECT count(*) FROM erased_ids").await, 0);
}

//! Removing a finished run keeps nothing but its row numbers. `removals_law` covers any history before it.

use assay_store::{
    ChunkOutcome, DeadLetter, IdConflict, RemovalCounts, RemovalStart, RemovalStep, ReplayCounts, RowOutcome, RunStart,
    Store,
};
use assay_transaction::{ScoredChunk, Tally, TimeZone, Timestamp};

use crate::chunks::{
    Row, audit_context, begin, chunk, chunk_of_ids, finish, new_run, part, run_id, scored, transaction,
};
use crate::database::Database;
use crate::operations::dead_letters;

on_both! {
    each_row_leaves_a_tombstone,
    duplicates_in_other_runs_inherit,
    replaced_content_returns,
    returning_content_is_exact,
    a_later_row_with_the_same_content_becomes_the_replacement,
    history_from_before_the_heir_is_forgotten,
    one_transaction_records_one_time,
    nothing_of_a_removed_run_returns,
    its_source_is_free,
    conflicts_with_it_no_longer_quote_it,
    conflicts_no_longer_quote_replaced_content,
    an_open_run_is_not_removed,
    a_run_without_all_its_chunks_is_not_removed,
    one_removal_runs_at_a_time,
    a_row_replayed_meanwhile_inherits,
    an_interrupted_removal_resumes,
    a_plan_tells_what_would_happen,
}

const TOMBSTONES: &str = "SELECT row_number || '|' || class || '|' || reason || '|' || attempts || '|' || length(payload) || '|' \
    || CAST(transaction_id AS text) FROM failed_transactions WHERE run_id = 'a' ORDER BY row_number";
const OWNERS: &str = "SELECT replace(CAST(t.id AS text), '00000000-0000-0000-0000-', '') || '|' || t.run_id || '|' || t.row_number || '|' \
    || CAST(CAST(CAST(t.amount AS numeric) AS bigint) AS text) || '|' || p.run_id \
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id ORDER BY 1";
const HISTORY: &str = "SELECT CAST(CAST(CAST(\"transaction\"->>'amount' AS numeric) AS bigint) AS text) || '|' || replaced_by_run \
    || '|' || replaced_by_row FROM transaction_history ORDER BY id";

/// Loads a run of one chunk, to its end.
async fn load(store: &dyn Store, name: &str, rows: &[Row], on_conflict: IdConflict) {
    begin(store, name).await;
    store.write(&[chunk(name, 0, 1, rows)], on_conflict).await.unwrap();
    finish(store, name, rows.len() as u64, 1).await;
}

/// Removes a run, and checks after each step that the law holds for these runs.
pub(crate) async fn remove(store: &dyn Store, name: &str, all: &[&str]) -> RemovalCounts {
    assert!(matches!(
        store.begin_removal(&run_id(name), &audit_context()).await.unwrap(),
        RemovalStart::Started(_) | RemovalStart::Resumed(_)
    ));
    let (mut at, mut sum) = (Some(RemovalStep::Start), RemovalCounts::default());
    while let Some(step) = at {
        let (done, next) = store.removal_step(&run_id(name), &step).await.unwrap();
        sum += done;
        at = next;
        for run in all {
            let audit = store.audit(&run_id(run)).await.unwrap().unwrap();
            assert_eq!(audit.breaches(), vec![], "{run} after {step:?} of {name}");
        }
    }
    assert!(store.run(&run_id(name)).await.unwrap().unwrap().removal.unwrap().ended_at.is_some());
    sum
}

async fn tally(store: &dyn Store, name: &str) -> Tally {
    store.tally(&run_id(name)).await.unwrap()
}

async fn each_row_leaves_a_tombstone(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    let chunks = [
        chunk("a", 0, 1, &[scored(1, "1"), scored(1, "1"), Row::Failed(transaction(3, "1"))]),
        chunk("a", 1, 4, &[Row::Invalid(b"secret"), scored(4, "1"), scored(4, "2")]),
    ];
    store.write(&chunks, IdConflict::Fail).await.unwrap();
    finish(store, "a", 6, 2).await;
    store.write_replay(&part("a", 1, 0, &[(3, scored(3, "1"))]), IdConflict::Fail).await.unwrap();
    let removed = remove(store, "a", &["a"]).await;
    assert_eq!(removed, RemovalCounts { rows: 6, passed_on: 0, restored: 0 });
    assert_eq!(tally(store, "a").await, Tally { failed: 6, ..Tally::default() });
    let nil = uuid::Uuid::nil();
    let expected: Vec<String> = (1..=6).map(|row| format!("{row}|removed|removed with its run|0|0|{nil}")).collect();
    assert_eq!(database.texts(TOMBSTONES).await, expected);
    for table in ["transactions", "predictions", "invalid_transactions", "transaction_history", "row_history"] {
        assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    let RowOutcome::Failed(row) = store.row(&run_id("a"), 4).await.unwrap() else { panic!("it is a tombstone") };
    assert_eq!((row.class.as_str(), row.payload.len()), ("removed", 0));
    let run = store.run(&run_id("a")).await.unwrap().unwrap();
    let removal = run.removal.unwrap();
    assert_eq!((removal.by.as_str(), removal.reason.as_str()), ("ada", "as agreed"));
    let operations = store.operations(Some(&run_id("a")), 9).await.unwrap();
    assert_eq!((operations[0].action.as_str(), operations[0].operator.as_str()), ("remove", "ada"));
}

async fn duplicates_in_other_runs_inherit(database: &Database) {
    let store = &*database.store;
    let rows = |ids: &[u128]| ids.iter().map(|id| scored(*id, "1")).collect::<Vec<_>>();
    load(store, "a", &rows(&[1, 2, 3]), IdConflict::Fail).await;
    load(store, "c", &rows(&[9, 2, 3, 2]), IdConflict::Fail).await;
    load(store, "b", &rows(&[3, 2, 1, 9]), IdConflict::Fail).await;
    // The run that began first inherits, whatever its name.
    let removed = remove(store, "a", &["a", "b", "c"]).await;
    assert_eq!(removed, RemovalCounts { rows: 3, passed_on: 3, restored: 0 });
    assert_eq!(
        database.texts(OWNERS).await,
        ["000000000001|b|3|1|b", "000000000002|c|2|1|c", "000000000003|c|3|1|c", "000000000009|c|1|1|c"]
    );
    assert_eq!(tally(store, "c").await, Tally { predicted: 3, duplicate: 1, ..Tally::default() });
    assert_eq!(tally(store, "b").await, Tally { predicted: 1, duplicate: 3, ..Tally::default() });
    let predicted = "SELECT run_id || predicted FROM chunks ORDER BY 1";
    assert_eq!(database.texts(predicted).await, ["a0", "b1", "c3"]);
    let removed = remove(store, "c", &["a", "b", "c"]).await;
    assert_eq!(removed, RemovalCounts { rows: 4, passed_on: 3, restored: 0 });
    assert_eq!(tally(store, "b").await, Tally { predicted: 4, ..Tally::default() });
    remove(store, "b", &["a", "b", "c"]).await;
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 0);
}

async fn replaced_content_returns(database: &Database) {
    // Which of four runs, each replacing the one before, is removed; what is left, and its history.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str]);
    let cases: [Case<'_>; 4] = [
        ("d", "000000000001|a|1|3|c", &["1|b|1", "2|c|1"]),
        ("b", "000000000001|a|1|3|c", &["1|c|1"]),
        ("a", "000000000001|c|1|3|c", &[]),
        ("c", "", &[]),
    ];
    let store = &*database.store;
    for (name, amount) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        load(store, name, &[scored(1, amount)], IdConflict::Update).await;
    }
    for (removed, owner, history) in cases {
        remove(store, removed, &["a", "b", "c", "d"]).await;
        assert_eq!(database.texts(OWNERS).await.join(" "), owner, "{removed}");
        assert_eq!(database.texts(HISTORY).await, history, "{removed}");
    }
}

async fn returning_content_is_exact(database: &Database) {
    let store = &*database.store;
    let at = |text: &[u8]| Timestamp::parse(text, TimeZone::UTC).unwrap();
    let mut plain = transaction(1, "-0.0001");
    plain.timestamp = at(b"1969-12-31T23:59:59.999999Z");
    plain.merchant = None;
    plain.description = "\"quoted\" \\ 'single' \u{1f600} line\nbreak null".into();
    let mut rich = transaction(2, "9999999999999999.9999");
    rich.attributes = [("a \"b\"".to_owned(), "null".to_owned()), ("ä".to_owned(), String::new())].into();
    let rows = [Row::Scored(plain, "fraud", 0.1 + 0.2), Row::Scored(rich, "x", 1.0 / 3.0), scored(3, "1")];
    load(store, "a", &rows, IdConflict::Fail).await;
    let ids = [1, 2, 3].map(uuid::Uuid::from_u128);
    let mut before = Vec::new();
    for id in ids {
        before.push(store.transaction(id).await.unwrap().unwrap());
    }
    load(store, "b", &[scored(1, "5"), scored(2, "5"), scored(3, "5")], IdConflict::Update).await;
    remove(store, "b", &["a", "b"]).await;
    for (id, before) in ids.into_iter().zip(before) {
        assert_eq!(store.transaction(id).await.unwrap().unwrap(), before);
    }
}

async fn a_later_row_with_the_same_content_becomes_the_replacement(database: &Database) {
    let store = &*database.store;
    for (name, amount) in [("a", "1"), ("b", "2"), ("c", "2"), ("d", "3")] {
        load(store, name, &[scored(1, amount)], IdConflict::Update).await;
    }
    remove(store, "b", &["a", "b", "c", "d"]).await;
    assert_eq!(database.texts(HISTORY).await, ["1|c|1", "2|d|1"]);
    remove(store, "d", &["a", "b", "c", "d"]).await;
    // The run that asked for the prediction is removed.
    assert_eq!(database.texts(OWNERS).await, ["000000000001|a|1|2|a"]);
}

async fn history_from_before_the_heir_is_forgotten(database: &Database) {
    let store = &*database.store;
    // Stored and replaced by the same run; then counted as a duplicate of its second content.
    load(store, "a", &[scored(1, "1"), scored(1, "2"), scored(1, "3")], IdConflict::Update).await;
    load(store, "b", &[scored(1, "3"), scored(1, "4")], IdConflict::Update).await;
    remove(store, "a", &["a", "b"]).await;
    assert_eq!(database.texts(OWNERS).await, ["000000000001|b|1|4|b"]);
    assert_eq!(database.texts(HISTORY).await, ["3|b|2"]);
}

/// All rows of a transaction have the same time, so their numbers tell which came first.
async fn one_transaction_records_one_time(database: &Database) {
    let store = &*database.store;
    let rows = |amount| (1..=2_000).map(|id| scored(id, amount)).collect::<Vec<_>>();
    load(store, "a", &rows("1"), IdConflict::Update).await;
    begin(store, "b").await;
    let (replacing, failed) = (rows("2"), [Row::Failed(transaction(1, "3"))]);
    let chunks = [chunk("b", 0, 1, &replacing), chunk("b", 1, 2_001, &failed)];
    store.write(&chunks, IdConflict::Update).await.unwrap();
    let times = "SELECT count(*) FROM (SELECT recorded_at FROM chunks WHERE run_id = 'b' UNION SELECT replaced_at \
        FROM transaction_history) AS times";
    assert_eq!(database.count(times).await, 1);
    let failed: Vec<_> = (3..=2_000).map(|id| Row::Failed(transaction(id, "3"))).collect();
    begin(store, "c").await;
    store.write(&[chunk("c", 0, 1, &failed)], IdConflict::Update).await.unwrap();
    let again: Vec<_> = (1..=1_998_u64).map(|row| (row, scored(u128::from(row) + 2, "4"))).collect();
    store.write_replay(&part("c", 1, 0, &again), IdConflict::Update).await.unwrap();
    let times = "SELECT count(*) FROM (SELECT replayed_at FROM row_history UNION SELECT replaced_at \
        FROM transaction_history WHERE replaced_by_run = 'c') AS times";
    assert_eq!(database.count(times).await, 1);
}

fn letter(body: &str) -> DeadLetter {
    DeadLetter { body: body.into(), ..dead_letters::letter() }
}

async fn nothing_of_a_removed_run_returns(database: &Database) {
    let store = &*database.store;
    let chunks: [ScoredChunk; 2] =
        [chunk_of_ids("a", 0, 1, &[1, 2]), chunk("a", 1, 3, &[Row::Failed(transaction(3, "1"))])];
    begin(store, "a").await;
    store.write(&chunks, IdConflict::Fail).await.unwrap();
    finish(store, "a", 3, 2).await;
    let before = letter("Café 1");
    assert!(store.record_dead_letter(&before).await.unwrap());
    remove(store, "a", &["a"]).await;
    // What was on its way arrives: a chunk again, one whose record is lost, a part of a replay, a dead letter.
    let written = store.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes, [ChunkOutcome::AlreadyRecorded, ChunkOutcome::AlreadyRecorded]);
    let late = part("a", 1, 0, &[(3, scored(3, "1"))]);
    assert_eq!(
        store.write_replay(&late, IdConflict::Fail).await.unwrap(),
        ReplayCounts { is_new: true, stored: 0, failed: 0, gone: 1 }
    );
    assert!(!store.record_dead_letter(&before).await.unwrap());
    assert!(store.record_dead_letter(&letter("Café 2")).await.unwrap());
    assert_eq!(database.bytes("SELECT body FROM dead_letters").await, [vec![0_u8; 0], vec![]]);
    assert_eq!(tally(store, "a").await, Tally { failed: 3, ..Tally::default() });
    database.execute("DELETE FROM chunks WHERE chunk = 0").await;
    let written = store.write(&chunks[..1], IdConflict::Fail).await.unwrap();
    assert_eq!(written.outcomes, [ChunkOutcome::Dropped]);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 0);
}

async fn its_source_is_free(database: &Database) {
    let store = &*database.store;
    load(store, "a", &[scored(1, "1")], IdConflict::Fail).await;
    let again = new_run("again", "s3://bank/a.csv");
    assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::AlreadyLoaded(_)));
    remove(store, "a", &["a"]).await;
    let mut same_id = new_run("a", "s3://bank/a.csv");
    same_id.explicit_id = true;
    let refused = store.begin_run(&same_id).await.unwrap_err();
    assert!(refused.to_string().starts_with("run a was removed: choose another BATCH_RUN_ID"), "{refused}");
    assert!(matches!(store.begin_run(&again).await.unwrap(), RunStart::Started(..)));
    store.write(&[chunk("again", 0, 1, &[scored(1, "1")])], IdConflict::Fail).await.unwrap();
    finish(store, "again", 1, 1).await;
    assert_eq!(tally(store, "again").await, Tally { predicted: 1, ..Tally::default() });
}

async fn conflicts_with_it_no_longer_quote_it(database: &Database) {
    let store = &*database.store;
    load(store, "a", &[scored(1, "77")], IdConflict::Fail).await;
    load(store, "b", &[scored(1, "1")], IdConflict::Fail).await;
    let reasons = "SELECT reason FROM failed_transactions WHERE class = 'id_conflict'";
    assert!(database.texts(reasons).await[0].contains("77"));
    remove(store, "a", &["a", "b"]).await;
    assert_eq!(
        database.texts(reasons).await,
        ["another transaction with this id was stored, but part of it was removed since: replay it"]
    );
    // Now it can be removed.
    store.write_replay(&part("b", 1, 0, &[(1, scored(1, "1"))]), IdConflict::Fail).await.unwrap();
    assert_eq!(tally(store, "b").await, Tally { predicted: 1, ..Tally::default() });
}

async fn conflicts_no_longer_quote_replaced_content(database: &Database) {
    let store = &*database.store;
    load(store, "a", &[scored(1, "77")], IdConflict::Fail).await;
    load(store, "b", &[scored(1, "1")], IdConflict::Fail).await;
    // The run that replaced it inherits it, so it is not among what the removed run stored.
    load(store, "c", &[scored(1, "2")], IdConflict::Update).await;
    remove(store, "a", &["a", "b", "c"]).await;
    assert_eq!(database.texts(OWNERS).await, ["000000000001|c|1|2|c"]);
    let everywhere = "SELECT reason FROM failed_transactions UNION ALL SELECT CAST(\"transaction\" AS text) FROM transaction_history";
    let texts = database.texts(everywhere).await;
    assert!(!texts.iter().any(|text| text.contains("77")), "{texts:?}");
}

async fn an_open_run_is_not_removed(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    assert!(matches!(store.begin_removal(&run_id("a"), &audit_context()).await.unwrap(), RemovalStart::Unfinished(_)));
    let unknown = store.begin_removal(&run_id("unknown"), &audit_context()).await.unwrap_err();
    assert!(unknown.to_string().starts_with("run unknown is not in the ledger"), "{unknown}");
    // A step of a removal that never began does nothing.
    let entomb = RemovalStep::Tombstones { chunk: 0 };
    store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.removal_step(&run_id("a"), &entomb).await.unwrap(), (RemovalCounts::default(), None));
    assert_eq!(tally(store, "a").await, Tally { predicted: 1, ..Tally::default() });
    assert_eq!(store.operations(None, 9).await.unwrap(), []);
}

async fn a_run_without_all_its_chunks_is_not_removed(database: &Database) {
    let store = &*database.store;
    load(store, "a", &[scored(1, "1")], IdConflict::Fail).await;
    database.execute("DELETE FROM chunks").await;
    assert!(matches!(store.begin_removal(&run_id("a"), &audit_context()).await.unwrap(), RemovalStart::Incomplete(_)));
    assert_eq!(store.operations(None, 9).await.unwrap(), []);
}

async fn one_removal_runs_at_a_time(database: &Database) {
    let store = &*database.store;
    load(store, "a", &[scored(1, "1")], IdConflict::Fail).await;
    load(store, "b", &[scored(2, "1")], IdConflict::Fail).await;
    assert!(matches!(store.begin_removal(&run_id("a"), &audit_context()).await.unwrap(), RemovalStart::Started(_)));
    assert_eq!(store.begin_removal(&run_id("b"), &audit_context()).await.unwrap(), RemovalStart::Other(run_id("a")));
    remove(store, "a", &["a", "b"]).await;
    assert!(matches!(store.begin_removal(&run_id("a"), &audit_context()).await.unwrap(), RemovalStart::Done(_)));
    remove(store, "b", &["a", "b"]).await;
}

async fn a_row_replayed_meanwhile_inherits(database: &Database) {
    let store = &*database.store;
    load(store, "b", &[scored(7, "1"), scored(7, "1"), Row::Failed(transaction(1, "1"))], IdConflict::Fail).await;
    load(store, "a", &[scored(1, "1"), scored(2, "1")], IdConflict::Fail).await;
    database.execute("UPDATE runs SET finished_at = '2020-01-01T00:00:00.000Z' WHERE run_id = 'b'").await;
    database.execute("UPDATE chunks SET recorded_at = '2020-01-01T00:00:00.000Z' WHERE run_id = 'b'").await;
    store.begin_removal(&run_id("a"), &audit_context()).await.unwrap();
    // All duplicates were searched, and then one more comes.
    let mut step = RemovalStep::Start;
    while !matches!(step, RemovalStep::Tombstones { .. }) {
        step = store.removal_step(&run_id("a"), &step).await.unwrap().1.unwrap();
    }
    store.write_replay(&part("b", 1, 0, &[(3, scored(1, "1"))]), IdConflict::Fail).await.unwrap();
    let (removed, _) = store.removal_step(&run_id("a"), &step).await.unwrap();
    assert_eq!(removed, RemovalCounts { rows: 2, passed_on: 1, restored: 0 });
    assert_eq!(tally(store, "b").await, Tally { predicted: 2, duplicate: 1, ..Tally::default() });
}

async fn an_interrupted_removal_resumes(database: &Database) {
    let store = &*database.store;
    // Enough for several steps of each kind.
    let ids = |from: u64| (from..from + 3_000).map(u128::from).collect::<Vec<_>>();
    for run in ["a", "b"] {
        begin(store, run).await;
        for number in 0..4 {
            let first_row = number * 3_000 + 1;
            let chunk = chunk_of_ids(run, number, first_row, &ids(first_row));
            store.write(&[chunk], IdConflict::Fail).await.unwrap();
        }
        // Duplicates of rows of another step.
        store.write(&[chunk_of_ids(run, 4, 12_001, &[1, 4_000, 8_000])], IdConflict::Fail).await.unwrap();
        finish(store, run, 12_003, 5).await;
    }
    store.begin_removal(&run_id("a"), &audit_context()).await.unwrap();
    let mut sum = RemovalCounts::default();
    for steps in 1.. {
        // Each starts again, and stops after this many steps.
        let mut at = Some(RemovalStep::Start);
        for _ in 0..steps {
            let Some(step) = at else { break };
            let (done, next) = store.removal_step(&run_id("a"), &step).await.unwrap();
            sum += done;
            at = next;
        }
        for run in ["a", "b"] {
            let audit = store.audit(&run_id(run)).await.unwrap().unwrap();
            assert_eq!(audit.breaches(), vec![], "{run} after {steps} steps");
        }
        if at.is_none() {
            break;
        }
    }
    assert_eq!(sum, RemovalCounts { rows: 12_003, passed_on: 12_000, restored: 0 });
    assert_eq!(tally(store, "a").await, Tally { failed: 12_003, ..Tally::default() });
    assert_eq!(tally(store, "b").await, Tally { predicted: 12_000, duplicate: 3, ..Tally::default() });
    // The same without an heir.
    remove(store, "b", &["a", "b"]).await;
}

async fn a_plan_tells_what_would_happen(database: &Database) {
    let store = &*database.store;
    load(store, "z", &[scored(7, "1")], IdConflict::Update).await;
    load(store, "a", &[scored(1, "1"), scored(2, "1"), scored(3, "1"), scored(7, "2")], IdConflict::Update).await;
    load(store, "b", &[scored(2, "1"), scored(3, "1")], IdConflict::Update).await;
    load(store, "c", &[scored(1, "1"), scored(2, "1")], IdConflict::Update).await;
    store.record_dead_letter(&letter("x")).await.unwrap();
    let plan = store.plan_removal(&run_id("a")).await.unwrap();
    assert_eq!(plan.passed_on, [(run_id("b"), 2), (run_id("c"), 1)]);
    assert_eq!((plan.restored, plan.dead_letters), (1, 1));
    assert_eq!(tally(store, "a").await.predicted, 3, "nothing is done");
    let removed = remove(store, "a", &["z", "a", "b", "c"]).await;
    assert_eq!(removed, RemovalCounts { rows: 4, passed_on: 3, restored: 1 });
}

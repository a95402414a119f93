//! Rows that are stored already: found before they are scored again, and recorded without a score.

use assay_store::{EarlierIds, IdConflict, NewRun, RunStart};
use assay_transaction::{Entry, KnownRow, Namespace, Run, ScoredChunk, Tally};

use crate::chunks::{Row, chunk, chunk_of_ids, new_run, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    a_first_run_has_no_earlier_ids,
    the_same_content_is_found_with_its_prediction,
    known_rows_are_duplicates,
    known_rows_that_are_gone_fail_and_can_be_replayed,
    known_rows_that_differ_now_fail,
}

async fn begun(database: &Database, new: NewRun) -> Run {
    let RunStart::Started(run, _) = database.store.begin_run(&new).await.unwrap() else { panic!("it begins") };
    run
}

async fn a_first_run_has_no_earlier_ids(database: &Database) {
    let with_namespace = |run, source, namespace| {
        let mut new = new_run(run, source);
        new.settings.namespace = Namespace::new(namespace);
        new
    };
    let first = begun(database, with_namespace("a", "s1", "one")).await;
    assert_eq!(database.store.earlier_ids(&first).await.unwrap(), EarlierIds::Nothing);
    let other = begun(database, with_namespace("b", "s2", "two")).await;
    assert_eq!(database.store.earlier_ids(&other).await.unwrap(), EarlierIds::Uuids);
    let same = begun(database, with_namespace("c", "s3", "one")).await;
    assert_eq!(database.store.earlier_ids(&same).await.unwrap(), EarlierIds::Any);
    assert_eq!(database.store.earlier_ids(&first).await.unwrap(), EarlierIds::Any, "whichever began first");
}

fn entries(chunk: &ScoredChunk) -> Vec<&Entry> {
    chunk.predicted.iter().map(|predicted| &predicted.entry).collect()
}

async fn the_same_content_is_found_with_its_prediction(database: &Database) {
    let store = &*database.store;
    let mut stored =
        chunk("a", 0, 1, &[Row::Scored(transaction(1, "-7.07"), "fraud", 0.97), scored(2, "1"), scored(3, "1")]);
    stored.predicted[1].prediction.fraud_score = None;
    stored.predicted[1].prediction.model_version = None;
    database.write(&[stored.clone()], IdConflict::Fail).await.unwrap();

    let mut spaced = transaction(3, "1.00");
    spaced.description = format!(" {} ", spaced.description);
    let mut other_id = chunk("b", 0, 11, &[scored(1, "-7.0700"), scored(1, "-7.08"), scored(2, "1"), scored(4, "1")]);
    other_id.predicted[2].entry.external_id = Some("another".into());
    let again =
        chunk("c", 0, 21, &[scored(1, "-7.07"), scored(1, "-7.07"), scored(2, "1"), Row::Scored(spaced, "x", 0.1)]);
    let of = |at: usize, row| KnownRow { row, prediction: stored.predicted[at].prediction.clone() };
    let found = |chunk: ScoredChunk| async move {
        let mut found = store.stored_predictions(&entries(&chunk)).await.unwrap();
        found.sort_by_key(|known| known.row);
        found
    };
    assert_eq!(found(other_id).await, [of(0, 11)]);
    assert_eq!(found(again).await, [of(0, 21), of(0, 22), of(1, 23), of(2, 24)]);
    assert_eq!(store.stored_predictions(&[]).await.unwrap(), []);
    // Without a stored prediction, it has to be scored.
    database.execute("DELETE FROM predictions").await;
    assert_eq!(found(stored.clone()).await, []);
}

/// A chunk whose rows all count as stored already.
fn known(chunk: ScoredChunk) -> ScoredChunk {
    let known = chunk.predicted.iter().map(|predicted| predicted.entry.row).collect();
    ScoredChunk { known, ..chunk }
}

async fn known_rows_are_duplicates(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk_of_ids("a", 0, 1, &[1, 2])], IdConflict::Fail).await.unwrap();
    for on_conflict in [IdConflict::Fail, IdConflict::Update] {
        let run = if on_conflict == IdConflict::Fail { "b" } else { "c" };
        let mut again = chunk_of_ids(run, 0, 1, &[1, 2, if run == "b" { 3 } else { 4 }]);
        again.known = vec![1, 2];
        let written =
            database.write(&[again.clone(), known(chunk_of_ids(run, 1, 4, &[2, 1]))], on_conflict).await.unwrap();
        assert_eq!(written.tally, Tally { predicted: 1, duplicate: 4, ..Tally::default() });
        assert_eq!(store.tally(&run_id(run)).await.unwrap(), written.tally);
        // Again, as after an error.
        database.write(&[again], on_conflict).await.unwrap();
        assert_eq!(store.tally(&run_id(run)).await.unwrap(), written.tally);
    }
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 0);
}

async fn known_rows_that_are_gone_fail_and_can_be_replayed(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    let mut again = chunk_of_ids("b", 0, 1, &[1, 2, 3]);
    again.known = vec![1, 2];
    let written = database.write(&[again], IdConflict::Fail).await.unwrap();
    let tally = Tally { predicted: 1, failed: 1, duplicate: 1, ..Tally::default() };
    assert_eq!((written.tally, written.transactions), (tally, 1));
    assert_eq!(store.tally(&run_id("b")).await.unwrap(), tally);
    assert_eq!(written.failed.get("unscored"), Some(&1));
    let failed = "SELECT row_number || '|' || class || '|' || attempts FROM failed_transactions";
    assert_eq!(database.texts(failed).await, ["2|unscored|0"]);
    let payload = &database.bytes("SELECT payload FROM failed_transactions").await[0];
    assert_eq!(serde_json::from_slice::<Entry>(payload).unwrap().row, 2);
    assert_eq!(database.count("SELECT count(*) FROM transactions").await, 2, "nothing is stored unscored");
}

async fn known_rows_that_differ_now_fail(database: &Database) {
    let store = &*database.store;
    database.write(&[chunk("a", 0, 1, &[scored(1, "2")])], IdConflict::Fail).await.unwrap();
    for (run, on_conflict, class) in [("b", IdConflict::Fail, "id_conflict"), ("c", IdConflict::Update, "unscored")] {
        database.write(&[known(chunk(run, 0, 1, &[scored(1, "1")]))], on_conflict).await.unwrap();
        let failed = format!("SELECT class FROM failed_transactions WHERE run_id = '{run}'");
        assert_eq!(database.texts(&failed).await, [class]);
        assert_eq!(store.tally(&run_id(run)).await.unwrap(), Tally { failed: 1, ..Tally::default() });
    }
    assert_eq!(database.count("SELECT count(*) FROM transaction_history").await, 0);
}

//! How far runs are, and lists of runs: their numbers agree.

use assay_store::{IdConflict, NewRun, RunFilter, TallySource};
use assay_transaction::Tally;

use crate::chunks::audit_context;
use crate::chunks::{Row, begin, chunk, chunk_of_ids, new_run, part, run_id, scored, transaction};
use crate::database::Database;

on_both! {
    both_ways_of_counting_agree,
    an_overview_is_of_one_point_in_time,
    runs_are_listed_by_filter,
}

async fn both_ways_of_counting_agree(database: &Database) {
    let store = &*database.store;
    let a = run_id("a");
    assert!(store.overview(&a, 60, TallySource::Chunks).await.unwrap().is_none());
    begin(store, "a").await;
    let rows = [scored(1, "1"), Row::Failed(transaction(2, "1")), Row::Invalid(b"x"), scored(1, "1"), scored(1, "2")];
    store.write(&[chunk("a", 0, 1, &rows), chunk_of_ids("a", 1, 6, &[7, 8])], IdConflict::Fail).await.unwrap();
    let expected = Tally { predicted: 3, invalid: 1, failed: 2, duplicate: 1 };
    let agreed = async |expected: Tally| {
        let rows = store.overview(&a, 60, TallySource::Rows).await.unwrap().unwrap();
        let chunks = store.overview(&a, 60, TallySource::Chunks).await.unwrap().unwrap();
        for overview in [&rows, &chunks] {
            assert_eq!(overview.tally, expected);
            assert_eq!(overview.tally.total(), overview.progress.rows_recorded);
            assert_eq!(overview.failed.iter().map(|(_, count)| count).sum::<u64>(), expected.failed);
        }
        assert_eq!(store.tally_by_chunk(&a).await.unwrap(), expected);
        let labels = rows.predictions.unwrap();
        assert_eq!(labels.iter().map(|label| label.count).sum::<u64>(), expected.predicted);
        assert_eq!(chunks.predictions, None, "that takes its time");
        assert!(chunks.held_by.is_some(), "its loader has just begun");
    };
    agreed(expected).await;
    // A replay trades one outcome for another.
    store.begin_replay(&a, &serde_json::json!({}), &audit_context()).await.unwrap();
    store.write_replay(&part("a", 1, 0, &[(2, scored(2, "1"))]), IdConflict::Fail).await.unwrap();
    agreed(Tally { predicted: 4, failed: 1, ..expected }).await;
}

async fn an_overview_is_of_one_point_in_time(database: &Database) {
    let store = std::sync::Arc::clone(&database.store);
    begin(&*store, "a").await;
    let writing = tokio::spawn({
        let store = std::sync::Arc::clone(&store);
        async move {
            for number in 0..40_u64 {
                let (row, id) = (number * 3 + 1, u128::from(number) * 2 + 1);
                let rows = [scored(id, "1"), scored(id + 1, "1"), Row::Invalid(b"x")];
                store.write(&[chunk("a", number, row, &rows)], IdConflict::Fail).await.unwrap();
            }
        }
    });
    while !writing.is_finished() {
        for counting in [TallySource::Rows, TallySource::Chunks] {
            let overview = store.overview(&run_id("a"), 60, counting).await.unwrap().unwrap();
            assert_eq!(overview.tally.total(), overview.progress.rows_recorded, "{counting:?}");
            assert_eq!(overview.tally.predicted, 2 * overview.progress.chunks_recorded);
            let labels = overview.predictions.into_iter().flatten().map(|label| label.count).sum::<u64>();
            assert!(counting == TallySource::Chunks || labels == overview.tally.predicted);
        }
    }
    writing.await.unwrap();
}

async fn runs_are_listed_by_filter(database: &Database) {
    let store = &*database.store;
    for (name, location) in
        [("a", "s3://bank/2026/day_1.csv"), ("b", "s3://bank/2026/day01.csv"), ("c", "/data/DAY_1.csv")]
    {
        store.begin_run(&NewRun { force: true, ..new_run(name, location) }).await.unwrap();
        database
            .execute(&format!("UPDATE runs SET started_at = {} WHERE run_id = '{name}'", ago(database, name)))
            .await;
    }
    store.write(&[chunk("b", 0, 1, &[Row::Failed(transaction(2, "1"))])], IdConflict::Fail).await.unwrap();
    let named = async |filter: RunFilter, skip, limit| {
        let runs = store.list_runs(&filter, skip, limit).await.unwrap();
        runs.into_iter().map(|run| run.run_id.to_string()).collect::<Vec<_>>()
    };
    let source = |source: &str| RunFilter { source: Some(source.into()), ..RunFilter::default() };
    assert_eq!(named(RunFilter::default(), 0, 9).await, ["c", "b", "a"]);
    assert_eq!(named(RunFilter::default(), 1, 1).await, ["b"]);
    assert_eq!(named(source("day_1"), 0, 9).await, ["c", "a"], "the text itself");
    assert_eq!(named(source("s3://bank/*.csv"), 0, 9).await, ["b", "a"]);
    assert_eq!(named(source("*/day?1.csv"), 0, 9).await, ["c", "b", "a"]);
    assert!(named(source("bank*"), 0, 9).await.is_empty(), "a pattern is of the whole");
    assert_eq!(named(RunFilter { seconds: Some(150.0), ..RunFilter::default() }, 0, 9).await, ["c", "b"]);
    assert_eq!(named(RunFilter { has_failed: true, ..RunFilter::default() }, 0, 9).await, ["b"]);
}

/// When a run began: the first 300 seconds ago, the others 100 later each.
fn ago(database: &Database, name: &str) -> String {
    let seconds = match name {
        "a" => 300,
        "b" => 100,
        _ => 50,
    };
    if database.is_sqlite() {
        format!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-{seconds} seconds')")
    } else {
        format!("now() - interval '{seconds} seconds'")
    }
}

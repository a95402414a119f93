//! What commits note of their rows: all of them, each once, and the same after it was summed up.

use std::collections::BTreeMap;

use assay_store::{HIGHEST, IdConflict, RunFilter, RunStatistics, TallySource};
use assay_transaction::{RunState, Tally};

use crate::chunks::{Row, begin, chunk, chunk_of_ids, finish, part, run_id, scored, transaction};
use crate::database::Database;
use crate::operations::removals::remove;

on_both! {
    every_outcome_is_noted_once,
    several_runs_of_a_commit_are_apart,
    rows_without_a_score_or_beyond_the_scale_are_counted,
    the_rows_with_the_highest_scores_are_named,
    a_replay_notes_what_it_stores,
    a_row_that_the_database_refuses_is_noted_as_failed,
    old_seconds_are_summed_up_by_the_minute,
    a_removed_run_has_none,
    tallies_are_those_of_each_run,
    runs_are_counted_and_selected_by_their_state,
}

async fn statistics(database: &Database, run: &str) -> RunStatistics {
    database.store.statistics(&run_id(run)).await.unwrap()
}

/// The sum of what was noted.
fn tally(statistics: &RunStatistics) -> Tally {
    statistics.moments.iter().fold(Tally::default(), |sum, moment| Tally {
        predicted: sum.predicted + moment.tally.predicted,
        invalid: sum.invalid + moment.tally.invalid,
        failed: sum.failed + moment.tally.failed,
        duplicate: sum.duplicate + moment.tally.duplicate,
    })
}

fn counts<const N: usize>(names: [(&str, u64); N]) -> BTreeMap<String, u64> {
    names.map(|(name, rows)| (name.to_owned(), rows)).into()
}

async fn every_outcome_is_noted_once(database: &Database) {
    let rows = [
        scored(1, "1"),
        Row::Scored(transaction(2, "1"), "fraud", 0.985),
        scored(1, "1"),
        Row::Failed(transaction(3, "1")),
        Row::Invalid(b"x"),
        Row::Invalid(b"y"),
    ];
    let chunk = chunk("a", 0, 1, &rows);
    for _ in 0..2 {
        database.write(std::slice::from_ref(&chunk), IdConflict::Fail).await.unwrap();
    }
    let noted = statistics(database, "a").await;
    let overview = database.store.overview(&run_id("a"), 60, TallySource::Rows).await.unwrap().unwrap();
    assert_eq!(tally(&noted), overview.tally);
    assert_eq!(tally(&noted), Tally { predicted: 2, invalid: 2, failed: 1, duplicate: 1 });
    assert_eq!(noted.labels, counts([("fraud", 1), ("legitimate", 1)]));
    assert_eq!(noted.invalid, counts([("amount_scale", 2)]));
    assert_eq!(noted.failed, counts([("rejected", 1)]));
    assert_eq!((noted.scores.bins[50], noted.scores.bins[197]), (1, 1));
    assert_eq!(noted.scores.bins.iter().sum::<u64>(), 2);
    let [moment] = noted.moments.as_slice() else { panic!("{:?}", noted.moments) };
    assert_eq!((moment.seconds, &moment.labels), (1, &noted.labels));
}

async fn several_runs_of_a_commit_are_apart(database: &Database) {
    let chunks = [chunk_of_ids("a", 0, 1, &[1, 2]), chunk_of_ids("b", 0, 1, &[2, 3, 4]), chunk_of_ids("a", 1, 3, &[5])];
    database.write(&chunks, IdConflict::Fail).await.unwrap();
    assert_eq!(tally(&statistics(database, "a").await), Tally { predicted: 3, ..Tally::default() });
    assert_eq!(tally(&statistics(database, "b").await), Tally { predicted: 2, duplicate: 1, ..Tally::default() });
    assert_eq!(statistics(database, "c").await, RunStatistics::default());
}

async fn rows_without_a_score_or_beyond_the_scale_are_counted(database: &Database) {
    let mut chunk = chunk_of_ids("a", 0, 1, &[1, 2, 3, 4]);
    for (predicted, score) in chunk.predicted.iter_mut().zip([None, Some(-3.5), Some(640.0), Some(1.0)]) {
        predicted.prediction.fraud_score = score;
    }
    database.write(&[chunk], IdConflict::Fail).await.unwrap();
    let scores = statistics(database, "a").await.scores;
    assert_eq!((scores.missing, scores.below, scores.above, scores.bins[199]), (1, 1, 1, 1));
}

async fn the_rows_with_the_highest_scores_are_named(database: &Database) {
    // More than are collected between two looks; in an order that finds the highest late, and early.
    for (number, turn) in [(0, false), (1, true)] {
        let ids: Vec<u128> = (0..1_000).map(|id| u128::from(number) * 1_000 + id).collect();
        let mut chunk = chunk_of_ids("a", number, number * 1_000 + 1, &ids);
        for (place, predicted) in (0_u32..).zip(&mut chunk.predicted) {
            let rank = if turn { 999 - place } else { place };
            predicted.prediction.fraud_score = Some(f64::from(rank) / 1_000.0);
        }
        database.write(&[chunk], IdConflict::Fail).await.unwrap();
    }
    let highest = statistics(database, "a").await.highest;
    let found: Vec<_> = highest.iter().take(4).map(|highest| (highest.row, highest.score)).collect();
    assert_eq!(found, [(1_000, 0.999), (1_001, 0.999), (999, 0.998), (1_002, 0.998)]);
    assert_eq!(highest.len(), HIGHEST);
}

async fn a_replay_notes_what_it_stores(database: &Database) {
    let rows = [scored(1, "1"), Row::Failed(transaction(2, "1")), Row::Failed(transaction(3, "1"))];
    database.write(&[chunk("a", 0, 1, &rows)], IdConflict::Fail).await.unwrap();
    let part = part("a", 1, 0, &[(2, scored(2, "1")), (3, Row::Failed(transaction(3, "1")))]);
    for _ in 0..2 {
        database.store.write_replay(&part, IdConflict::Fail).await.unwrap();
    }
    // The failures that were mended are still what was recorded then.
    assert_eq!(tally(&statistics(database, "a").await), Tally { predicted: 2, failed: 2, ..Tally::default() });
}

async fn a_row_that_the_database_refuses_is_noted_as_failed(database: &Database) {
    let mut chunk = chunk_of_ids("a", 0, 1, &[1, 2, 3]);
    chunk.predicted[1].prediction.fraud_score = Some(f64::NEG_INFINITY);
    database.write(&[chunk], IdConflict::Fail).await.unwrap();
    let noted = statistics(database, "a").await;
    assert_eq!(tally(&noted), Tally { predicted: 2, failed: 1, ..Tally::default() });
    assert_eq!((noted.failed, noted.scores.below), (counts([("database", 1)]), 0));
}

async fn old_seconds_are_summed_up_by_the_minute(database: &Database) {
    for (number, id) in [(0, 1), (1, 2), (2, 3)] {
        let chunk = chunk_of_ids("a", number, number + 1, &[id]);
        database.write(&[chunk], IdConflict::Fail).await.unwrap();
    }
    let store = &database.store;
    let lines = async || database.count("SELECT count(*) FROM run_statistics").await;
    assert!(!store.sum_up_statistics().await.unwrap());
    assert_eq!(lines().await, 3, "nothing is old");
    // Two within a minute that is over, one in the minute before. The facts name the row.
    for (row, at) in [(1, 1_200_001), (2, 1_200_030), (3, 1_199_990)] {
        let of_row = format!("replace(CAST(facts AS text), ' ', '') LIKE '%,{row}]]}}'");
        database.execute(&format!("UPDATE run_statistics SET at = {at} WHERE {of_row}")).await;
    }
    let before = statistics(database, "a").await;
    assert_eq!(before.moments.len(), 3);
    for _ in 0..2 {
        assert!(!store.sum_up_statistics().await.unwrap());
        let after = statistics(database, "a").await;
        assert_eq!(lines().await, 2);
        assert_eq!((tally(&after), &after.scores, &after.highest), (tally(&before), &before.scores, &before.highest));
        let moments: Vec<_> = after.moments.iter().map(|moment| (moment.seconds, moment.tally.predicted)).collect();
        assert_eq!(moments, [(60, 1), (60, 2)]);
    }
    // A commit that took long comes late.
    database.execute("UPDATE run_statistics SET at = 1200007, seconds = 1 WHERE at = 1199940").await;
    let both = tokio::join!(store.sum_up_statistics(), store.sum_up_statistics());
    assert!(matches!(both, (Ok(false), Ok(false))), "{both:?}");
    assert_eq!(lines().await, 1);
    assert_eq!(tally(&statistics(database, "a").await).predicted, 3);
}

async fn a_removed_run_has_none(database: &Database) {
    let store = &*database.store;
    begin(store, "a").await;
    store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    finish(store, "a", 1, 1).await;
    remove(store, "a", &["a"]).await;
    assert_eq!(statistics(database, "a").await, RunStatistics::default());
}

async fn tallies_are_those_of_each_run(database: &Database) {
    let rows = [scored(1, "1"), scored(1, "1"), Row::Invalid(b"x"), Row::Failed(transaction(3, "1"))];
    let chunks = [chunk("a", 0, 1, &rows), chunk_of_ids("b", 0, 1, &[5, 6]), chunk_of_ids("b", 1, 3, &[7])];
    database.write(&chunks, IdConflict::Fail).await.unwrap();
    let runs = [run_id("b"), run_id("none"), run_id("a")];
    let together = database.store.tallies_by_chunk(&runs).await.unwrap();
    let mut alone = Vec::new();
    for run in &runs {
        alone.push(database.store.tally_by_chunk(run).await.unwrap());
    }
    assert_eq!(together, alone);
    assert_eq!(together[2], Tally { predicted: 1, invalid: 1, failed: 1, duplicate: 1 });
    assert_eq!(database.store.tallies_by_chunk(&[]).await.unwrap(), []);
}

async fn runs_are_counted_and_selected_by_their_state(database: &Database) {
    let store = &*database.store;
    for name in ["a", "b", "c"] {
        begin(store, name).await;
    }
    store.write(&[chunk_of_ids("a", 0, 1, &[1])], IdConflict::Fail).await.unwrap();
    finish(store, "a", 1, 1).await;
    for (states, expected) in [
        (vec![], 3),
        (vec![RunState::Complete], 1),
        (vec![RunState::Loading, RunState::Sealed], 2),
        (vec![RunState::Failed], 0),
    ] {
        let filter = RunFilter { states, ..RunFilter::default() };
        assert_eq!(store.count_runs(&filter).await.unwrap(), expected, "{filter:?}");
        assert_eq!(store.list_runs(&filter, 0, 9).await.unwrap().len() as u64, expected, "{filter:?}");
    }
}

//! The law, over whatever may arrive: chunks in any order and batches, again and again, with ids that meet in every way.

use std::collections::{BTreeSet, HashSet};

use assay_store::{ChunkOutcome, IdConflict, Store};
use assay_transaction::{RunState, ScoredChunk};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::chunks::{Row, begin, chunk, finish, run_id, scored, transaction};
use crate::database::Database;

/// A row: what kind, and for scored ones which id and which content.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Scored { id: u128, amount: u8 },
    Refused { id: u128 },
    Failed,
    Invalid,
}

/// Rows of each chunk of two runs; then batches of chunks as they arrive.
#[derive(Debug, Clone)]
struct Arrivals {
    runs: [Vec<Vec<Kind>>; 2],
    batches: Vec<Vec<prop::sample::Index>>,
    update: bool,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => (0..10_u128, 0..3_u8).prop_map(|(id, amount)| Kind::Scored { id, amount }),
        1 => (0..10_u128).prop_map(|id| Kind::Refused { id }),
        1 => Just(Kind::Failed),
        1 => Just(Kind::Invalid),
    ]
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let run = || prop::collection::vec(prop::collection::vec(kinds(), 1..6), 1..6);
    let batches = prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..5), 0..12);
    (run(), run(), batches, any::<bool>()).prop_map(|(first, second, batches, update)| Arrivals {
        runs: [first, second],
        batches,
        update,
    })
}

fn chunks_of(name: &str, case: u128, run: &[Vec<Kind>]) -> Vec<ScoredChunk> {
    let row = |kind: &Kind| match kind {
        Kind::Scored { id, amount } => scored(case + id, &amount.to_string()),
        Kind::Refused { id } => Row::Scored(transaction(case + id, "1"), "x", -1.0),
        Kind::Failed => Row::Failed(transaction(case + 11, "1")),
        Kind::Invalid => Row::Invalid(b"\xff"),
    };
    let mut first_row = 1;
    let cut = |(number, kinds): (u64, &Vec<Kind>)| {
        let rows: Vec<Row> = kinds.iter().map(row).collect();
        let chunk = chunk(name, number, first_row, &rows);
        first_row += rows.len() as u64;
        chunk
    };
    (0..).zip(run).map(cut).collect()
}

async fn obeys(store: &dyn Store, case: u128, arrivals: &Arrivals) {
    let names = [format!("a-{case}"), format!("b-{case}")];
    let on_conflict = if arrivals.update { IdConflict::Update } else { IdConflict::Fail };
    let all: Vec<ScoredChunk> =
        names.iter().zip(&arrivals.runs).flat_map(|(name, run)| chunks_of(name, case * 100, run)).collect();
    for name in &names {
        begin(store, name).await;
    }
    let rows_of = |name: &String| {
        all.iter().filter(|chunk| chunk.id.run_id.as_str() == name).map(|chunk| chunk.range.rows).sum::<u64>()
    };
    let mut recorded = HashSet::new();
    let mut transactions = 0;
    let random = arrivals.batches.iter().map(|batch| batch.iter().map(|at| at.get(&all).clone()).collect::<Vec<_>>());
    // In the end everything has arrived at least once.
    for batch in random.chain(all.chunks(3).map(<[_]>::to_vec)) {
        let written = store.write(&batch, on_conflict).await.unwrap();
        transactions += written.transactions;
        for (chunk, outcome) in batch.iter().zip(written.outcomes) {
            let is_new = recorded.insert(chunk.id.clone());
            assert_eq!(outcome, if is_new { ChunkOutcome::Recorded } else { ChunkOutcome::Known });
        }
        for name in &names {
            let arrived: u64 = all
                .iter()
                .filter(|chunk| chunk.id.run_id.as_str() == name && recorded.contains(&chunk.id))
                .map(|chunk| chunk.range.rows)
                .sum();
            let tally = store.tally(&run_id(name)).await.unwrap();
            assert!(tally.accounts_for(arrived), "{tally:?} of {arrived} rows of {name}");
        }
    }
    let mut predicted = 0;
    for (name, run) in names.iter().zip(&arrivals.runs) {
        assert_eq!(finish(store, name, rows_of(name), run.len() as u64).await, RunState::Complete);
        let tally = store.tally(&run_id(name)).await.unwrap();
        assert!(tally.accounts_for(rows_of(name)));
        let counted: u64 = store.prediction_counts(&run_id(name)).await.unwrap().iter().map(|count| count.count).sum();
        assert_eq!(counted, tally.predicted);
        predicted += tally.predicted;
    }
    // Each id that came with acceptable data is stored, once.
    let scored = arrivals.runs.iter().flatten().flatten();
    let ids: BTreeSet<u128> =
        scored.filter_map(|kind| if let Kind::Scored { id, .. } = kind { Some(*id) } else { None }).collect();
    assert_eq!((predicted, transactions), (ids.len() as u64, ids.len() as u64));
}

fn holds(database: impl AsyncFnOnce() -> Database, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(database());
    let case = std::cell::Cell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&arrivals(), |arrivals| {
        case.set(case.get() + 1);
        runtime.block_on(obeys(&*database.store, case.get(), &arrivals));
        Ok(())
    });
    if let Err(TestError::Fail(reason, arrivals)) = result {
        panic!("{reason}\n{arrivals:#?}");
    }
    result.unwrap();
    runtime.block_on(database.store.close());
}

#[test]
fn holds_in_postgres() {
    holds(Database::postgres, 40);
}

#[test]
fn holds_in_sqlite() {
    holds(Database::sqlite, 80);
}

/// What an audit relies on: a row that is missing from any table is missing from the sum.
mod missing_rows {
    use crate::chunks::{Row, chunk, run_id, scored, transaction};
    use crate::database::Database;
    use assay_store::IdConflict;

    on_both! { every_one_is_noticed, }

    async fn every_one_is_noticed(database: &Database) {
        let store = &*database.store;
        let deletions = [
            "DELETE FROM transactions WHERE row_number = 1",
            "DELETE FROM predictions",
            "DELETE FROM invalid_transactions",
            "DELETE FROM failed_transactions",
            "UPDATE chunks SET duplicate_rows = NULL",
        ];
        for (number, deletion) in deletions.into_iter().enumerate() {
            let run = format!("run-{number}");
            let id = 10 * number as u128;
            let rows = [scored(id, "1"), scored(id, "1"), Row::Invalid(b"x"), Row::Failed(transaction(id + 1, "1"))];
            store.write(&[chunk(&run, 0, 1, &rows)], IdConflict::Fail).await.unwrap();
            assert!(store.tally(&run_id(&run)).await.unwrap().accounts_for(4));
            database.execute(deletion).await;
            assert!(store.tally(&run_id(&run)).await.unwrap().accounts_for(3), "{deletion}");
        }
    }
}

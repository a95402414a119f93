//! The law, over any history: chunks in any order and batches, repeatedly, with ids that meet in every way; failed
//! rows that are replayed; runs that are stopped before all of their chunks have arrived.

use std::collections::{BTreeSet, HashSet};

use assay_store::{ChunkOutcome, FailedRowSelection, IdConflict, ReplayCounts, RowOutcome, Store};
use assay_transaction::{Entry, RunState, ScoredChunk, ScoredReplay, StopKind, Transaction};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::chunks::{OWNER, Row, audit_context, begin, chunk, finish, part, run_id, scored, transaction};
use crate::database::Database;

/// A row: what kind, and for scored ones which id and which content.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Scored { id: u128, amount: u8 },
    Refused { id: u128 },
    Failed,
    Invalid,
}

/// The outcome of a replayed row.
#[derive(Debug, Clone, Copy)]
enum Again {
    Scored,
    Refused,
    Failed,
}

#[derive(Debug, Clone)]
enum Step {
    /// Chunks arrive.
    Arrive(Vec<prop::sample::Index>),
    /// Rows of a run are replayed, whether they failed or not.
    Replay { run: usize, rows: Vec<(prop::sample::Index, Again)> },
    /// A part is redelivered.
    Repeat(prop::sample::Index),
    /// A run is stopped, and sealed at what is recorded.
    Stop { run: usize, kind: StopKind },
}

/// Rows of each chunk of two runs; then the steps.
#[derive(Debug, Clone)]
struct History {
    runs: [Vec<Vec<Kind>>; 2],
    steps: Vec<Step>,
    update: bool,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => (0..10_u128, 0..3_u8).prop_map(|(id, amount)| Kind::Scored { id, amount }),
        1 => (0..10_u128).prop_map(|id| Kind::Refused { id }),
        2 => Just(Kind::Failed),
        1 => Just(Kind::Invalid),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let again = prop_oneof![4 => Just(Again::Scored), 1 => Just(Again::Refused), 1 => Just(Again::Failed)];
    prop_oneof![
        8 => prop::collection::vec(index(), 1..5).prop_map(Step::Arrive),
        6 => (0..2_usize, prop::collection::vec((index(), again), 1..6))
            .prop_map(|(run, rows)| Step::Replay { run, rows }),
        2 => index().prop_map(Step::Repeat),
        1 => (0..2_usize, prop_oneof![Just(StopKind::Cancelled), Just(StopKind::Aborted)])
            .prop_map(|(run, kind)| Step::Stop { run, kind }),
    ]
}

fn histories() -> impl Strategy<Value = History> {
    let run = || prop::collection::vec(prop::collection::vec(kinds(), 1..6), 1..6);
    let steps = prop::collection::vec(steps(), 0..16);
    (run(), run(), steps, any::<bool>()).prop_map(|(first, second, steps, update)| History {
        runs: [first, second],
        steps,
        update,
    })
}

fn chunks_of(name: &str, case: u128, run: &[Vec<Kind>]) -> Vec<ScoredChunk> {
    let row = |kind: &Kind| match kind {
        Kind::Scored { id, amount } => scored(case + id, &amount.to_string()),
        Kind::Refused { id } => Row::Scored(transaction(case + id, "1"), "x", f64::NEG_INFINITY),
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

/// The expected state of one run during its history.
struct RunExpectation {
    name: String,
    chunks: Vec<ScoredChunk>,
    recorded: HashSet<u64>,
    /// How it was stopped, and the number of chunks it was sealed with.
    stopped: Option<(StopKind, u64)>,
    parts: u64,
}

impl RunExpectation {
    fn rows_recorded(&self) -> u64 {
        let recorded = |chunk: &&ScoredChunk| self.recorded.contains(&chunk.id.chunk);
        self.chunks.iter().filter(recorded).map(|chunk| chunk.range.rows).sum()
    }
}

/// A history and its state so far.
struct LawWorld<'a> {
    store: &'a dyn Store,
    on_conflict: IdConflict,
    runs: [RunExpectation; 2],
    /// Ids that came with acceptable data.
    ids: BTreeSet<u128>,
    parts: Vec<ScoredReplay>,
}

impl LawWorld<'_> {
    async fn arrive(&mut self, batch: &[ScoredChunk]) {
        let written = self.store.write(batch, self.on_conflict).await.unwrap();
        for (chunk, outcome) in batch.iter().zip(written.outcomes) {
            let run = self.runs.iter_mut().find(|run| run.name == chunk.id.run_id.as_str()).unwrap();
            let expected = if run.recorded.contains(&chunk.id.chunk) {
                ChunkOutcome::AlreadyRecorded
            } else if run.stopped.is_some_and(|(_, end)| chunk.id.chunk >= end) {
                ChunkOutcome::Dropped
            } else {
                run.recorded.insert(chunk.id.chunk);
                let acceptable = chunk.predicted.iter().filter(|row| row.prediction.fraud_score >= Some(0.0));
                self.ids.extend(acceptable.map(|row| row.entry.transaction.id().unwrap().as_u128()));
                ChunkOutcome::Recorded
            };
            assert_eq!(outcome, expected, "{}", chunk.id);
        }
    }

    async fn replay(&mut self, run: usize, rows: &[(prop::sample::Index, Again)]) {
        let known = &mut self.runs[run];
        let id = run_id(&known.name);
        let failed = self.store.failed_rows(&id, &FailedRowSelection::default(), 0, 1_000).await.unwrap();
        let failed: Vec<(u64, Transaction)> = failed
            .iter()
            .map(|failed| (failed.row, serde_json::from_slice::<Entry>(&failed.payload).unwrap()))
            .map(|(row, entry)| (row, entry.transaction.decode().unwrap()))
            .collect();
        // Failed rows, and one that is not.
        let mut all = failed.clone();
        all.push((9_999, transaction(1, "1")));
        let rows: Vec<(u64, Row)> = rows
            .iter()
            .map(|(at, again)| (at.get(&all).clone(), again))
            .map(|((row, transaction), again)| match again {
                Again::Scored => (row, Row::Scored(transaction, "replayed", 0.5)),
                Again::Refused => (row, Row::Scored(transaction, "replayed", f64::NEG_INFINITY)),
                Again::Failed => (row, Row::Failed(transaction)),
            })
            .collect();
        let part = part(&known.name, 1, known.parts, &rows);
        known.parts += 1;
        let done = self.store.write_replay(&part, self.on_conflict).await.unwrap();
        let mut seen = HashSet::new();
        // The scored rows of a part come first.
        for predicted in &part.predicted {
            let row = predicted.entry.row;
            if seen.insert(row) && row != 9_999 && predicted.prediction.fraud_score >= Some(0.0) {
                self.ids.insert(predicted.entry.transaction.id().unwrap().as_u128());
            }
        }
        seen.extend(part.failed.iter().map(|failed| failed.entry.row));
        seen.remove(&9_999);
        let taken = seen.len() as u64;
        assert!(done.is_new && done.stored + done.failed == taken, "{done:?} of {taken}");
        assert_eq!(done.gone, rows.len() as u64 - taken);
        let left = self.store.failed_rows(&id, &FailedRowSelection::default(), 0, 1_000).await.unwrap();
        assert_eq!(left.len() as u64 + done.stored, failed.len() as u64);
        self.parts.push(part);
    }

    async fn stop(&mut self, run: usize, kind: StopKind) {
        let known = &mut self.runs[run];
        let id = run_id(&known.name);
        self.store.order_stop(&id, kind, "enough", &audit_context()).await.unwrap();
        self.store.evict(&id, OWNER).await.unwrap();
        let mut state = self.store.seal_stopped(&id).await.unwrap();
        if known.stopped.is_some() {
            // It was sealed before, and the writer of its last chunk closes it.
            state = self.store.close_run(&id).await.unwrap();
        }
        let end = known.recorded.iter().max().map_or(0, |last| last + 1);
        let (kind, end) = *known.stopped.get_or_insert((kind, end));
        let is_whole = known.recorded.len() as u64 == end;
        assert_eq!(state, if is_whole { kind.end_state() } else { RunState::Sealed });
    }

    async fn obeys(&self) {
        for known in &self.runs {
            let id = run_id(&known.name);
            let tally = self.store.tally(&id).await.unwrap();
            assert!(
                tally.accounts_for(known.rows_recorded()),
                "{tally:?} of {} in {}",
                known.rows_recorded(),
                known.name
            );
            let audit = self.store.audit(&id).await.unwrap().unwrap();
            assert_eq!((audit.breaches(), audit.tally), (vec![], tally), "{audit:?}");
        }
    }

    /// In the end, everything has arrived at least once.
    async fn ends(mut self) {
        let all: Vec<ScoredChunk> = self.runs.iter().flat_map(|run| run.chunks.clone()).collect();
        for batch in all.chunks(3) {
            self.arrive(batch).await;
        }
        self.obeys().await;
        let mut predicted = 0;
        for known in &self.runs {
            let (id, rows) = (run_id(&known.name), known.rows_recorded());
            let state = match known.stopped {
                None => finish(self.store, &known.name, rows, known.chunks.len() as u64).await,
                Some(_) => self.store.close_run(&id).await.unwrap(),
            };
            assert_eq!(state, known.stopped.map_or(RunState::Complete, |(kind, _)| kind.end_state()));
            let tally = self.store.tally(&id).await.unwrap();
            assert!(
                tally.accounts_for(rows)
                    && tally.accounts_for(self.store.run(&id).await.unwrap().unwrap().sealed.unwrap().rows_read)
            );
            let counts = self.store.recount(&id).await.unwrap().1;
            assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), tally.predicted);
            for row in 1..=rows {
                assert_ne!(self.store.row(&id, row).await.unwrap(), RowOutcome::Unrecorded, "{row}");
            }
            assert_eq!(self.store.row(&id, rows + 1).await.unwrap(), RowOutcome::Unrecorded);
            predicted += tally.predicted;
        }
        // Each id with acceptable data is stored, once.
        assert_eq!(predicted, self.ids.len() as u64);
        self.obeys().await;
    }
}

async fn plays(store: &dyn Store, case: u128, history: &History) {
    let known = |run: usize, letter: &str| {
        let name = format!("{letter}-{case}");
        let chunks = chunks_of(&name, case * 100, &history.runs[run]);
        RunExpectation { name, chunks, recorded: HashSet::new(), stopped: None, parts: 0 }
    };
    let runs = [known(0, "a"), known(1, "b")];
    for run in &runs {
        begin(store, &run.name).await;
    }
    let all: Vec<ScoredChunk> = runs.iter().flat_map(|run| run.chunks.clone()).collect();
    let on_conflict = if history.update { IdConflict::Update } else { IdConflict::Fail };
    let mut world = LawWorld { store, on_conflict, runs, ids: BTreeSet::new(), parts: Vec::new() };
    for step in &history.steps {
        match step {
            Step::Arrive(batch) => {
                world.arrive(&batch.iter().map(|at| at.get(&all).clone()).collect::<Vec<_>>()).await;
            }
            Step::Replay { run, rows } => world.replay(*run, rows).await,
            Step::Repeat(at) if !world.parts.is_empty() => {
                let again = store.write_replay(at.get(&world.parts), on_conflict).await.unwrap();
                assert_eq!(again, ReplayCounts::default());
            }
            Step::Repeat(_) => {}
            Step::Stop { run, kind } => world.stop(*run, *kind).await,
        }
        world.obeys().await;
    }
    world.ends().await;
}

/// Plays histories in one database, each with a number of its own, and shows the shortest failing one.
pub(crate) fn play<T: std::fmt::Debug>(
    database: impl AsyncFnOnce() -> Database,
    cases: u32,
    histories: impl Strategy<Value = T>,
    plays: &impl AsyncFn(&Database, u128, &T),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(database());
    let case = std::cell::Cell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&histories, |history| {
        case.set(case.get() + 1);
        runtime.block_on(plays(&database, case.get(), &history));
        Ok(())
    });
    if let Err(TestError::Fail(reason, history)) = result {
        panic!("{reason}\n{history:#?}");
    }
    result.unwrap();
    runtime.block_on(database.store.close());
}

fn holds(database: impl AsyncFnOnce() -> Database, cases: u32) {
    play(database, cases, histories(), &async |database: &Database, case, history: &History| {
        plays(&*database.store, case, history).await;
    });
}

#[test]
fn holds_in_postgres() {
    holds(Database::postgres, 40);
}

#[test]
fn holds_in_sqlite() {
    holds(Database::sqlite, 80);
}

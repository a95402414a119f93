//! Any history of loads, replays, removals, erasures and purges: the law holds for each run, nothing of a removed run is left, and what
//! is stored is what the other runs would have stored without it.

use std::collections::{BTreeMap, BTreeSet};

use assay_store::{FailedRowSelection, IdConflict, PurgeKind, PurgePosition, RemovalStart, RowOutcome, Store};
use assay_transaction::{Entry, TimeZone, Timestamp};
use proptest::prelude::*;

use crate::chunks::{Row, audit_context, begin, chunk, finish, part, run_id, scored, transaction};
use crate::database::Database;
use crate::law::play;
use crate::operations::erasures::erase;
use crate::operations::removals::remove;

/// Ids of one history.
const IDS: u128 = 6;

#[derive(Debug, Clone, Copy)]
enum RowKind {
    Scored { id: u128, amount: u8 },
    Failed { id: u128, amount: u8 },
    Invalid,
}

#[derive(Debug, Clone)]
enum HistoryStep {
    /// Loads a run of these chunks.
    Load(Vec<Vec<RowKind>>),
    /// Replays everything failed in a run, successfully.
    Replay(prop::sample::Index),
    /// Removes a run.
    Remove(prop::sample::Index),
    /// Erases an id.
    Erase(u128),
    /// Purges what all runs have left of invalid and failed rows.
    Purge,
}

#[derive(Debug, Clone)]
struct RemovalHistory {
    steps: Vec<HistoryStep>,
    update: bool,
}

fn kinds() -> impl Strategy<Value = RowKind> {
    prop_oneof![
        8 => (0..IDS, 1..4_u8).prop_map(|(id, amount)| RowKind::Scored { id, amount }),
        1 => (0..IDS, 1..4_u8).prop_map(|(id, amount)| RowKind::Failed { id, amount }),
        1 => Just(RowKind::Invalid),
    ]
}

fn histories() -> impl Strategy<Value = RemovalHistory> {
    let load = || prop::collection::vec(prop::collection::vec(kinds(), 1..5), 1..3).prop_map(HistoryStep::Load);
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        5 => load(),
        1 => index().prop_map(HistoryStep::Replay),
        3 => index().prop_map(HistoryStep::Remove),
        1 => (0..IDS).prop_map(HistoryStep::Erase),
        1 => Just(HistoryStep::Purge),
    ];
    (prop::collection::vec(step, 2..12), any::<bool>()).prop_map(|(steps, update)| RemovalHistory { steps, update })
}

/// A run as loaded, each row with its number.
struct LoadedRun {
    name: String,
    rows: Vec<RowKind>,
    is_removed: bool,
}

struct RemovalWorld<'a> {
    database: &'a Database,
    on_conflict: IdConflict,
    /// The first id of this history.
    base: u128,
    runs: Vec<LoadedRun>,
    /// Whether replays gave rows an outcome that depends on their order.
    is_replayed: bool,
    erased: BTreeSet<u128>,
    parts: u64,
}

impl RemovalWorld<'_> {
    fn store(&self) -> &dyn Store {
        &*self.database.store
    }

    fn names(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.name.clone()).collect()
    }

    async fn load(&mut self, chunks: &[Vec<RowKind>]) {
        // Names are in the order of beginnings, which may all be in the same millisecond.
        let name = format!("run-{:06}-{:02}", self.base / 1_000, self.runs.len());
        begin(self.store(), &name).await;
        let (mut first_row, mut rows) = (1, Vec::new());
        for (number, kinds) in (0..).zip(chunks) {
            let row = |kind: &RowKind| match kind {
                RowKind::Scored { id, amount } => scored(self.base + id, &amount.to_string()),
                RowKind::Failed { id, amount } => Row::Failed(transaction(self.base + id, &amount.to_string())),
                RowKind::Invalid => Row::Invalid(b"\xff"),
            };
            let chunk = chunk(&name, number, first_row, &kinds.iter().map(row).collect::<Vec<_>>());
            self.store().write(&[chunk], self.on_conflict).await.unwrap();
            first_row += kinds.len() as u64;
            rows.extend_from_slice(kinds);
        }
        finish(self.store(), &name, first_row - 1, chunks.len() as u64).await;
        self.runs.push(LoadedRun { name, rows, is_removed: false });
    }

    async fn replay(&mut self, at: usize) {
        let name = self.runs[at].name.clone();
        let failed = self.store().failed_rows(&run_id(&name), &FailedRowSelection::default(), 0, 1_000).await.unwrap();
        let content = |payload: &[u8]| serde_json::from_slice::<Entry>(payload).ok()?.transaction.decode().ok();
        let rows: Vec<_> = failed
            .iter()
            .filter_map(|failed| Some((failed.row, Row::Scored(content(&failed.payload)?, "replayed", 0.5))))
            .collect();
        self.is_replayed |= !rows.is_empty();
        self.parts += 1;
        self.store().write_replay(&part(&name, 1, self.parts, &rows), self.on_conflict).await.unwrap();
    }

    async fn remove(&mut self, at: usize) {
        if self.runs[at].is_removed {
            return;
        }
        let begun = self.store().begin_removal(&run_id(&self.runs[at].name), &audit_context()).await.unwrap();
        if matches!(begun, RemovalStart::Purged(_)) {
            return;
        }
        self.runs[at].is_removed = true;
        let names = self.names();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let removed = remove(self.store(), &self.runs[at].name, &all).await;
        // What was purged or erased before is a tombstone already.
        let tombstones = format!(
            "SELECT count(*) FROM failed_transactions WHERE run_id = '{}' AND class = 'removed'",
            self.runs[at].name
        );
        assert_eq!(removed.rows, u64::try_from(self.database.count(&tombstones).await).unwrap());
    }

    async fn erase(&mut self, id: u128) {
        erase(self.store(), &[self.base + id]).await;
        self.erased.insert(id);
        // Others store another content later than they would have without it.
        self.is_replayed = true;
    }

    async fn purge(&mut self) {
        let later = Timestamp::parse(b"2100-01-01T00:00:00Z", TimeZone::UTC).unwrap();
        let operation = self.store().begin_operation("purge", &serde_json::json!({}), &audit_context()).await.unwrap();
        for kind in [PurgeKind::Raw, PurgeKind::Failures, PurgeKind::History] {
            let mut from = Some(PurgePosition::default());
            while let Some(at) = from {
                from = self.store().purge_step(operation, kind, later, &at).await.unwrap().1;
            }
        }
        self.is_replayed = true;
    }

    async fn obeys(&self) {
        for id in &self.erased {
            let id = uuid::Uuid::from_u128(self.base + id);
            assert!(self.store().known_ids(&[id]).await.unwrap().is_empty(), "{id} is erased");
            assert!(self.store().find_duplicates(&[id], None).await.unwrap().0.is_empty(), "{id} is erased");
        }
        for run in &self.runs {
            let audit = self.store().audit(&run_id(&run.name)).await.unwrap().unwrap();
            assert_eq!((audit.breaches(), audit.tally.total()), (vec![], run.rows.len() as u64), "{audit:?}");
            if run.is_removed {
                assert_eq!(audit.tally.failed, run.rows.len() as u64);
                let name = &run.name;
                let left = format!(
                    "SELECT (SELECT count(*) FROM transactions WHERE run_id = '{name}')
                    + (SELECT count(*) FROM predictions WHERE run_id = '{name}')
                    + (SELECT count(*) FROM transaction_history WHERE replaced_by_run = '{name}')
                    + (SELECT count(*) FROM row_history WHERE run_id = '{name}')
                    + (SELECT count(*) FROM failed_transactions WHERE run_id = '{name}' AND length(payload) > 0)"
                );
                assert_eq!(self.database.count(&left).await, 0, "{name}");
            }
            for (row, kind) in (1..).zip(&run.rows) {
                let fate = self.store().row(&run_id(&run.name), row).await.unwrap();
                if let (RowOutcome::Duplicate { of, .. }, RowKind::Scored { .. }) = (&fate, kind) {
                    assert!(of.is_some(), "row {row} of {} is a duplicate of nothing", run.name);
                }
            }
        }
        self.leaves_no_content().await;
    }

    /// Each stored or replaced amount belongs to a row of a remaining run.
    async fn leaves_no_content(&self) {
        let mut said: BTreeMap<u128, BTreeSet<u8>> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| !run.is_removed) {
            for kind in &run.rows {
                if let RowKind::Scored { id, amount } | RowKind::Failed { id, amount } = kind {
                    said.entry(*id).or_default().insert(*amount);
                }
            }
        }
        for id in 0..IDS {
            let uuid = uuid::Uuid::from_u128(self.base + id);
            let stored = format!(
                "SELECT CAST(CAST(CAST(amount AS numeric) AS bigint) AS text) FROM transactions WHERE id = '{uuid}' UNION ALL
                SELECT CAST(CAST(CAST(\"transaction\"->>'amount' AS numeric) AS bigint) AS text) FROM transaction_history
                WHERE transaction_id = '{uuid}' AND \"transaction\"->>'amount' IS NOT NULL"
            );
            for amount in self.database.texts(&stored).await {
                let amount: u8 = amount.parse().unwrap();
                assert!(said.get(&id).is_some_and(|said| said.contains(&amount)), "{amount} of {id}: {said:?}");
            }
        }
    }

    /// With update, what is stored is what the remaining runs would have stored alone.
    async fn equals_the_history_without_it(&self) {
        if self.on_conflict != IdConflict::Update || self.is_replayed {
            return;
        }
        let mut expected: BTreeMap<u128, (String, u64, u8)> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| !run.is_removed) {
            for (row, kind) in (1..).zip(&run.rows) {
                let RowKind::Scored { id, amount } = kind else { continue };
                expected.entry(*id).or_insert_with(|| (run.name.clone(), row, *amount)).2 = *amount;
            }
        }
        for id in 0..IDS {
            let stored = self.store().transaction(uuid::Uuid::from_u128(self.base + id)).await.unwrap();
            let stored = stored.map(|stored| {
                assert!(stored.prediction.is_some());
                let amount = stored.transaction.amount.to_string();
                let whole = amount.split('.').next().unwrap().parse::<u8>().unwrap();
                (stored.run_id.to_string(), stored.row, whole)
            });
            assert_eq!(stored, expected.get(&id).cloned(), "{id}");
        }
    }
}

async fn plays(database: &Database, case: u128, history: &RemovalHistory) {
    let on_conflict = if history.update { IdConflict::Update } else { IdConflict::Fail };
    let (base, runs) = (case * 1_000, Vec::new());
    let mut world =
        RemovalWorld { database, on_conflict, base, runs, is_replayed: false, erased: BTreeSet::new(), parts: 0 };
    for step in &history.steps {
        match step {
            HistoryStep::Load(chunks) => world.load(chunks).await,
            HistoryStep::Erase(id) => world.erase(*id).await,
            HistoryStep::Purge => world.purge().await,
            HistoryStep::Replay(_) | HistoryStep::Remove(_) if world.runs.is_empty() => {}
            HistoryStep::Replay(at) => world.replay(at.index(world.runs.len())).await,
            HistoryStep::Remove(at) => world.remove(at.index(world.runs.len())).await,
        }
        world.obeys().await;
        world.equals_the_history_without_it().await;
    }
}

fn holds(database: impl AsyncFnOnce() -> Database, cases: u32) {
    play(database, cases, histories(), &plays);
}

#[test]
fn holds_in_postgres() {
    holds(Database::postgres, 40);
}

#[test]
fn holds_in_sqlite() {
    holds(Database::sqlite, 80);
}

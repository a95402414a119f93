//! How scored chunks become rows, the same for both databases.
//!
//! - `validate`: which chunks account for their rows; `chunks`: one transaction that records them
//! - `resolve_ids`: which of several rows with one id is stored; `same_content`: whether two contents say the same
//! - `erased`: rows whose ids must not come back
//! - `known_rows`: rows that were not scored because they were stored already
//! - `run_models`: which models scored a run
//! - `statistics`: what a commit notes of its rows
//! - `replay`: how replayed rows trade their failure for a new outcome
//! - `transaction`: the statements behind it, which `postgres::write` and `sqlite::write` implement

pub(crate) mod chunks;
pub(crate) mod erased;
pub(crate) mod known_rows;
pub(crate) mod replay;
pub(crate) mod resolve_ids;
pub(crate) mod run_models;
pub(crate) mod same_content;
pub(crate) mod statistics;
pub(crate) mod transaction;
pub(crate) mod validate;

use std::collections::{BTreeMap, BTreeSet};

use assay_transaction::{ScoredChunk, ScoredLive, ScoredReplay, Tally};
use async_trait::async_trait;

use crate::{DeadLetter, ReplayCounts, StoreError};

/// What happens to a transaction whose id is stored already with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum IdConflict {
    /// It becomes a failed transaction, class `id_conflict`, with both contents in its reason.
    #[default]
    Fail,
    /// It replaces the stored one and its prediction, which move to `transaction_history`; its row counts as a duplicate.
    Update,
}

/// The result of [`ChunkWriter::write`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteReport {
    /// Of each chunk, in the given order.
    pub outcomes: Vec<ChunkOutcome>,
    /// Newly stored transactions.
    pub transactions: u64,
    /// Index of the chunk, and row, of scored rows whose prediction was not stored, as their transaction is stored already
    /// or cannot be.
    pub unstored: BTreeSet<(usize, u64)>,
    /// The outcomes of the rows of newly recorded chunks.
    pub tally: Tally,
    /// How many of them failed, by class.
    pub failed: BTreeMap<String, u64>,
    /// Whether rows that the database refuses were searched for.
    pub is_bisected: bool,
}

/// The outcome of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// Newly recorded; each of its rows is accounted for.
    Recorded,
    /// Recorded before; nothing changed.
    AlreadyRecorded,
    /// Beyond the end of its stopped run, or of a removed run: it does not count, and nothing of it is stored.
    Dropped,
    /// Contradicts itself or what is recorded; nothing of it is stored.
    Refused {
        /// For a person.
        reason: String,
    },
}

/// What the writer does with a database. Every method is one transaction.
#[async_trait]
pub trait ChunkWriter: Send + Sync {
    /// Records chunks with all of their rows in one transaction. Recorded chunks change nothing, so after any error, even one
    /// of the commit, the same call may be repeated. A new chunk is refused if its run has not begun, or if it lies beyond the
    /// end of its sealed run; there it is dropped if the run was ordered to stop. If the record of a chunk was deleted by hand,
    /// its rows still count once: transactions stay as stored, invalid and failed rows are recorded anew.
    ///
    /// Of several rows with one id, the first stored one wins; within one call, the first in (run, chunk, row) order. A row
    /// whose data the database refuses becomes a failed transaction, class `database`, and all others are stored.
    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<WriteReport, StoreError>;

    /// Numbers live messages and records them as chunks, both in one transaction; returns the chunks with the result. `None` if that
    /// cannot be, and nothing has changed: a message comes too late for its run or is refused, or the database refuses a row.
    /// Then [`LiveLedger::number`](crate::LiveLedger::number) them first. As with [`ChunkWriter::write`], the same call may be
    /// repeated after any error.
    async fn write_live(
        &self,
        messages: &[ScoredLive],
        on_conflict: IdConflict,
    ) -> Result<Option<(Vec<ScoredChunk>, WriteReport)>, StoreError>;

    /// Gives replayed rows their new outcomes, in one transaction: scored ones are stored as [`ChunkWriter::write`] does, those
    /// that failed again keep failing, with their attempts added up. A row that is no longer failed changes nothing, and
    /// neither does a part that came before.
    async fn write_replay(&self, part: &ScoredReplay, on_conflict: IdConflict) -> Result<ReplayCounts, StoreError>;

    /// Makes rows that were written lately quick to find by their runs. Every query finds them before too, but takes longer.
    async fn summarise_rows(&self) -> Result<(), StoreError>;

    /// Sums up by the minute what commits noted more than two minutes ago, some of it; returns whether more is left.
    async fn sum_up_statistics(&self) -> Result<bool, StoreError>;

    /// Records a dead letter; returns whether it was new. A known one that comes again is unresolved again, whatever was done
    /// about it.
    async fn record_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError>;
}

/// How a transaction copes with rows that may be refused. A failed one is rolled back as a whole, and the next attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The fast way, which nearly always succeeds: it may fail over an id that is stored already.
    Copy,
    /// Copes with stored ids; fails over data that the database refuses.
    Upsert,
    /// Copes with both: finds the rows at fault.
    Bisect,
}

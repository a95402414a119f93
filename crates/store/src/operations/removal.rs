//! Removing a finished run: the steps, and what each of them did. No I/O: the SQL is in `sql::operations::removal`.
//!
//! A run of any size is removed in steps, each one transaction of bounded size after which the law holds, so that an
//! interrupted removal resumes. First its transactions pass to rows of other runs that count them as duplicates; then
//! each of its rows becomes a tombstone; then what it replaced returns from the history.
//!
//! No step runs while another transaction has compared a row with a stored one and has not committed the outcome:
//! that transaction shares the lock of [`REMOVALS`], and each step takes it alone. So no row counts as a duplicate of
//! a transaction that is gone.

use assay_transaction::{Run, RunId};
use serde::Serialize;

/// The name of the lock that keeps removals from taking a step; no run has it.
pub(crate) const REMOVALS: &str = "removals of runs";
/// Most duplicates of one step, unless a single chunk has more.
pub(crate) const MAX_DUPLICATES: u64 = 10_000;
/// Most chunks with duplicates of one step.
pub(crate) const MAX_CHUNKS: u32 = 200;
/// Most rows that one step turns into tombstones, unless a single chunk has more.
pub(crate) const MAX_ROWS: u64 = 5_000;
/// Most transactions that one step restores.
pub(crate) const MAX_REPLACED: u32 = 2_000;
/// The reason of a tombstone.
pub(crate) const TOMBSTONE: &str = "removed with its run";
/// The reason of a conflict whose other side has changed.
pub(crate) const CONFLICT_GONE: &str =
    "another transaction with this id was stored, but part of it was removed since: replay it";

/// The result of beginning a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalStart {
    /// It began with this call.
    Started(Run),
    /// It was begun before, and continues.
    Resumed(Run),
    /// It is done already: nothing is left of the run.
    Done(Run),
    /// The run is not finished: cancel it first.
    Unfinished(Run),
    /// Chunks of it are missing, as in a restored database: repair it first, as later that is impossible.
    Incomplete(Run),
    /// What the run replaced was purged, so it cannot be restored: erase its transactions instead.
    Purged(Run),
    /// The removal of another run is not done: only one runs at a time.
    Other(RunId),
}

/// The next step of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RemovalStep {
    /// The first one.
    #[default]
    Start,
    /// Passes transactions on to rows of this run from a chunk on, then to those of runs that began later.
    PassOn {
        /// The run that may inherit.
        heir: RunId,
        /// The next of its chunks.
        chunk: u64,
    },
    /// Turns duplicates into tombstones from a chunk on, before what they repeat is gone.
    Duplicates {
        /// The next chunk of the run.
        chunk: u64,
    },
    /// Turns all other rows into tombstones from a chunk on.
    Tombstones {
        /// The next chunk of the run.
        chunk: u64,
    },
    /// Restores what the run replaced.
    Restore,
}

/// What a step did, or what all of them would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RemovalCounts {
    /// Rows of the run that became tombstones.
    pub rows: u64,
    /// Transactions that now belong to other runs, which counted them as duplicates.
    pub passed_on: u64,
    /// Transactions that the run had replaced, restored.
    pub restored: u64,
}

impl std::ops::AddAssign for RemovalCounts {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.passed_on += other.passed_on;
        self.restored += other.restored;
    }
}

/// What a removal would do, counted beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovalPlan {
    /// The runs that would inherit transactions, and how many, the most first.
    pub passed_on: Vec<(RunId, u64)>,
    /// Transactions of other runs that would be restored.
    pub restored: u64,
    /// Dead letters that would lose their body.
    pub dead_letters: u64,
}

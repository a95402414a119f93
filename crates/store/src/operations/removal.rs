//! Taking back a run that is finished: the steps, and what each of them did. No I/O: the SQL is in `sql::removal`.
//!
//! A run of any size is removed in steps, each one transaction of bounded size after which the law holds, so that a removal that is
//! interrupted goes on where it was. First its transactions pass to rows of other runs that count them as duplicates; then each of its rows
//! becomes a tombstone; then what it has replaced returns from the history.
//!
//! No step is taken while another transaction has compared a row with what is stored and has not yet committed what came of it: whoever
//! does so holds the lock of [`REMOVALS`] shared, and each step holds it alone. So no row is booked as the duplicate of a transaction
//! that is gone.

use assay_transaction::{Run, RunId};
use serde::Serialize;

/// The name of the lock that keeps removals from taking a step. No run has it.
pub(crate) const REMOVALS: &str = "removals of runs";
/// Most duplicates that one step looks at, but for those of a single chunk.
pub(crate) const MAX_DUPLICATES: u64 = 10_000;
/// Most chunks of which one step looks at duplicates.
pub(crate) const MAX_CHUNKS: u32 = 200;
/// Rows that one step turns into tombstones, but for those of a single chunk.
pub(crate) const MAX_ROWS: u64 = 5_000;
/// Transactions whose history one step mends.
pub(crate) const MAX_REPLACED: u32 = 2_000;
/// What a tombstone says in place of why a row failed.
pub(crate) const TOMBSTONE: &str = "removed with its run";
/// What a conflict says whose other side is no longer what it was.
pub(crate) const CONFLICT_GONE: &str =
    "another transaction with this id was stored, of which something was removed since: replay it";

/// What came of beginning to remove a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalBegun {
    /// It begins now.
    Now(Run),
    /// It was begun before, and goes on.
    Before(Run),
    /// It is done already: nothing is left of the run.
    Done(Run),
    /// The run is not finished, and has to be cancelled first.
    Unfinished(Run),
    /// Chunks of it are missing, as of a database that was restored: it has to be repaired first, as nobody can do so later.
    Incomplete(Run),
    /// The removal of another run was begun and is not done: there is one at a time.
    Other(RunId),
}

/// Where a removal is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RemovalStep {
    /// Before everything.
    #[default]
    Start,
    /// Transactions pass to other runs: to rows of this one's chunks from a number on, then of those that began later.
    PassOn {
        /// The run that may inherit.
        heir: RunId,
        /// The next of its chunks.
        chunk: u64,
    },
    /// Rows that are duplicates become tombstones, from a chunk on: before what they repeat is gone.
    Duplicates {
        /// The next chunk of the run.
        chunk: u64,
    },
    /// The other rows do, from a chunk on.
    Entomb {
        /// The next chunk of the run.
        chunk: u64,
    },
    /// What the run has replaced returns.
    Restore,
}

/// What a step did, or all of them would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Removed {
    /// Rows of the run that are tombstones now.
    pub rows: u64,
    /// Its transactions that belong to other runs now, which counted them as duplicates.
    pub passed_on: u64,
    /// Transactions that are again what they were before the run replaced them.
    pub restored: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.passed_on += other.passed_on;
        self.restored += other.restored;
    }
}

/// What a removal would do, counted beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovalPlan {
    /// To which runs transactions would pass, and how many, the most first.
    pub passed_on: Vec<(RunId, u64)>,
    /// How many transactions of other runs would be what they were before this one replaced them.
    pub restored: u64,
    /// How many dead letters would lose what they said.
    pub dead_letters: u64,
}

//! Retention and erasure: what a purge takes by age, and an erasure by id, and what they leave. No I/O: the SQL is in
//! `sql::operations::privacy`.
//!
//! Both work in steps, each one transaction of bounded size after which the law holds, under the lock of removals. What is taken
//! leaves a tombstone that names its operation; the operation counts what was taken in the same transaction, so its counts are
//! right whenever the work is stopped.

use assay_transaction::{RunId, Timestamp};
use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::{AuditContext, InvalidRecord, OperationRecord, StoreError};

/// The name of the lock that writers share, and that an erasure takes alone while it lists its ids; no run has it.
pub(crate) const ERASURES: &str = "erasures of transactions";
/// The reason of an erased row.
pub(crate) const ERASED: &str = "erased";
/// Rows, letters or entries of one step.
pub(crate) const MAX_PURGED: u32 = 5_000;
/// Most ids of one step of an erasure.
pub const MAX_ERASED: usize = 200;
/// Chunks with duplicates that are searched at a time.
pub(crate) const MAX_SEARCHED: u32 = 1_000;

/// What a purge takes, always of the time before a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum PurgeKind {
    /// The raw text of invalid rows, of runs that had finished by then
    Raw,
    /// The payloads of failed transactions, of runs that had finished by then: they can no longer be replayed
    Failures,
    /// The bodies of dead letters that came before, without those that keep a run from being complete
    DeadLetters,
    /// The earlier contents of transactions that were replaced before
    History,
    /// The names of live messages, of runs that had finished by then
    LiveMessages,
    /// The refusal of ids that were erased before: they could be stored again. Only if it is named
    ErasedIds,
}

impl PurgeKind {
    /// What is purged unless kinds are named.
    pub const BY_DEFAULT: [Self; 5] = [Self::Raw, Self::Failures, Self::DeadLetters, Self::History, Self::LiveMessages];

    /// As it is named on the command line and in `operations`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Failures => "failures",
            Self::DeadLetters => "dead-letters",
            Self::History => "history",
            Self::LiveMessages => "live-messages",
            Self::ErasedIds => "erased-ids",
        }
    }
}

/// Rows, letters or entries, and the bytes of their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PurgeCounts {
    /// How many.
    pub rows: u64,
    /// The bytes of their content.
    pub bytes: u64,
}

impl std::ops::AddAssign for PurgeCounts {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Where the next step of a purge goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgePosition {
    /// A run, or nothing.
    pub(crate) run_id: String,
    /// A row of it, or the number of a letter or entry.
    pub(crate) number: i64,
    /// A message of it, or the digest of an id.
    pub(crate) name: String,
}

/// What an erasure took, or would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ErasureCounts {
    /// Stored transactions, with their predictions.
    pub transactions: u64,
    /// Rows that had failed.
    pub failed: u64,
    /// Rows that counted as duplicates.
    pub duplicates: u64,
    /// Rows that were invalid.
    pub invalid: u64,
    /// Earlier contents of transactions.
    pub history: u64,
    /// Dead letters, whose whole body is gone.
    pub dead_letters: u64,
    /// Live messages without any other row.
    pub live_messages: u64,
}

impl std::ops::AddAssign for ErasureCounts {
    fn add_assign(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.duplicates += other.duplicates;
        self.invalid += other.invalid;
        self.history += other.history;
        self.dead_letters += other.dead_letters;
        self.live_messages += other.live_messages;
    }
}

impl ErasureCounts {
    /// Each count by its name in `operations`.
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("transactions", self.transactions),
            ("failed", self.failed),
            ("duplicates", self.duplicates),
            ("invalid", self.invalid),
            ("history", self.history),
            ("dead_letters", self.dead_letters),
            ("live_messages", self.live_messages),
        ]
    }
}

/// A chunk in which rows count as duplicates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkPlace {
    /// The run.
    pub run_id: RunId,
    /// The chunk.
    pub chunk: u64,
}

/// The body of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterBody {
    /// The letter's number.
    pub id: u64,
    /// Its body, which is not empty.
    pub body: Vec<u8>,
}

/// Tombstones of a run that one operation left.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tombstones {
    /// `removed`, `purged` or `erased`.
    pub class: String,
    /// How many.
    pub rows: u64,
    /// The operation; none for rows that `assay remove` took, as the run says so itself.
    pub operation: Option<OperationRecord>,
}

/// Retention and erasure. Every method is one transaction, or a read.
#[async_trait]
pub trait Privacy: Send + Sync {
    /// What a purge of this kind would take. For dead letters, those that keep a run from being complete are not in it.
    async fn plan_purge(&self, kind: PurgeKind, before: Timestamp) -> Result<PurgeCounts, StoreError>;

    /// Begins a purge or an erasure: records the operator, and returns the number of the operation.
    async fn begin_operation(
        &self,
        action: &str,
        details: &serde_json::Value,
        audit: &AuditContext,
    ) -> Result<u64, StoreError>;

    /// Takes one step of a purge from a position on; returns what it took, and where the next one begins, unless it was the last.
    async fn purge_step(
        &self,
        operation: u64,
        kind: PurgeKind,
        before: Timestamp,
        from: &PurgePosition,
    ) -> Result<(PurgeCounts, Option<PurgePosition>), StoreError>;

    /// Lists ids of an erasure as erased, once all writers at work have ended: from then on, no row with such an id is stored.
    async fn refuse_ids(&self, operation: u64, ids: &[Uuid]) -> Result<(), StoreError>;

    /// Those of the ids that are stored, failed or in the history.
    async fn known_ids(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError>;

    /// Those of the transactions that rows of chunks behind `after` count as duplicates of, each with such a chunk; and where the
    /// search goes on, unless it is done.
    async fn find_duplicates(
        &self,
        ids: &[Uuid],
        after: Option<&ChunkPlace>,
    ) -> Result<(Vec<(Uuid, ChunkPlace)>, Option<ChunkPlace>), StoreError>;

    /// What erasing these ids would take, apart from invalid rows, dead letters and live messages. `duplicates` are all chunks that
    /// [`Privacy::find_duplicates`] names for them.
    async fn plan_erasure(&self, ids: &[Uuid], duplicates: &[ChunkPlace]) -> Result<ErasureCounts, StoreError>;

    /// Erases everything with these ids, at most [`MAX_ERASED`] of them. They are listed as erased before
    /// ([`Privacy::refuse_ids`]), and the chunks with their duplicates found after that.
    async fn erase_ids(
        &self,
        operation: u64,
        ids: &[Uuid],
        duplicates: &[ChunkPlace],
    ) -> Result<ErasureCounts, StoreError>;

    /// Erases invalid and failed rows by their numbers, at most [`MAX_ERASED`] of them.
    async fn erase_rows(&self, operation: u64, rows: &[(RunId, u64)]) -> Result<ErasureCounts, StoreError>;

    /// Empties the bodies of dead letters.
    async fn erase_letters(&self, operation: u64, letters: &[u64]) -> Result<ErasureCounts, StoreError>;

    /// Invalid rows of all runs behind a row, in order, at most `limit` of them.
    async fn all_invalid_rows(
        &self,
        after: Option<(&RunId, u64)>,
        limit: u32,
    ) -> Result<Vec<InvalidRecord>, StoreError>;

    /// Bodies of dead letters behind a number, in order, at most `limit` of them.
    async fn letter_bodies(&self, after: u64, limit: u32) -> Result<Vec<LetterBody>, StoreError>;

    /// The tombstones of a run, by class and operation.
    async fn tombstones(&self, run_id: &RunId) -> Result<Vec<Tombstones>, StoreError>;

    /// An operation by its number.
    async fn operation(&self, operation: u64) -> Result<Option<OperationRecord>, StoreError>;
}

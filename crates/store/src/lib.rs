//! The database seam: PostgreSQL and SQLite behind one trait, and the ledger of runs and chunks.
//!
//! - `store`: the trait [`Store`] that programs hold. It consists of [`RunLedger`] (loader), [`ChunkWriter`] (writer),
//!   [`LiveLedger`] (streamer and writer), [`Operations`] (operators) and [`Privacy`] (retention and erasure)
//! - `ledger`, `write`, `operations`: these traits, with their types and the rules that need no I/O
//! - `options`, `connect`, `schema`: from the settings to a database with its tables
//! - `diagnose`: what `assay doctor` asks
//! - `error`: what can go wrong, and who has to act; SQLSTATEs are classified there and nowhere else
//! - `postgres`, `sqlite`: what only one database does; `sql`: statements that both share, compiled for each of them
//! - `values`: how values go into columns and come out of them
//!
//! `sqlx` is used in this crate alone. Both databases pass the contract suite in `tests/it`.

mod connect;
mod diagnose;
mod error;
mod ledger;
mod operations;
mod options;
mod postgres;
mod schema;
mod sqlite;
mod store;
mod values;
mod write;

pub use connect::{MigrationReport, connect, migrate};
pub use diagnose::{CopyRate, POSTGRESQL, SQLITE, diagnose, measure_copy};
pub use error::{ErrorClass, StoreError};
pub use ledger::begin::{EarlierIds, NewRun, RunStart, SourceState};
pub use ledger::lease::{Lease, LeaseAttempt, LeaseRenewal};
pub use ledger::live::{LiveCount, LiveLedger, Numbering, UnnumberedMessage};
pub use ledger::sealing::SealOutcome;
pub use ledger::{RecordedChunk, RecordedProgress, RunLedger};
pub use operations::Operations;
pub use operations::audit::{Audit, AuditBreach, StrayRun, Strays};
pub use operations::filters::{FailedRowSelection, RunFilter, parse_row_range};
pub use operations::overview::{PredictionCount, RunModel, RunOverview, RunPace, TallySource};
pub use operations::privacy::{
    ChunkPlace, ErasureCounts, LetterBody, MAX_ERASED, Privacy, PurgeCounts, PurgeKind, PurgePosition, Tombstones,
};
pub use operations::records::{
    AuditContext, DeadLetter, DeadLetterOutcome, DeadLetterRecord, EarlierFailure, FailedRecord, InvalidRecord,
    OpenDeadLetter, OpenRun, OperationRecord, PredictionRecord, ReplayCounts, RowOutcome, StopOutcome,
    TransactionRecord,
};
pub use operations::removal::{RemovalCounts, RemovalPlan, RemovalStart, RemovalStep};
pub use operations::statistics::{HIGHEST, HighestScore, RecordedMoment, RunStatistics, SCORE_BINS, ScoreHistogram};
pub use options::{DatabaseEndpoint, DatabaseOptions};
pub use store::{Store, health_check};
pub use write::{ChunkOutcome, ChunkWriter, IdConflict, WriteReport};

//! The database seam: PostgreSQL and SQLite behind one trait, and the ledger of runs and chunks.
//!
//! - `store`: the trait [`Store`] that programs hold. It consists of [`RunLedger`] (loader), [`ChunkWriter`] (writer),
//!   [`LiveLedger`] (streamer and writer) and [`Operations`] (operators)
//! - `ledger`, `write`, `operations`: these traits, with their types and the rules that need no I/O
//! - `options`, `connect`, `schema`: from the settings to a database with its tables
//! - `error`: what can go wrong, and who has to act; SQLSTATEs are classified there and nowhere else
//! - `postgres`, `sqlite`: what only one database does; `sql`: statements that both share, compiled for each of them
//! - `values`: how values go into columns and come out of them
//!
//! `sqlx` is used in this crate alone. Both databases pass the contract suite in `tests/it`.

mod connect;
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

pub use connect::{Migrated, connect, migrate};
pub use error::{ErrorClass, StoreError};
pub use ledger::begin::{Begun, Earlier, Known, NewRun};
pub use ledger::lease::{Lease, Renewed, Taken};
pub use ledger::live::{LiveArrival, LiveCount, LiveLedger, Numbering};
pub use ledger::sealing::Sealing;
pub use ledger::{Progress, RecordedChunk, RunLedger};
pub use operations::Operations;
pub use operations::audit::{Audit, Breach, Stray, Strays};
pub use operations::filters::{RunFilter, Selection};
pub use operations::overview::{Counting, Overview, Pace, PredictionCount};
pub use operations::records::{
    Act, DeadLetter, DeadLetterOutcome, DeadLetterRecord, EarlierFailure, Exchanged, FailedRecord, InvalidRecord,
    OpenLetter, OpenRun, Operation, PredictionRecord, RowFate, Stopping, TransactionRecord,
};
pub use operations::removal::{RemovalBegun, RemovalPlan, RemovalStep, Removed};
pub use options::{DatabaseEndpoint, DatabaseOptions};
pub use store::{Store, health_check};
pub use write::{ChunkOutcome, ChunkWriter, IdConflict, Written};

//! The database seam: PostgreSQL and SQLite behind one trait; the ledger of runs and chunks.
//!
//! - `store`: the trait [`Store`], what the stages need, and what its methods take and give
//! - `operations`: the trait [`Operations`], what operators ask and order; `audit`: what an audit finds, and what is wrong with it
//! - `overview`: how far runs are, and which are meant
//! - `options`, `connect`, `schema`: from the settings to a database whose tables are there
//! - `error`: what can go wrong, and who has to act; SQLSTATE classes are decided there and nowhere else
//! - `write`: how scored chunks become rows, the same for both databases; it drives a `Session`, one open transaction.
//!   `screening` says which chunks get that far, `booking` which of two rows with one id is stored, `alike` whether
//!   they say the same. `exchange`: how failed
//!   rows that were sent again give way to their new outcomes
//! - `removal`: how a finished run is taken back, step by step
//! - `lease`: which loader reads the source of a run; `live`: the trait [`LiveLedger`], runs of live transactions
//! - `ledger`, `selection`: what the SQL asks for and answers with, without I/O; `first_gap`: which chunk of a run is looked for
//! - `postgres`, `sqlite`: the SQL; `sql`: what they say in the same words, compiled for each of them
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
mod write;

pub use connect::{Migrated, connect, migrate};
pub use error::{ErrorClass, StoreError};
pub use ledger::lease::{Lease, Renewed, Taken};
pub use ledger::live::{LiveArrival, LiveCount, LiveLedger, Numbering};
pub use operations::audit::{Audit, Breach, Stray, Strays};
pub use operations::overview::{Counting, Overview, RunFilter};
pub use operations::removal::{RemovalBegun, RemovalPlan, RemovalStep, Removed};
pub use operations::{
    Act, DeadLetter, DeadLetterOutcome, DeadLetterRecord, EarlierFailure, Exchanged, FailedRecord, InvalidRecord,
    OpenLetter, OpenRun, Operation, Operations, Pace, PredictionRecord, RowFate, Selection, Stopping,
    TransactionRecord,
};
pub use options::DatabaseOptions;
pub use store::{
    Begun, ChunkOutcome, Earlier, IdConflict, Known, NewRun, PredictionCount, Progress, RecordedChunk, Sealing, Store,
    Written, health_check,
};

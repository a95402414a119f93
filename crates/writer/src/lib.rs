//! The writer: scored chunks of both lanes become rows in the database, many chunks in one transaction.
//!
//! The way of a chunk: the queue crate collects a batch by `DB_ROW_BATCH_SIZE` and `FLUSH_INTERVAL`; `writing` has the
//! store write it in one transaction, closes the runs it belongs to, and only then are the chunks acknowledged. While the
//! database is away the batch is held and tried again: nothing is acknowledged that is not committed.

mod arguments;
mod closing;
mod error;
mod options;
mod progress;
mod run;
mod writing;

pub use arguments::Arguments;
pub use error::WriteError;
pub use options::WriterOptions;
pub use progress::WriteProgress;
pub use run::run;

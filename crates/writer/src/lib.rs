//! The writer: scored chunks of both lanes become rows in the database, many chunks in one transaction.
//!
//! The way of a chunk: the queue crate collects a batch by `DB_ROW_BATCH_SIZE` and `FLUSH_INTERVAL`; `writing` has the
//! store write it in one transaction, closes the runs it belongs to, and only then are the chunks acknowledged. While the
//! database is away the batch is held and tried again (`patience`): nothing is acknowledged that is not committed. Beside
//! the lanes, `dead_letters` books what the broker gave up, `closing` and `sweep` end runs, and `feed` tells others of what
//! was stored.

mod arguments;
mod close;
mod dead_letters;
mod error;
mod feed;
mod message;
mod metrics;
mod options;
mod patience;
mod progress;
mod run;
mod sweep;
mod write;

pub use arguments::Arguments;
pub use error::WriteError;
pub use options::{PredictionFeed, WriterOptions};
pub use progress::WriteProgress;
pub use run::run;

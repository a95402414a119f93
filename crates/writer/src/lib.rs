//! The writer: scored chunks of both lanes become rows in the database, many chunks in one transaction.
//!
//! The queue crate collects a batch by `DB_ROW_BATCH_SIZE` and `FLUSH_INTERVAL`; `write` stores it in one transaction, closes
//! finished runs, and only then are its messages acknowledged. While the database is unreachable, the batch is held and retried
//! (`retry`). Alongside, `dead_letters` records what the broker gave up, `sweep` closes runs, `summaries` has the database keep
//! rows quick to find, `feed` announces stored predictions, and `identities` tells the predictors how ids become identities.

mod arguments;
mod dead_letters;
mod error;
mod feed;
mod identities;
mod message;
mod metrics;
mod options;
mod progress;
mod retry;
mod run;
mod summaries;
mod sweep;
mod write;

pub use arguments::Arguments;
pub use error::WriteError;
pub use options::{PredictionFeed, WriterOptions};
pub use progress::WriteProgress;
pub use run::run;

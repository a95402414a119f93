//! The predictor: takes chunks of both lanes, has their transactions scored by the ML API, and publishes scored chunks.
//!
//! The way of a chunk: the queue crate hands it to `scoring`, which asks the ML API and publishes the answers for the
//! writer; once that is confirmed, the queue crate acknowledges the chunk. So a predictor that dies holds up no row: its
//! chunks are delivered again, and the writer books an identity once. Live messages
//! share requests (`micro_batch`) and go on one by one; those that know nothing of Assay are read by `foreign`.
//! Parts of a replay go the same way (`task`); chunks of
//! a run that was `stopped` are not scored, and go on to the writer as failed.

mod arguments;
mod error;
mod external;
mod message;
mod metrics;
mod micro_batch;
mod options;
mod progress;
mod run;
mod score;
mod stopped_runs;

pub use arguments::Arguments;
pub use error::PredictError;
pub use options::{LiveOptions, ProducerAlias};
pub use progress::PredictProgress;
pub use run::run;

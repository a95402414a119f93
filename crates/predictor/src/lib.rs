//! The predictor: takes chunks of both lanes, scores their transactions through the ML API, and publishes scored chunks.
//!
//! The queue crate delivers a message (`message`) to `score`, which calls the ML API and publishes the result for the writer;
//! once that is confirmed, the queue crate acknowledges the message. If a predictor dies, its messages are delivered again,
//! and the writer records an identity once. Live messages share requests (`micro_batch`); those of external producers are
//! read by `external`, once the writers' notices (`notices`) name the scheme of their ids (`id_scheme`). Chunks of a stopped run
//! (`stopped_runs`) are forwarded to the writer as failed. The predictors of a
//! fleet (`fleet`, `members`) tell each other of the ML API's pauses, and share out `API_RATE_LIMIT`.

mod arguments;
mod error;
mod external;
mod fleet;
mod id_scheme;
mod members;
mod message;
mod metrics;
mod micro_batch;
mod notices;
mod options;
mod run;
mod score;
mod stopped_runs;

pub use arguments::Arguments;
pub use error::PredictError;
pub use metrics::PredictProgress;
pub use options::{LiveOptions, ProducerAlias};
pub use run::run;

//! The client of the ML API: turns the transactions of a chunk into predictions, whatever the API responds. It knows no rows: callers
//! keep what belongs to a transaction, and receive outcomes in order.
//!
//! [`Scorer::score`] (`client`) splits transactions into requests (`split`), which are sent at the same time. Each request (`request`)
//! waits at the circuit breaker (`breaker`) while the API does not work, keeps the pace of the fleet (`pace`, `pacing`), takes a
//! permit (`permits`, shared between the lanes; `concurrency` decides how many there are), and goes out (`attempt`) through `api::http`, with
//! `credentials` and, for SageMaker, a signature (`api::signing`), and a body written by `api::protocol`; `form` learns what the API takes, `scale` brings the scores of its
//! response to one scale, and `model_version` demands a version of the model. `failure` decides what a failed request means, `retry_budget` bounds how often it is repeated,
//! `api::health` asks the health check if there is one, and `canary` keeps a broken model from failing rows.
//!
//! `diagnose` has what `assay doctor` asks.
//!
//! Guarantees: every transaction has exactly one outcome; a row fails only if the model is known to work; an outage, a broken
//! model or a wrong setting is waited out, and fails no row. See `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

mod api;
mod attempt;
mod breaker;
mod canary;
mod client;
mod concurrency;
mod credentials;
mod diagnose;
mod error;
mod failure;
mod form;
mod metrics;
mod model_version;
mod options;
mod pace;
mod pacing;
mod permits;
mod provenance;
mod reason;
mod request;
mod retry_budget;
mod scale;
mod split;
#[cfg(test)]
mod tests;

// For `benches/answer.rs` alone.
pub use api::address::{ApiPath, HealthPath};
pub use api::protocol::{Matching, ReadOptions};
#[doc(hidden)]
pub use api::protocol::{ResponseError, native::read_response};
pub use breaker::ApiState;
pub use client::Scorer;
pub use credentials::{ApiAuth, ApiCredentials};
pub use diagnose::{DEPENDENCY, diagnose, made_up_transaction};
pub use error::{ScoreError, ScoringError};
pub use metrics::ScorerStats;
pub use options::{ApiEndpoint, ApiOptions, ConcurrencyMode, ProtocolName};
pub use pace::{ApiHold, Pace, ToldHold};
pub use permits::ApiPermit;
#[doc(hidden)]
pub use reason::Reason;
pub use scale::ScoreScale;

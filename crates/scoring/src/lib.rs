//! The client of the ML API: turns the transactions of a chunk into predictions, whatever the API responds. It knows no rows: callers
//! keep what belongs to a transaction, and receive outcomes in order.
//!
//! [`Scorer::score`] (`client`) splits transactions into requests (`split`), which are sent at the same time. Each request (`request`) waits at the circuit
//! breaker (`breaker`) while the API does not work, takes a permit (`permits`, shared between the lanes; `concurrency` decides how many
//! there are), and goes out through `api::http` with a body written by `api::protocol`. `failure` decides what a failed request
//! means, `retry_budget` bounds how many are repeated, `api::health` asks the health
//! check if there is one, and `canary` keeps a broken model from failing rows.
//!
//! Guarantees: every transaction has exactly one outcome; a row fails only if the model is known to work; an outage, a broken
//! model or a wrong setting is waited out, and fails no row. See `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

mod api;
mod breaker;
mod canary;
mod client;
mod concurrency;
mod error;
mod failure;
mod metrics;
mod options;
mod permits;
mod request;
mod retry_budget;
mod split;
#[cfg(test)]
mod tests;

// For `benches/answer.rs` alone.
#[doc(hidden)]
pub use api::protocol::native::read_response;
pub use breaker::ApiState;
pub use client::Scorer;
pub use error::{ScoreError, ScoringError};
pub use metrics::ScorerStats;
pub use options::{ApiEndpoint, ApiOptions, ConcurrencyMode};
pub use permits::ApiPermit;

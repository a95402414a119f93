//! The client of the ML API: it turns the valid transactions of a chunk into predictions, whatever the API answers.
//!
//! The way of a chunk: [`Scorer::score`] hands its entries to the plan (`bisect`), which says what to ask for next; each
//! request waits at the `circuit` while the API is away, takes a permit (`permits`, where the lanes share them), and goes out through `http` with a body that
//! `protocol` wrote; `class` says what the answer means, and `health` whether there is a health check to ask; `evidence` and
//! `proof` know whether the model is well, so that no row pays for a broken one. Nobody but this crate knows HTTP, and nobody but `protocol` knows what a request looks like.
//!
//! Guarantees: every entry comes back exactly once; a row fails only where the model is known to work; an outage, a
//! broken model or a wrong setting is waited out, and fails nothing. See `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

mod breaker;
mod canary;
mod client;
mod error;
mod failure;
mod health;
mod http;
mod metrics;
mod options;
mod permits;
mod policy;
mod proof;
mod protocol;
mod request;
mod row;
mod split;
mod state;
mod stats;
#[cfg(test)]
mod tests;

pub use error::{ScoreError, ScoringError};
pub use options::ApiOptions;
pub use permits::RequestPermit;
// For `benches/answer.rs` alone.
pub use client::{Scorer, Scores};
#[doc(hidden)]
pub use protocol::read_response;
pub use state::ApiState;
pub use stats::ScorerStats;

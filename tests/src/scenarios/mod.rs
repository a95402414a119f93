//! Scenarios: what must hold at sizes that no test waits for, and the same in small for the tests.
//!
//! Each is a function of its parameters that plays the scenario on a [`Stack`](crate::Stack) of its own, demands what is
//! promised, panics where it does not hold, and returns its figures. `tests/it/scenarios.rs` runs them small,
//! `src/bin/scenarios.rs` at the size that they are given. `observed` needs Prometheus, and runs in `scripts/alerts-check` alone.

mod backlog;
mod broken_model;
mod generated;
mod live_latency;
mod observed;
mod rows_at_fault;

pub use backlog::{Backlog, backlog};
pub use broken_model::{BrokenModel, broken_model};
pub use live_latency::{LiveLatency, live_latency};
pub use observed::observed;
pub use rows_at_fault::{RowsAtFault, rows_at_fault};

//! The fault harness: a fleet of the real programs on a real RabbitMQ and a real PostgreSQL, and everything that can go
//! wrong with it while a file is loaded; then the check that not one row is lost and none is stored twice.
//!
//! A round is made of its seed (`plan`): a file with its manifest (`source`), the programs (`crew`), and faults in an order
//! (`kind`, `inject`). Its services are private and there to be killed (`postgres`, and those of `testkit`); the ML API, which
//! answers the same for the same `content` always, fails on request (`api`). `round` brings it all together, `check` compares
//! each row of the file with the tables, and `session` runs many rounds and adds them up.
//!
//! Guarantees: a fault counts only where its victim held work that was not acknowledged or not committed, and an ML API's
//! only where a request was hit. What was to become of a row is known from the generator's manifest and from another CSV
//! reader than Assay's, never from an earlier run of the same code.

mod api;
mod check;
mod content;
mod crew;
mod inject;
mod kind;
mod plan;
mod postgres;
mod round;
mod session;
mod source;

pub use assay_testkit::servers::Tools;
pub use kind::{Counts, Kind};
pub use session::{Options, Summary, run};

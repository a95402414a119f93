//! Serving queues: how stages consume.
//!
//! - `single`: one message at a time, many at once; `batch`: many messages in one go; `dead_letters`: what was given up
//! - `settle`: what an outcome asks for; `defer`: what becomes of work that does not end; `delay`: the steps of delays

mod batch;
mod dead_letters;
mod defer;
pub(crate) mod delay;
mod settle;
mod single;

pub use self::batch::{BatchOptions, Weighed, serve_batches};
pub use self::dead_letters::{Drained, serve_dead_letters};
pub use self::settle::Outcome;
pub use self::single::{ServeOptions, serve};

//! The contract of the broker seam, on both implementations.

pub(crate) mod batch;
mod broadcast;
mod broker;
pub(crate) mod dead_letters;
mod defer;
mod memory;
pub(crate) mod single;

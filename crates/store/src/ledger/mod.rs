//! Runs and chunks, without I/O.

pub(crate) mod first_gap;
pub(crate) mod lease;
pub(crate) mod live;
pub(crate) mod runs;

//! Commands that show what became of runs and rows. They only read.

pub(crate) mod audit;
pub(crate) mod failures;
pub(crate) mod invalid;
pub(crate) mod operations;
pub(crate) mod row;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod transaction;

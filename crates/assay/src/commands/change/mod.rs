//! Commands that change runs. Each is recorded with its operator.

pub(crate) mod cancel;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod replay;

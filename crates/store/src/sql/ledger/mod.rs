//! Runs: how they begin, who loads them, how they end.

pub(crate) mod begin;
pub(crate) mod leases;
pub(crate) mod live;
pub(crate) mod runs;
pub(crate) mod sources;

use super::{ask, dialect, operations};

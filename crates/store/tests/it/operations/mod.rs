//! What operators ask and order.

mod audits;
pub(crate) mod dead_letters;
pub(crate) mod erasures;
mod overviews;
mod purges;
mod records;
pub(crate) mod removals;
mod removals_and_loads;
mod removals_law;

//! What operators ask and order.

mod audits;
pub(crate) mod dead_letters;
mod overviews;
mod records;
pub(crate) mod removals;
mod removals_and_loads;
mod removals_law;

//! What the commands of `assay` print, and what they change.

mod answers;
mod audit;
mod cancel;
pub(crate) mod guide;
mod in_one_process;
mod invalid;
mod obstacles;
mod on_the_way;
mod remove;
mod repair;
mod replay;
mod source;

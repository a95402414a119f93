//! The loader as a library, with everything it depends on in this process.

mod ending;
mod piping;
mod place;
mod repairing;
mod resuming;
mod sharing;
mod small;
mod totals;

//! The loader as a library, with everything it depends on in this process.

mod copies;
mod ending;
mod first_rules;
mod invalid;
mod piping;
mod place;
mod repairing;
mod resuming;
mod sharing;
mod small;
mod totals;

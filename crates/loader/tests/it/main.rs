//! The loader as a library, with everything it depends on in this process.

mod control_totals;
mod copies;
mod first_version_rules;
mod fixture;
mod invalid_rows;
mod lease;
mod pipe;
mod repair;
mod resume;
mod small_broker;
mod stopped_early;

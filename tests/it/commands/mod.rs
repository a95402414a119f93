//! What the commands of `assay` print, and what they change.

mod audit;
mod cancel;
mod comparison;
mod completions_and_man;
mod console;
mod doctor;
mod invalid;
mod obstacles;
pub(crate) mod operator_guide;
mod privacy;
mod queries;
mod remove;
mod repair;
mod replay;
mod sqlite;
mod unfinished;

use std::path::Path;

use assay_tests::{Ended, Program};

/// Runs `assay` with the database file of a folder.
async fn assay(folder: &Path, arguments: &[&str]) -> Ended {
    arguments.iter().fold(Program::new("assay").within(folder), Program::arg).run().await
}

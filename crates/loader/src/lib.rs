//! The loader: one source becomes validated chunks on the broker, and a run in the ledger.
//!
//! The way of a row: [`run`] identifies the source and begins its run (`begin`); `reading` judges rows and cuts them
//! into chunks; `publishing` sends the chunks and moves the checkpoint over what is confirmed; [`run`] seals the run, and
//! `waiting` stays until it is complete, where asked to.
//!
//! Guarantees: memory is bounded whatever the source's size; a checkpoint never passes a chunk that is not confirmed; a
//! loader that starts again goes on at the checkpoint and makes the very same chunks.

mod arguments;
mod begin;
mod error;
mod options;
mod progress;
mod publishing;
mod reading;
mod recorded;
mod run;
mod run_name;
mod waiting;

pub use arguments::Arguments;
pub use error::LoadError;
pub use options::{LoadOptions, WaitOptions};
pub use progress::LoadProgress;
pub use run::{Dependencies, Ended, run};

//! Realistic transactions as CSV, with planted fraud, invalid rows and duplicates.
//!
//! [`generate()`] is what `assay generate` calls; [`Transactions`] is the same sequence in memory, to train a model on
//! and to simulate live traffic with. Both stream: memory does not grow with the number of rows.

mod clock;
mod fault;
mod fraud;
mod generate;
mod merchant;
mod options;
mod ordinary;
mod random;
mod row;
mod transactions;

pub use fault::InvalidKinds;
pub use generate::{GenerateError, Summary, generate};
pub use options::{GenerateOptions, Quoting};
pub use transactions::{Generated, Transactions};

//! Realistic transactions as CSV, with planted fraud, invalid rows and duplicates.
//!
//! [`generate()`] implements `assay generate`; [`Transactions`] is the same sequence in memory, to train a model on.
//! Both stream: they hold at most the last 1,000 rows, which duplicates repeat.
//!
//! # The same on every machine
//!
//! A seed gives the same bytes on every machine, permanently. The random bits come from ChaCha8, whose name fixes the
//! algorithm, in the `rand_chacha` crate; `SmallRng` and `StdRng` of `rand` may become another algorithm with any
//! version or platform. The distributions are this crate's own, in integer arithmetic throughout, since those of `rand`
//! may change too, and `exp` and `ln` differ between C libraries in their last bits. Transactions, UUIDs and faults
//! draw from separate streams: `--labels`, `--attributes`, `--uuid-ids` and the dialect never change which transactions
//! are made, and `--invalid` breaks some of them and leaves the others unchanged.
//!
//! # The example
//!
//! `examples/transactions.csv` is the output of
//!
//! ```text
//! assay generate --rows 10000 --seed 1 --invalid 0.01 --duplicates 0.005 --output examples/transactions.csv \
//!   --invalid-kinds field_count,id_empty,description_empty,amount_empty,amount_format,amount_not_finite,\
//! amount_scale,amount_range,timestamp_empty,timestamp_format,operation_type_empty,side_empty
//! ```
//!
//! which omits NUL bytes and broken text, only so that every editor shows the file.
//!
//! # Other layouts
//!
//! `--layout` writes the same transactions in the layout of a public data set, to try column mappings on. The examples
//! are
//!
//! ```text
//! assay generate --layout paysim --rows 300 --output examples/paysim/transactions.csv
//! assay generate --layout sparkov --rows 300 --output examples/sparkov/transactions.csv
//! ```
//!
//! # What is fraud here
//!
//! **All of it is invented for a demonstration. It says nothing about real fraud, and a model trained on it only shows
//! that the machinery works.** One row in forty is labelled as fraud. The planted patterns:
//!
//! | pattern | what it looks like | its harmless neighbour |
//! | --- | --- | --- |
//! | night spree | one to three expensive online purchases of goods that sell on easily, minutes apart, at night | people who buy flights and phones at night |
//! | below the limit | an amount at most one euro below 200, 500, 1,000, 1,500, 2,000 or 3,000, paid online or transferred | prices that end in 99 cents |
//! | card test | an online payment of at most two euros, then one or two large ones at the same merchant | small online purchases |
//! | odd operation | direct debits, withdrawals or transfers at merchants that never use them, such as gift cards or luxury | untidy exports, whose operations are arbitrary |
//! | reversed refund | a refund on the debit side, or one of an amount far beyond what is sold there | refunds that are taken back, one in 25 |
//! | cash abroad | one or two withdrawals of about 280 euros abroad, minutes apart, at night | holidays: one ordinary withdrawal in 17 |
//! | persuasion | wording of urgency, safe accounts, gift cards or crypto, large round amounts | urgent transfers, gifts, crypto purchases |
//!
//! One night incident in eight happens in ordinary hours. One ordinary row in twenty is untidy: operation, side, hour
//! and amount have little to do with its description, as in exports from old systems. Labels are noisy in both
//! directions: one planted row in fifty is not labelled, and 12 of 10,000 ordinary rows are labelled by mistake.
//! Because of the noise no model can be perfect: gradient boosting reaches an area under the ROC curve of about 0.97 on
//! the seven columns. `country`, `currency` and `channel` carry hints too.

mod fault;
mod fraud;
mod generate;
mod hours;
mod layout;
mod merchant;
mod options;
mod ordinary;
mod random;
mod row;
mod transactions;

pub use fault::InvalidKinds;
pub use generate::{GenerateError, GenerateSummary, generate};
pub use layout::DatasetLayout;
pub use options::{GenerateOptions, Quoting};
pub use transactions::{Generated, Transactions};

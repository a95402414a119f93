//! The commands of `assay`, one file or folder each.
//!
//! | room | commands | what they do |
//! | --- | --- | --- |
//! | [`load`] | run, inspect, put, generate | bring rows in |
//! | [`query`] | runs, status, audit, row, transaction, failures, invalid, operations | show what became of runs and rows; change nothing |
//! | [`change`] | replay, repair, cancel, remove | change runs, and record who did so |
//! | [`setup`] | migrate, declare, watch-setup, health | prepare and check an installation |
//! | [`ledger`] | – | what these commands share: opening the database, finding a run, its state, its counts |

pub(crate) mod change;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod query;
pub(crate) mod setup;

//! What PostgreSQL and SQLite are asked in the same words. These modules are compiled twice, as `postgres::sql` and as
//! `sqlite::sql`; where the databases differ, they take what they need from `dialect` beside them.
//!
//! - `store`, `operations`: the two traits, each method one call
//! - `ledger`: runs and chunks; `stopping`: orders to end a run early
//! - `counts`: what became of rows, by number; `audit`: the same for whoever does not believe it
//! - `records`: single rows; `journal`: who did what; `unread`: sources without a run
//! - `dead_letters`, `replays`
//!
//! Statements name each column, cast ids and JSON to text, and bind everything.

mod audit;
mod counts;
mod dead_letters;
mod journal;
mod ledger;
mod operations;
mod records;
mod replays;
mod stopping;
mod store;
mod unread;

use super::{bounded, dialect};

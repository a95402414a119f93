//! The console: pages for people who would rather look than read.
//!
//! - `options`, `access`: its settings; who may see and do what
//! - `server`: the routes, and what every response says
//! - `pages`: the views; `pictures`: what they draw, as SVG; `live`: what changes while somebody looks
//! - `actions`, `commands`: what an operator may order: the console runs the command that it shows
//! - `report`: one run on one page without a script, to keep or to print
//!
//! Guarantees: it holds no state; every number comes from the tables that `assay status` and `assay audit` read, or from the sums
//! that the writer notes with each commit, so that no page takes longer the more rows a run has. Text from outside is
//! masked and escaped. A page loads nothing from other hosts, and runs no script but the one that comes with it.

mod access;
mod actions;
mod assets;
mod commands;
mod error;
mod live;
mod markup;
mod options;
mod pages;
mod pictures;
mod queues;
mod report;
mod server;

pub use self::commands::Commands;
pub use self::error::ConsoleError;
pub use self::options::ConsoleOptions;
pub use self::report::report;
pub use self::server::{ConsoleServices, Listening, listen};

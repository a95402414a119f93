//! A deployment for one test: the programs as child processes, their database and queues, and access to what they exchange.

mod broker;
mod database;
mod feed;
mod process;
mod role;
mod stack;
mod tampering;

pub use broker::{Broker, Queue};
pub use database::Database;
pub use feed::{Heard, Listener};
pub use process::{Ended, Program, Running};
pub use role::Role;
pub use stack::Stack;
pub use tampering::Taken;

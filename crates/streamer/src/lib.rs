//! The streamer: live transactions, from HTTP clients or a simulation, become messages on the realtime lane.
//!
//! A response of 202 means that the broker has confirmed the message and the ledger has counted it, so that its loss would show:
//! the run of a producer's day is sealed only once every counted transaction is stored.
//!
//! - `server`: `POST /transactions` and `GET /transactions/{id}`; `tokens`: authorization; `lookup`: outcomes of transactions
//! - `simulate`: generated transactions, or those of a file, at a pace
//! - `accept`: publishes valid transactions as a confirmed and counted message; `count`: the counts

mod accept;
mod arguments;
mod count;
mod error;
mod lookup;
mod metrics;
mod options;
mod server;
mod simulate;
mod tokens;

pub use arguments::{Arguments, Command, ServeArguments, SimulateArguments, StreamerConnections};
pub use count::StreamTotals;
pub use error::StreamError;
pub use options::{LiveReadOptions, SimulateOptions, StreamerOptions};
pub use server::{listen, serve};
pub use simulate::{SimulationReport, simulate};
pub use tokens::Tokens;

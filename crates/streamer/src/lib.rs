//! The streamer: live transactions, from whoever sends them by HTTP or from a simulation, become messages on the realtime lane.
//!
//! What is answered with 202 is confirmed by the broker and counted in the ledger, so that its loss would show: the run of a
//! producer's day is sealed only once all that was counted is booked.
//!
//! - `server`: `POST /transactions` and `GET /transactions/{id}`; `tokens`: who may ask; `lookup`: what became of a transaction
//! - `simulate`: transactions at a pace, made up or from a file
//! - `acceptance`: from valid transactions to a message that is confirmed and counted; `counting`: the counts

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

pub use arguments::{Arguments, Command, ConnectOptions, ServeArguments, SimulateArguments};
pub use count::Totals;
pub use error::StreamError;
pub use options::{ReadOptions, ServeOptions, SimulateOptions};
pub use server::{listen, serve};
pub use simulate::{Simulated, simulate};
pub use tokens::Tokens;

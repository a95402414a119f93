//! The HTTP server of the streamer, the watcher's webhook, health and metrics, and the reference ML API.
//!
//! - `serve`: accepts connections, and makes room when there are too many
//! - `connection`: one connection from its first byte to its last, with its `stream` and `state`
//! - `body`: reads the body of a request, within bounds
//! - `limits`: the bounds
//!
//! Guarantees: clients can use only a bounded amount of memory and a bounded number of files, and cannot keep others out: a
//! connection without a complete head in time is closed, and if there are too many, the longest silent go first. A shutdown
//! answers the requests received completely, and waits for no others.
//!
//! It speaks HTTP/1.1 without TLS; HTTP/2 is rejected with 505.

mod body;
mod connection;
mod limits;
mod serve;

pub use body::{BodyError, BodyReader, ReadBody};
pub use limits::ServerLimits;
pub use serve::serve;

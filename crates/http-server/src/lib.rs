//! The HTTP server of every program of Assay that listens: the streamer, the watcher's webhook, health and metrics, the reference
//! ML API.
//!
//! - `serve`: accepts connections, and makes room where there are too many
//! - `connection`: one connection, from its first byte to its last; `timed` its stream, `state` what it is doing
//! - `body`: reads the body of a request, within bounds
//! - `limits`: the bounds
//!
//! Guarantees: whoever connects cannot make the program use more than a bounded amount of memory or a bounded number of files,
//! nor keep others out: a connection that sends no complete head in time is closed, and where there are too many, those go first that
//! have been silent longest. The end is orderly: a request that came in whole is answered, one that did not holds up nothing.
//!
//! It speaks HTTP/1.1 without TLS; HTTP/2 is refused with 505.

mod body;
mod connection;
mod limits;
mod serve;

pub use body::{Bodies, BodyError, ReadBody};
pub use limits::Limits;
pub use serve::serve;

//! Sources as a loader uses them: inspected, and read over real sockets.

mod content;
mod decoded;
mod inspect;
mod malformed_input;
mod page;
mod patterns;
mod put;
mod read_ahead;
mod s3;
mod server;
#[cfg(feature = "sqs")]
mod sqs;

//! Sources as a loader uses them: inspected, and read over real sockets.

mod content;
mod decoded;
mod inspect;
mod malformed_input;
mod page;
mod s3;
#[cfg(feature = "sqs")]
mod sqs;

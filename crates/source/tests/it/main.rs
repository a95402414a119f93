//! Sources as a loader uses them: recognised from their head, and read over real sockets.

mod ahead;
mod content;
mod decoded;
mod hostile;
mod inspect;
mod page;
mod patterns;
mod put;
mod s3;
mod server;
#[cfg(feature = "sqs")]
mod sqs;

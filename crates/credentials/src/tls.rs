//! TLS: the files of certificates and keys, and what went wrong with a connection.
//!
//! - `files`: what the settings name, read and checked before anything is connected to
//! - `trouble`: what a failed handshake means, and what to do

mod files;
mod trouble;

pub use files::{Identity, TlsFiles, TlsMaterial};
pub use trouble::TlsTrouble;

//! TLS: the files of certificates and keys, and what went wrong with a connection.
//!
//! - `files`: what the settings name, read and checked before anything is connected to
//! - `failure`: what a failed handshake means, and what to do

mod failure;
mod files;

pub use failure::TlsFailure;
pub use files::{Identity, TlsFiles, TlsMaterial};

//! TLS: the files of certificates and keys, and why a connection failed.
//!
//! - `files`: the files that the settings name, checked before anything connects
//! - `failure`: what a failed handshake means, and what to do

mod failure;
mod files;

pub use failure::TlsFailure;
pub use files::{ClientIdentity, TlsFiles, TlsMaterial};

//! What a program shows who it is with, and whom it trusts: secrets that come in variables or in mounted files, the
//! certificates of TLS connections, and the addresses of servers, as they may hold a password.
//!
//! The seams (`queue`, `store`, `source`, `scoring`) and the stages with a secret of their own read theirs through here, so
//! that each setting behaves like every other, and each error names the variable, the file and what to do. Nothing is
//! connected to here.
//!
//! - `address`: where a server is, read in one way whatever library connects to it
//! - `secret`: a value, or the file that holds it
//! - `tls`: the files of certificates and keys, and what went wrong with a TLS connection
//!
//! Guarantee: no error and no `Debug` shows a secret or a key.

mod address;
mod secret;
mod tls;

pub use address::{Address, AddressForm, Host, percent_encoded};
pub use secret::{Secret, given};
pub use tls::{Identity, TlsFiles, TlsMaterial, TlsTrouble};

use std::io;
use std::path::Path;

/// Why a secret or a certificate cannot be had: one line that names the variable, the file and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsError(String);

/// Reads a file that a variable names.
fn read_file(path: &Path, variable: &str) -> Result<Vec<u8>, CredentialsError> {
    std::fs::read(path).map_err(|error| {
        let cause = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
            _ => error.to_string(),
        };
        CredentialsError(format!("cannot read {} ({cause}): check {variable}", path.display()))
    })
}

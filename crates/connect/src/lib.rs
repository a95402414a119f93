//! What every connection to a service needs, once for all of them: RabbitMQ, the database, S3 and the ML API.
//!
//! The crates that connect (`queue`, `store`, `source`, `scoring`) and the stages with a secret of their own read their settings
//! here, so that all settings behave alike and each error names the variable, the file and what to do. Nothing is connected to
//! here.
//!
//! - `address`: the address of a server, read in one way for all client libraries
//! - `diagnosis`: what is found of a service; `role`: the programs by the rights that they need
//! - `endpoint`: the options of a service, for the command line
//! - `process`: the name of this process
//! - `retry`: pauses between attempts, and waiting for a service
//! - `secret`: a value, or the file that holds it
//! - `tls`: the files of certificates and keys, and why a TLS connection failed
//!
//! Guarantee: no error and no `Debug` output shows a secret or a key.

mod address;
pub mod diagnosis;
mod endpoint;
mod process;
pub mod retry;
mod role;
mod secret;
mod tls;

pub use address::{Address, AddressForm, Host, percent_encoded};
pub use diagnosis::{Diagnosis, Finding, Verdict};
pub use process::{host_name, random_suffix, unique_process_name};
pub use retry::{Backoff, RetryPolicy};
pub use role::{RightsReport, Role};
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::{SecretSource, non_blank};
pub use tls::{ClientIdentity, TlsFailure, TlsFiles, TlsMaterial};

use std::io;
use std::path::Path;

/// Why a setting of a connection cannot be used: one line that names the variable, the file and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

/// Reads a file that a variable names.
fn read_file(path: &Path, variable: &str) -> Result<Vec<u8>, SettingError> {
    std::fs::read(path).map_err(|error| {
        let cause = match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
            _ => error.to_string(),
        };
        SettingError(format!("cannot read {} ({cause}): check {variable}", path.display()))
    })
}

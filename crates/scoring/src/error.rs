//! Why the ML API cannot be used.

use std::time::Duration;

use assay_connect::SettingError;
use assay_transaction::Exit;

/// Why a scorer cannot be created, or is not ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoringError {
    /// No address was given.
    #[error("ML_API_URL is not set: give the address of the ML API, such as http://localhost:8000")]
    NotSet,
    /// It did not respond in time.
    #[error("cannot reach the ML API at {url} within {} s ({problem}): check ML_API_URL", startup.as_secs_f64().round())]
    Unreachable {
        /// Its address, without credentials.
        url: String,
        /// How long the startup waited.
        startup: Duration,
        /// What was seen last.
        problem: String,
    },
    /// No TLS connection can be made.
    #[error("cannot connect to the ML API at {url} by TLS ({cause}): {remedy}")]
    Tls {
        /// Its address, without credentials.
        url: String,
        /// What is wrong.
        cause: &'static str,
        /// What to do.
        remedy: String,
    },
    /// The address is invalid, or the file of the address or a certificate cannot be read.
    #[error(transparent)]
    Credentials(#[from] SettingError),
    /// The settings of the protocol are wrong, or its features file is.
    #[error("{0}")]
    Protocol(String),
    /// The HTTP client cannot be created.
    #[error("cannot set up the client for ML_API_URL ({0})")]
    Client(String),
}

impl ScoringError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotSet | Self::Tls { .. } | Self::Credentials(_) | Self::Protocol(_) | Self::Client(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::DependencyUnavailable,
        }
    }
}

/// Why a call ended early. Trouble with the ML API is no reason: it is waited out, or rows fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// The process is stopping; nothing was decided about the entries.
    #[error("stopped before every transaction was scored")]
    Stopped,
}

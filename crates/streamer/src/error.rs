//! Why a streamer ends early.

use assay_credentials::CredentialsError;
use assay_queue::BrokerError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, HeaderError, TooManyRows, WireError};

/// Why a streamer ends early. What it had accepted is with the broker.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file to send cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The columns of that file cannot be used.
    #[error("the columns of the file cannot be used: {0}")]
    Header(#[from] HeaderError),
    /// That file has more rows than can be counted, as its mapping asks for.
    #[error(transparent)]
    TooManyRows(#[from] TooManyRows),
    /// A transaction cannot be written as JSON.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A setting is wrong, or missing beside another one.
    #[error("{0}")]
    Setting(String),
    /// Nothing can be listened to any more.
    #[error("requests cannot be taken any more: {0}")]
    Listener(#[from] std::io::Error),
}

impl Failure for StreamError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Source(error) => error.exit(),
            Self::Header(_) | Self::TooManyRows(_) => Exit::SourceUnreadable,
            Self::Wire(_) | Self::Credentials(_) | Self::Setting(_) => Exit::Usage,
            Self::Listener(_) => Exit::DependencyAway,
        }
    }
}

//! Why a streamer ends early.

use assay_connect::SettingError;
use assay_queue::BrokerError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, HeaderError, TooManyRows, WireError};

/// Why a streamer ends early. The broker has every accepted message.
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
    /// The columns of the file cannot be used.
    #[error("the columns of the file cannot be used: {0}")]
    Header(#[from] HeaderError),
    /// The file has more rows than its mapping can count.
    #[error(transparent)]
    TooManyRows(#[from] TooManyRows),
    /// A transaction cannot be encoded as JSON.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Credentials(#[from] SettingError),
    /// A setting is wrong, or requires another one.
    #[error("{0}")]
    Setting(String),
    /// The listener failed.
    #[error("cannot accept requests: {0}")]
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
            Self::Listener(_) => Exit::DependencyUnavailable,
        }
    }
}

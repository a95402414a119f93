//! Why a writer ends early.

use assay_queue::BrokerError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::Exit;

/// Why a writer ends early. Uncommitted messages are delivered again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for WriteError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Store(error) => error.exit(),
        }
    }
}

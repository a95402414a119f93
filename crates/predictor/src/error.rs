//! Why a predictor ends early.

use assay_queue::BrokerError;
use assay_scoring::ScoringError;
use assay_telemetry::Failure;
use assay_transaction::Exit;

/// Why a predictor ends early. What it held is delivered again.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The ML API cannot be used.
    #[error(transparent)]
    Scoring(#[from] ScoringError),
}

impl Failure for PredictError {
    fn exit(&self) -> Exit {
        match self {
            Self::Broker(error) => error.exit(),
            Self::Scoring(error) => error.exit(),
        }
    }
}

//! Why a command ends early.

use assay_generator::GenerateError;
use assay_loader::LoadError;
use assay_predictor::PredictError;
use assay_queue::BrokerError;
use assay_scoring::ScoringError;
use assay_source::SourceError;
use assay_store::StoreError;
use assay_telemetry::Failure;
use assay_transaction::{Exit, RunId, Tally};
use assay_writer::WriteError;

/// Why a command ends early: what one of the parts says, mostly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Scoring(#[from] ScoringError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("cannot start the reference ML API on loopback: {0}; set ML_API_URL to use another")]
    MlApi(std::io::Error),
    #[error("a stage ended unexpectedly: {0}")]
    Stage(String),
    #[error("run {run_id} breaks the law: {rows_read} rows were read, but {} are accounted for ({tally:?})", tally.total())]
    Law { run_id: RunId, rows_read: u64, tally: Tally },
    #[error("cannot print the result: {0}")]
    Print(std::io::Error),
}

impl Failure for CommandError {
    fn exit(&self) -> Exit {
        match self {
            Self::Load(error) => error.exit(),
            Self::Predict(error) => error.exit(),
            Self::Write(error) => error.exit(),
            Self::Source(error) => error.exit(),
            Self::Broker(error) => error.exit(),
            Self::Scoring(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Generate(error) => error.exit(),
            Self::MlApi(_) | Self::Stage(_) => Exit::DependencyAway,
            Self::Law { .. } => Exit::FailedRows,
            Self::Print(_) => Exit::Usage,
        }
    }
}

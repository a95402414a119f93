//! Why `ml-api` ends early.

use std::io;
use std::path::PathBuf;

use assay_transaction::Exit;

use crate::ModelError;

/// Why `ml-api` ends early, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is taken, or is not one of this machine.
    #[error("cannot listen on {address} ({cause}): choose another ML_API_HOST or ML_API_PORT")]
    Listen {
        /// Host and port.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The model file cannot be read.
    #[error("cannot read the model {} ({cause}): check ML_API_MODEL", path.display())]
    ModelUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The model file is not a model.
    #[error("{cause}: check ML_API_MODEL, {}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: ModelError,
    },
    /// The listener broke.
    #[error("cannot go on serving: {0}")]
    Serve(io::Error),
}

impl ApiError {
    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { .. } | Self::ModelUnreadable { .. } | Self::Model { .. } => Exit::Usage,
            Self::Serve(_) => Exit::DependencyAway,
        }
    }
}

impl assay_telemetry::Failure for ApiError {
    fn exit(&self) -> Exit {
        self.exit()
    }
}

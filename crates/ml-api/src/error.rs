//! Why `ml-api` ends early.

use std::io;
use std::path::PathBuf;

use assay_transaction::Exit;

use crate::ModelError;

/// Why `ml-api` ends early, in one line.
#[derive(Debug, thiserror::Error)]
pub enum MlApiError {
    /// The address is in use, or not an address of this machine.
    #[error("cannot listen on {address} ({}): choose another ML_API_HOST or ML_API_PORT", cause.kind())]
    Listen {
        /// Host and port.
        address: String,
        /// The system's error.
        cause: io::Error,
    },
    /// The model file cannot be read.
    #[error("cannot read the model {} ({}): check ML_API_MODEL", path.display(), cause.kind())]
    ModelUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The model file is not a model.
    #[error("cannot use the model {} ({cause}): check ML_API_MODEL", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: ModelError,
    },
}

impl MlApiError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { .. } | Self::ModelUnreadable { .. } | Self::Model { .. } => Exit::Usage,
        }
    }
}

impl assay_telemetry::Failure for MlApiError {
    fn exit(&self) -> Exit {
        self.exit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn each_error_is_a_line_that_names_the_setting() {
        let path = || PathBuf::from("fraud.json");
        let cases = [
            (
                MlApiError::Listen { address: "127.0.0.1:8000".to_owned(), cause: io::ErrorKind::AddrInUse.into() },
                "cannot listen on 127.0.0.1:8000 (address in use): choose another ML_API_HOST or ML_API_PORT",
            ),
            (
                MlApiError::ModelUnreadable { path: path(), cause: io::ErrorKind::NotFound.into() },
                "cannot read the model fraud.json (entity not found): check ML_API_MODEL",
            ),
            (
                MlApiError::Model { path: path(), cause: Model::from_json("{}").unwrap_err() },
                "cannot use the model fraud.json (not a model file of this version: missing field `format` at line 1 \
                 column 2): check ML_API_MODEL",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.exit(), Exit::Usage);
        }
    }
}

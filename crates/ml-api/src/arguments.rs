//! The command line of `ml-api`.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use assay_telemetry::{ConfigOption, ProcessArgs};
use assay_transaction::parse_duration;
use clap::Parser;

use crate::ModelServerOptions;

/// Scores transactions over HTTP with a demonstration model: POST /predict, GET /health, /metrics and /openapi.json.
///
/// The model is trained on synthetic data and not fit for real decisions. Runs until SIGTERM or Ctrl-C, then finishes open
/// requests and exits 0.
#[derive(Debug, Parser)]
#[command(name = "ml-api", version)]
pub struct Arguments {
    /// Where settings are.
    #[command(flatten)]
    pub config: ConfigOption,
    /// Address to listen on; 0.0.0.0 for all, as a container needs
    #[arg(long, env = "ML_API_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// Port to listen on
    #[arg(long, env = "ML_API_PORT", default_value_t = 8000)]
    pub port: u16,
    /// Most transactions in a request
    #[arg(long, env = "ML_API_MAX_BATCH", default_value = "1000", value_name = "COUNT")]
    pub max_batch: NonZeroUsize,
    /// Delay of each response, to simulate a slow model
    #[arg(long, env = "ML_API_DELAY", default_value = "0s", value_parser = parse_duration, value_name = "DURATION")]
    pub delay: Duration,
    /// Model file, as the training writes it [default: the demonstration model]
    #[arg(long, env = "ML_API_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Logs and metrics.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl Arguments {
    /// The options of the server.
    pub fn serve_options(&self) -> ModelServerOptions {
        ModelServerOptions { max_batch: self.max_batch.get(), delay: self.delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_defaults_match_the_library() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["ml-api"]);
        assert_eq!(arguments.serve_options(), ModelServerOptions::default());
    }
}

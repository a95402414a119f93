//! The command line of `predictor`.

use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_telemetry::{CommonArgs, ConfigOption};
use clap::Parser;

use crate::LiveOptions;

/// Consumes chunks of transactions, scores them with the ML API and publishes the results for the writer.
///
/// Runs until SIGTERM or Ctrl-C, then finishes its work and exits 0. Start as many as the ML API can serve.
#[derive(Debug, Parser)]
#[command(name = "predictor", version)]
pub struct Arguments {
    /// Where settings are.
    #[command(flatten)]
    pub config: ConfigOption,
    /// The ML API.
    #[command(flatten)]
    pub api: ApiOptions,
    /// Where chunks come from and go to.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How live transactions are collected.
    #[command(flatten)]
    pub live: LiveOptions,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

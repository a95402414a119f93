//! The command line of `predictor`.

use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_telemetry::{LogOptions, MetricsOptions, ShutdownOptions, StartupOptions};
use clap::Parser;

use crate::LiveOptions;

/// Takes chunks of transactions from the broker, has them scored by the ML API and publishes the answers for the writer.
///
/// Runs until SIGTERM or Ctrl-C, then finishes what it has begun and exits 0. Start as many as the ML API can serve.
#[derive(Debug, Parser)]
#[command(name = "predictor", version)]
pub struct Arguments {
    /// Who scores.
    #[command(flatten)]
    pub api: ApiOptions,
    /// Where chunks come from and go to.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How live transactions are collected.
    #[command(flatten)]
    pub live: LiveOptions,
    /// How long to wait for both.
    #[command(flatten)]
    pub startup: StartupOptions,
    /// How long to take to end.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

//! The command line of `streamer`.

use assay_queue::BrokerOptions;
use assay_store::DatabaseOptions;
use assay_telemetry::{LogOptions, MetricsOptions, ShutdownOptions, StartupOptions};
use clap::{Args, Parser, Subcommand};

use crate::options::{ServeOptions, SimulateOptions};

/// Takes single transactions by HTTP, or makes some up, and sends them to the predictors ahead of all files.
#[derive(Debug, Parser)]
#[command(name = "streamer", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a streamer does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take transactions by HTTP, and tell what became of them
    Serve(Box<ServeArguments>),
    /// Send made-up transactions, or those of a file, at a pace
    Simulate(Box<SimulateArguments>),
}

/// Take transactions by HTTP, and tell what became of them
///
/// POST /transactions takes one as JSON, an array of them, or JSON Lines. It answers 202 once the broker has them and they are
/// counted; with ?wait=500ms, it waits as long for their predictions. GET /transactions/ID tells the prediction of one.
///
/// Runs until SIGTERM or Ctrl-C, then finishes the requests that it has and exits 0. Exits 2 for wrong settings, 3 when the
/// broker or the database is away at the start.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where requests are taken.
    #[command(flatten)]
    pub serve: ServeOptions,
    /// Where everything is.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Send made-up transactions, or those of a file, at a pace
///
/// Sends straight to the broker. Ends with the file, after --transactions, or at SIGTERM or Ctrl-C, prints what was accepted,
/// and exits 0; 2 for wrong settings; 3 when the broker or the database is away at the start; 4 when the file cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  streamer simulate --rate 500 --transactions 10000
  PRODUCE_INTERVAL=200ms streamer simulate transactions.csv")]
pub struct SimulateArguments {
    /// What is sent.
    #[command(flatten)]
    pub simulate: SimulateOptions,
    /// Where everything is.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Where to show health and metrics.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Where everything is, and how long it may take.
#[derive(Debug, Args)]
pub struct ConnectOptions {
    /// Where transactions are counted, and looked up.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// Where they go.
    #[command(flatten)]
    pub broker: BrokerOptions,
    /// How long to wait for both.
    #[command(flatten)]
    pub startup: StartupOptions,
    /// How long to take to end.
    #[command(flatten)]
    pub shutdown: ShutdownOptions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let parse = |arguments: &[&str]| Arguments::try_parse_from(["streamer"].iter().chain(arguments));
        for wrong in [
            &["simulate", "--produce-interval", "0s"][..],
            &["simulate", "--max-records-per-batch", "1001"],
            &["simulate", "--rate", "0"],
            &["serve", "--producer-run-id", "a b"],
            &["serve", "--streamer-addr", "8081"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let crossed = parse(&["simulate", "--min-records-per-batch", "11"]).unwrap();
        let Command::Simulate(crossed) = crossed.command else { unreachable!() };
        assert!(crossed.simulate.check().unwrap_err().to_string().contains("MIN_RECORDS_PER_BATCH is 11"));
        let secret = parse(&["serve", "--streamer-tokens", "hush"]).unwrap();
        assert!(!format!("{secret:?}").contains("hush"));
    }
}

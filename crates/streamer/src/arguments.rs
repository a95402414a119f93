//! The command line of `streamer`.

use assay_queue::BrokerOptions;
use assay_store::DatabaseOptions;
use assay_telemetry::{CommonArgs, ConfigOption};
use clap::{Args, Parser, Subcommand};

use crate::options::{SimulateOptions, StreamerOptions};

/// Accepts single transactions over HTTP, or generates some, and sends them to the predictors ahead of all files.
#[derive(Debug, Parser)]
#[command(name = "streamer", version)]
pub struct Arguments {
    /// Where settings are.
    #[command(flatten)]
    pub config: ConfigOption,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the streamer.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept transactions over HTTP, and report their predictions
    Serve(Box<ServeArguments>),
    /// Send generated transactions, or those of a file, at a given rate
    Simulate(Box<SimulateArguments>),
}

/// Accept transactions over HTTP, and report their predictions
///
/// POST /transactions takes one as JSON, an array of them, or JSON Lines. It answers 202 once the broker has them and they are
/// counted; with ?wait=500ms, it waits that long for their predictions. GET /transactions/ID returns the prediction of one.
///
/// Runs until SIGTERM or Ctrl-C, then finishes open requests and exits 0. Exits 2 for invalid settings, 3 when the broker or
/// the database is unreachable at startup.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Where requests are accepted.
    #[command(flatten)]
    pub serve: StreamerOptions,
    /// Services.
    #[command(flatten)]
    pub connect: StreamerConnections,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// Send generated transactions, or those of a file, at a given rate
///
/// Sends straight to the broker. Ends with the file, after --transactions, or at SIGTERM or Ctrl-C, prints how many were
/// accepted, and exits 0; 2 for invalid settings; 3 when the broker or the database is unreachable at startup; 4 when the
/// file cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  streamer simulate --rate 500 --transactions 10000
  PRODUCE_INTERVAL=200ms streamer simulate transactions.csv")]
pub struct SimulateArguments {
    /// What is sent, and how fast.
    #[command(flatten)]
    pub simulate: SimulateOptions,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    pub json: bool,
    /// Services.
    #[command(flatten)]
    pub connect: StreamerConnections,
    /// What all programs have.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The services that a streamer needs.
#[derive(Debug, Args)]
pub struct StreamerConnections {
    /// The database, which counts transactions and knows their predictions.
    #[command(flatten)]
    pub database: DatabaseOptions,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerOptions,
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

//! `scripts/faults`: rounds of faults, until as many were run as were asked for.

use std::process::ExitCode;

use assay_tests::faults::{self, Kind, Options, Tools};
use clap::Parser;

/// Loads files with the real programs, while everything that can go wrong does, and checks each row afterwards
///
/// Exits 1 where a row is lost or doubled, or a round fails otherwise.
#[derive(Debug, Parser)]
#[command(name = "scripts/faults")]
struct Arguments {
    /// How many rounds to run
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// The seed of the first round; each further one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inject faults of this kind only
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,
    /// Keep the logs of rounds that went well too
    #[arg(long)]
    keep_logs: bool,
}

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let Arguments { rounds, seed, only, keep_logs } = Arguments::parse();
    let Some(tools) = Tools::from_environment() else {
        return Err(std::io::Error::other(
            "TEST_POSTGRES_BIN and TEST_RABBITMQ_SERVER are not set: run scripts/faults",
        ));
    };
    let this = std::env::current_exe()?;
    // target/release/faults, beside which there is target/faults.
    let logs = this.ancestors().nth(2).unwrap_or(&this).join("faults");
    let options = Options { rounds, seed, only, logs, keep_logs };
    let mut out = std::io::stdout();
    let mut interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let summary = tokio::select! {
        summary = faults::run(&options, &tools, &mut out) => summary?,
        // Dropping the run ends its services and programs.
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::FAILURE),
        _ = interrupted.recv() => return Ok(ExitCode::FAILURE),
    };
    summary.tell(rounds, &mut out)?;
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

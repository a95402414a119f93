//! `assay`, the operator's command. Each subcommand has a module of its own; this one tells them apart.

mod arguments;
mod commands;
#[cfg(test)]
mod configuration;
mod error;
mod local;
mod output;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use commands::change::{cancel, remove, repair, replay};
use commands::load::{generate, inspect, put, run};
use commands::query::{audit, failures, invalid, operations, row, runs, status, transaction};
use commands::setup::{declare, health, migrate, watch_setup};
use error::CommandError;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let Arguments { command } = assay_telemetry::parse();
    match command {
        Command::Run(arguments) => {
            let display = run::ProgressDisplay::new(&arguments.log);
            assay_telemetry::run_observed("assay", &arguments.log, &arguments.metrics, async |shutdown, health| {
                ignore_broken_pipe(run::run(&arguments, &display, &shutdown, &health).await)
            })
        }
        Command::Inspect(arguments) => execute(&arguments.log, async |_| inspect::inspect(&arguments).await),
        Command::Runs(arguments) => execute(&arguments.ledger.log, async |_| runs::runs(&arguments).await),
        Command::Status(arguments) => {
            execute(&arguments.ledger.log, async |shutdown| status::status(&arguments, &shutdown).await)
        }
        Command::Row(arguments) => execute(&arguments.ledger.log, async |_| row::row(&arguments).await),
        Command::Transaction(arguments) => {
            execute(&arguments.ledger.log, async |_| transaction::transaction(&arguments).await)
        }
        Command::Audit(arguments) => execute(&arguments.ledger.log, async |_| audit::audit(&arguments).await),
        Command::Failures(arguments) => execute(&arguments.ledger.log, async |_| failures::failures(&arguments).await),
        Command::Invalid(arguments) => execute(&arguments.ledger.log, async |_| invalid::invalid(&arguments).await),
        Command::Replay(arguments) => {
            execute(&arguments.ledger.log, async |shutdown| replay::replay(&arguments, &shutdown).await)
        }
        Command::Repair(arguments) => {
            execute(&arguments.ledger.log, async |shutdown| repair::repair(&arguments, &shutdown).await)
        }
        Command::Cancel(arguments) => execute(&arguments.ledger.log, async |_| cancel::cancel(&arguments).await),
        Command::Remove(arguments) => {
            execute(&arguments.ledger.log, async |shutdown| remove::remove(&arguments, &shutdown).await)
        }
        Command::Operations(arguments) => {
            execute(&arguments.ledger.log, async |_| operations::operations(&arguments).await)
        }
        Command::Generate(arguments) => execute(&arguments.log, async |_| generate::generate(&arguments.options)),
        Command::Migrate(arguments) => execute(&arguments.log, async |_| migrate::migrate(&arguments).await),
        Command::Declare(arguments) => execute(&arguments.log, async |_| declare::declare(&arguments).await),
        Command::Health(arguments) => execute(&arguments.log, async |_| health::health(&arguments).await),
        Command::Put(arguments) => execute(&arguments.log, async |shutdown| put::put(&arguments, &shutdown).await),
        Command::WatchSetup(arguments) => execute(&arguments.log, async |_| watch_setup::watch_setup(&arguments).await),
    }
}

fn execute(log: &LogOptions, command: impl AsyncFnOnce(CancellationToken) -> Result<Exit, CommandError>) -> ExitCode {
    assay_telemetry::run(log, async |shutdown| ignore_broken_pipe(command(shutdown).await))
}

/// Whoever reads the results of a command may stop when it has enough.
fn ignore_broken_pipe(ended: Result<Exit, CommandError>) -> Result<Exit, CommandError> {
    match ended {
        Err(error) if output::is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended,
    }
}

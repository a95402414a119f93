//! `assay`, the operator's command. Each subcommand is a module of [`commands`].

mod arguments;
mod commands;
#[cfg(test)]
mod configuration;
mod error;
mod local;
mod output;
mod programs;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use assay_telemetry::{ConfigOption, LogOptions, MetricsOptions, ProcessArgs, TraceOptions};
use assay_trace::TARGET;
use assay_transaction::Exit;
use commands::change::{cancel, erase, purge, remove, repair, replay};
use commands::load::{generate, inspect, put, run};
use commands::query::{audit, failures, invalid, operations, report, row, runs, status, transaction};
use commands::setup::{completions, config, console, declare, doctor, health, man, migrate, watch_setup};
use error::CommandError;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, trace_span};

fn main() -> ExitCode {
    let Arguments { command, config: ConfigOption { config: file }, color } = assay_telemetry::parse();
    output::find_audience(color);
    match command {
        Command::Run(args) => {
            let display = run::ProgressDisplay::new(&args.common.process.log, color);
            assay_telemetry::run_program("assay", &args.common.process, async |shutdown, health| {
                ignore_broken_pipe(run::run(&args, &display, &shutdown, &health).await)
            })
        }
        Command::Inspect(args) => execute(&args.log, async |_| inspect::inspect(&args).await),
        Command::Runs(args) => execute(&args.ledger.log, async |_| runs::runs(&args).await),
        Command::Status(args) => execute(&args.ledger.log, async |shutdown| status::status(&args, &shutdown).await),
        Command::Row(args) => execute(&args.ledger.log, async |_| row::row(&args).await),
        Command::Transaction(args) => execute(&args.ledger.log, async |_| transaction::transaction(&args).await),
        Command::Audit(args) => execute(&args.ledger.log, async |_| audit::audit(&args).await),
        Command::Failures(args) => execute(&args.ledger.log, async |_| failures::failures(&args).await),
        Command::Invalid(args) => execute(&args.ledger.log, async |_| invalid::invalid(&args).await),
        Command::Replay(args) => {
            let span = || trace_span!(target: TARGET, "replay");
            traced(&args.ledger.log, &args.stages.traces, span, async |shutdown| replay::replay(&args, &shutdown).await)
        }
        Command::Repair(args) => {
            let span = || trace_span!(target: TARGET, "repair");
            traced(&args.ledger.log, &args.stages.traces, span, async |shutdown| repair::repair(&args, &shutdown).await)
        }
        Command::Cancel(args) => execute(&args.ledger.log, async |_| cancel::cancel(&args).await),
        Command::Remove(args) => execute(&args.ledger.log, async |shutdown| remove::remove(&args, &shutdown).await),
        Command::Purge(args) => execute(&args.ledger.log, async |shutdown| purge::purge(&args, &shutdown).await),
        Command::Erase(args) => execute(&args.ledger.log, async |shutdown| erase::erase(&args, &shutdown).await),
        Command::Operations(args) => execute(&args.ledger.log, async |_| operations::operations(&args).await),
        Command::Report(args) => execute(&args.ledger.log, async |_| report::report(&args).await),
        Command::Console(args) => {
            let (log, traces) = (args.ledger.log.clone(), TraceOptions::default());
            let process = ProcessArgs { metrics: args.metrics.clone(), log, traces };
            assay_telemetry::run_program("assay", &process, async |shutdown, health| {
                console::console(&args, file.as_deref(), shutdown, &health).await
            })
        }
        Command::Generate(args) => execute(&args.log, async |_| generate::generate(&args)),
        Command::Migrate(args) => execute(&args.log, async |_| migrate::migrate(&args).await),
        Command::Declare(args) => execute(&args.log, async |_| declare::declare(&args).await),
        Command::Health(args) => execute(&args.log, async |_| health::health(&args).await),
        Command::Config(args) => execute(&args.log, async |_| config::config(&args, file.as_deref())),
        Command::Doctor(args) => execute(&args.log, async |_| doctor::doctor(&args).await),
        Command::Put(args) => execute(&args.log, async |shutdown| put::put(&args, &shutdown).await),
        Command::Completions(args) => execute(&args.log, async |_| completions::completions(&args)),
        Command::Man(args) => execute(&args.log, async |_| man::man(&args)),
        Command::WatchSetup(args) => execute(&args.log, async |_| watch_setup::watch_setup(&args).await),
    }
}

fn execute(log: &LogOptions, command: impl AsyncFnOnce(CancellationToken) -> Result<Exit, CommandError>) -> ExitCode {
    traced(log, &TraceOptions::default(), Span::none, command)
}

/// As [`execute`], in a span: for a command that sends rows to the stages.
fn traced(
    log: &LogOptions,
    traces: &TraceOptions,
    span: impl FnOnce() -> Span,
    command: impl AsyncFnOnce(CancellationToken) -> Result<Exit, CommandError>,
) -> ExitCode {
    let process = ProcessArgs { metrics: MetricsOptions::default(), log: log.clone(), traces: traces.clone() };
    assay_telemetry::run_program("assay", &process, async |shutdown, _| {
        ignore_broken_pipe(command(shutdown).instrument(span()).await)
    })
}

/// A reader of the results that stops reading is no failure.
fn ignore_broken_pipe(ended: Result<Exit, CommandError>) -> Result<Exit, CommandError> {
    match ended {
        Err(error) if output::is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended,
    }
}

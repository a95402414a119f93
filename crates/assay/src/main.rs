//! `assay`, the operator's command. Each subcommand has a module of its own; this one tells them apart.

mod arguments;
mod error;
mod generate;
mod migrate;
#[cfg(test)]
mod reference;
mod run;

use std::process::ExitCode;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let Arguments { command } = assay_telemetry::parse();
    match command {
        Command::Run(arguments) => {
            let display = run::Display::new(&arguments.log);
            assay_telemetry::run(&arguments.log, async |shutdown| run::run(&arguments, &display, &shutdown).await)
        }
        Command::Generate(arguments) => {
            assay_telemetry::run(&arguments.log, async |_| generate::generate(&arguments.options))
        }
        Command::Migrate(arguments) => {
            assay_telemetry::run(&arguments.log, async |_| migrate::migrate(&arguments).await)
        }
    }
}

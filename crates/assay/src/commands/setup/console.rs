//! `assay console`: serves the console.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use assay_console::{Commands, ConsoleOptions, ConsoleServices};
use assay_queue::BrokerOptions;
use assay_telemetry::{Health, MetricsOptions};
use assay_transaction::Exit;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _};
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::commands::ledger::LedgerOptions;
use crate::error::CommandError;
use crate::local::existing_database;

/// Serve the console: pages that show runs, rows and queues
///
/// Listens at http://127.0.0.1:8082/ unless CONSOLE_ADDR says otherwise. It only reads, and holds no state: stop and start it at any
/// time, and run several. Elsewhere than on loopback it needs users, each with a role: a viewer looks, an operator replays, repairs,
/// cancels and audits runs if CONSOLE_ACTIONS is on, an auditor sees rows unmasked, which is recorded. A button runs the command that is
/// shown beside it.
///
/// Exits 0 when it is stopped; 2 when a setting is wrong; 3 when the database is unreachable at its start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay console
  CONSOLE_ADDR=0.0.0.0:8082 CONSOLE_USERS_FILE=users assay console

A user, with a token that is made at random (the browser asks for name and token):
  token=$(openssl rand -hex 24); echo \"$token\"
  echo \"ada operator $(printf %s \"$token\" | sha256sum | cut -d' ' -f1)\" >> users")]
pub(crate) struct ConsoleArguments {
    #[command(flatten)]
    console: ConsoleOptions,
    #[command(flatten)]
    pub(crate) ledger: LedgerOptions,
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    pub(crate) metrics: MetricsOptions,
}

/// Serves until it is stopped.
pub(crate) async fn console(
    arguments: &ConsoleArguments,
    config: Option<&Path>,
    shutdown: CancellationToken,
    health: &Health,
) -> Result<Exit, CommandError> {
    let listening = assay_console::listen(&arguments.console).await?;
    let database = existing_database(&arguments.ledger.database).ok_or(CommandError::NoDatabase)?;
    let opened = shutdown.run_until_cancelled(arguments.ledger.open("console")).await;
    let Some(store) = opened.transpose()? else { return Ok(Exit::Done) };
    health.depend_on(database.dependency(), assay_store::health_check(&store));
    health.begin();
    let services = ConsoleServices {
        store: Arc::clone(&store),
        broker: arguments.broker.clone(),
        commands: Commands::new(
            std::env::current_exe().map_err(CommandError::Print)?,
            config.map_or_else(Vec::new, |path| vec!["--config".into(), path.into()]),
            given_by_flags(std::env::args_os()),
        ),
    };
    listening.serve(services, shutdown).await;
    store.close().await;
    Ok(Exit::Done)
}

/// The settings that a command line gives by flags, as variables: the commands that the console runs must have them, too.
fn given_by_flags(line: impl IntoIterator<Item = OsString>) -> Vec<(String, OsString)> {
    let mut command = Arguments::command();
    command.build();
    let Ok(matches) = command.clone().try_get_matches_from(line) else { return Vec::new() };
    let Some((name, matches)) = matches.subcommand() else { return Vec::new() };
    let arguments = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let given = arguments.filter_map(|argument| {
        let id = argument.get_id().as_str();
        let variable = argument.get_env()?.to_str()?;
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        let value = is_given.then(|| matches.get_raw(id))??.next_back()?;
        Some((variable.to_owned(), value.to_owned()))
    });
    given.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_reach_the_commands_that_the_console_runs() {
        let line = ["assay", "console", "--database-url", "sqlite://a", "--queue-prefix=x."].map(OsString::from);
        let given = given_by_flags(line);
        for pair in [("DATABASE_URL", "sqlite://a"), ("QUEUE_PREFIX", "x.")] {
            assert!(given.contains(&(pair.0.to_owned(), pair.1.into())), "{given:?}");
        }
        assert_eq!(given.len(), 2, "{given:?}");
    }
}

//! The command line: read by clap, with errors that name the environment variable too, as most settings come from there.

use std::ffi::OsStr;
use std::time::Duration;

use assay_transaction::parse_duration;
use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, Parser};

use crate::mistyped::mistyped;

/// How long a program waits for what it depends on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Start-up")]
pub struct StartupOptions {
    /// How long each dependency (database, broker, ML API) may take to answer at start-up, before exit code 3
    #[arg(long, env = "STARTUP_TIMEOUT", default_value = "30s", value_parser = parse_duration, value_name = "DURATION")]
    pub startup_timeout: Duration,
}

/// How long a program takes to end.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownOptions {
    /// How long what has begun may take to end after SIGTERM or Ctrl-C; what is left by then is delivered again
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "10s", value_parser = parse_duration, value_name = "DURATION")]
    pub drain_timeout: Duration,
}

/// Settings that the short help shows: those that a first try may need. `--help` has all.
const NEEDED_FIRST: [&str; 11] = [
    "SOURCE_URL",
    "WATCH_URL",
    "BATCH_RUN_ID",
    "MAPPING",
    "ML_API_URL",
    "AMQP_URL",
    "DATABASE_URL",
    "ENDPOINT_URL",
    "KEY",
    "SECRET",
    "LOG_LEVEL",
];

/// Reads the command line and the environment. What cannot be read ends the program with exit code 2, and a message that
/// names the option, its variable, the value and what is allowed. So does a variable that is a mistyped setting.
pub fn parse<P: Parser>() -> P {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = with_short_help(without_empty_variables(P::command(), &is_empty));
    let parsed = command.clone().try_get_matches().and_then(|matches| P::from_arg_matches(&matches));
    if let Err(error) = &parsed
        && !error.use_stderr()
    {
        // Help, or the version.
        error.exit()
    }
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let variables: Vec<String> = set.filter_map(|(name, _)| name.into_string().ok()).collect();
    if let Some(message) = refusal(&variables, &P::command()) {
        command.clone().error(ErrorKind::ValueValidation, message).exit()
    }
    parsed.unwrap_or_else(|mut error| {
        if let Some(message) = wrong_value(&error, &command) {
            command.clone().error(error.kind(), message).exit()
        }
        // clap's own has the options that variables set, as if they had to be given.
        if error.get(ContextKind::Usage).is_some() {
            let usage = usage(command.clone(), std::env::args().skip(1));
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
        error.format(&mut command.clone()).exit()
    })
}

/// Leaves out of the short help what has a variable, but for what is needed first.
fn with_short_help(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let is_rare = |name: &OsStr| !NEEDED_FIRST.iter().any(|needed| name == *needed);
            let is_rare = argument.get_env().is_some_and(is_rare);
            argument.hide_short_help(is_rare)
        })
        .mut_subcommands(with_short_help)
}

/// How the command is used that was called.
fn usage(mut command: Command, arguments: impl Iterator<Item = String>) -> StyledStr {
    command.build();
    for name in arguments {
        let Some(called) = command.find_subcommand(&name) else { break };
        command = called.clone();
    }
    command.render_usage()
}

/// Every setting of a program and its commands.
fn settings(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(settings)).collect()
}

/// What is to be said of variables that are mistyped settings; none where there are none.
fn refusal(variables: &[String], command: &Command) -> Option<String> {
    let mut settings = settings(command);
    settings.sort_unstable();
    settings.dedup();
    let mistyped = mistyped(variables, &settings);
    let named: Vec<String> =
        mistyped.iter().map(|(variable, setting)| format!("{variable} is no setting, {setting} is")).collect();
    let first = mistyped.first().map(|(variable, _)| *variable)?;
    Some(format!("{}: rename it; where {first} is meant for another program, set the right one too", named.join("; ")))
}

/// For a test of all programs: which of some variables this one would take for mistyped settings of its own.
pub fn taken_for_mistyped<P: Parser>(variables: &[String]) -> Option<String> {
    refusal(variables, &P::command())
}

/// A variable that is set to nothing is not set: compose files and charts pass on variables that nobody gave a value.
fn without_empty_variables(command: Command, is_empty: &dyn Fn(&OsStr) -> bool) -> Command {
    command
        .mut_args(
            |argument| {
                if argument.get_env().is_some_and(is_empty) { argument.env(Resettable::Reset) } else { argument }
            },
        )
        .mut_subcommands(|subcommand| without_empty_variables(subcommand, is_empty))
}

/// The message for a value that cannot be read; none for every other kind of error, which clap words well.
fn wrong_value(error: &clap::Error, command: &Command) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let option = find(command, argument)?;
    let variable = option.get_env().map(|name| format!(" ({})", name.to_string_lossy())).unwrap_or_default();
    let allowed = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!("allowed are {}", values.join(", ")),
        _ => std::error::Error::source(error).map(|cause| in_words(&cause.to_string()))?,
    };
    Some(format!("`{value}` is no value for --{}{variable}: {allowed}", option.get_long()?))
}

/// The option that clap shows as `argument`, of the command itself or of one of its subcommands.
fn find<'a>(command: &'a Command, argument: &str) -> Option<&'a clap::Arg> {
    let name = argument.trim_start_matches('-').split([' ', '=']).next()?;
    let own = command.get_arguments().find(|option| option.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|subcommand| find(subcommand, argument)))
}

/// What Rust's number parsers say, for people who do not write Rust.
fn in_words(cause: &str) -> String {
    match cause {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number is expected".into()
        }
        "number would be zero for non-zero type" => "it must be at least 1".into(),
        "number too large to fit in target type" => "the number is too large".into(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::num::NonZeroU32;

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(long, env = "ROW_BATCH_SIZE", default_value = "5000")]
        row_batch_size: NonZeroU32,
        #[command(flatten)]
        startup: StartupOptions,
        #[arg(long, value_parser = ["fail", "update"])]
        id_conflict: Option<String>,
    }

    #[test]
    fn a_wrong_value_is_named_with_its_variable_and_what_is_allowed() {
        let cases = [
            ("--row-batch-size=x", "`x` is no value for --row-batch-size (ROW_BATCH_SIZE): a whole number is expected"),
            ("--row-batch-size=0", "`0` is no value for --row-batch-size (ROW_BATCH_SIZE): it must be at least 1"),
            ("--id-conflict=maybe", "`maybe` is no value for --id-conflict: allowed are fail, update"),
        ];
        for (argument, message) in cases {
            let error = Options::try_parse_from(["program", argument]).unwrap_err();
            assert_eq!(wrong_value(&error, &Options::command()).as_deref(), Some(message), "{argument}");
        }
        let error = Options::try_parse_from(["program", "--startup-timeout=soon"]).unwrap_err();
        let message = wrong_value(&error, &Options::command()).unwrap();
        assert!(message.starts_with("`soon` is no value for --startup-timeout (STARTUP_TIMEOUT): "), "{message}");
    }

    #[test]
    fn a_variable_that_is_empty_is_not_set() {
        let command = without_empty_variables(Options::command(), &|name| name == "ROW_BATCH_SIZE");
        let variable = |long| {
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(long)).unwrap();
            argument.get_env().map(OsStr::to_owned)
        };
        assert_eq!(variable("row-batch-size"), None);
        assert_eq!(variable("startup-timeout"), Some("STARTUP_TIMEOUT".into()));
    }

    #[test]
    fn a_mistyped_setting_is_refused_by_name() {
        let message = |variable: &str| refusal(&[variable.to_owned(), "PATH".to_owned()], &Options::command());
        assert_eq!(
            message("ROW_BATCHSIZE").as_deref(),
            Some(
                "ROW_BATCHSIZE is no setting, ROW_BATCH_SIZE is: rename it; where ROW_BATCHSIZE is meant for another \
                 program, set the right one too"
            )
        );
        assert_eq!(message("ROW_BATCH_SIZE"), None);
    }

    #[derive(Debug, Parser)]
    #[command(name = "program")]
    struct Program {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Status(Options),
    }

    #[test]
    fn the_usage_is_that_of_the_command_and_has_nothing_that_variables_set() {
        let called = ["status", "--nothing"].map(str::to_owned).into_iter();
        let usage = usage(Program::command(), called).to_string();
        assert_eq!(usage, "Usage: program status [OPTIONS]");
    }

    #[test]
    fn the_short_help_has_what_is_needed_first() {
        let command = with_short_help(Options::command());
        let (short, long) = (command.clone().render_help().to_string(), command.clone().render_long_help().to_string());
        assert!(!short.contains("--startup-timeout") && short.contains("--id-conflict"), "{short}");
        assert!(long.contains("--startup-timeout") && long.contains("STARTUP_TIMEOUT"), "{long}");
    }

    #[test]
    fn other_errors_are_left_to_clap() {
        let error = Options::try_parse_from(["program", "--no-such-option"]).unwrap_err();
        assert_eq!(wrong_value(&error, &Options::command()), None);
    }
}

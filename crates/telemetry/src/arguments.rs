//! The command line: read by clap, with errors that name the environment variable too, as most settings come from there.

use std::ffi::OsStr;
use std::time::Duration;

use assay_transaction::parse_duration;
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, Parser};

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

/// Reads the command line and the environment. What cannot be read ends the program with exit code 2, and a message that
/// names the option, its variable, the value and what is allowed.
pub fn parse<P: Parser>() -> P {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = without_empty_variables(P::command(), &is_empty);
    let parsed = command.clone().try_get_matches().and_then(|matches| P::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| {
        if let Some(message) = wrong_value(&error, &command) {
            command.clone().error(error.kind(), message).exit()
        }
        error.format(&mut command.clone()).exit()
    })
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
    fn other_errors_are_left_to_clap() {
        let error = Options::try_parse_from(["program", "--no-such-option"]).unwrap_err();
        assert_eq!(wrong_value(&error, &Options::command()), None);
    }
}

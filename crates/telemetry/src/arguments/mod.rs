//! The command line: read by clap, with errors that name the environment variable too, as most settings come from there.

mod common;
mod mistyped;

use std::ffi::OsStr;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Parser};

use self::mistyped::mistyped;

pub use self::common::{CommonArgs, ProcessArgs, ShutdownOptions, StartupOptions};

/// Settings in the short help, as a first try may need them. `--help` shows all.
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

/// Reads the command line and the environment. An invalid value ends the program with exit code 2 and a message that names
/// the option, its variable, the value and what is allowed. A mistyped variable does so too.
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
    if let Some(message) = mistyped_message(&variables, &P::command()) {
        command.clone().error(ErrorKind::ValueValidation, message).exit()
    }
    parsed.unwrap_or_else(|mut error| {
        if let Some(message) = invalid_value_message(&error, &command) {
            command.clone().error(error.kind(), message).exit()
        }
        // clap would list options that are set by variables as required.
        if error.get(ContextKind::Usage).is_some() {
            let usage = usage(command.clone(), std::env::args().skip(1));
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
        error.format(&mut command.clone()).exit()
    })
}

/// Hides options with a variable from the short help, except those needed first.
fn with_short_help(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let is_rare = |name: &OsStr| !NEEDED_FIRST.iter().any(|needed| name == *needed);
            let is_rare = argument.get_env().is_some_and(is_rare);
            argument.hide_short_help(is_rare)
        })
        .mut_subcommands(with_short_help)
}

/// The usage of the called command.
fn usage(mut command: Command, arguments: impl Iterator<Item = String>) -> StyledStr {
    command.build();
    for name in arguments {
        let Some(called) = command.find_subcommand(&name) else { break };
        command = called.clone();
    }
    command.render_usage()
}

/// All settings of a program and its commands.
fn settings(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(settings)).collect()
}

/// The message for mistyped settings among the variables; none if there are none.
fn mistyped_message(variables: &[String], command: &Command) -> Option<String> {
    let mut settings = settings(command);
    settings.sort_unstable();
    settings.dedup();
    let mistyped = mistyped(variables, &settings);
    let (first, setting) = *mistyped.first()?;
    let questions: Vec<String> = mistyped
        .iter()
        .map(|(variable, setting)| format!("unknown setting {variable}, did you mean {setting}?"))
        .collect();
    let questions = questions.join(" ");
    Some(format!("{questions} rename it; if another program reads {first}, set {setting} too"))
}

/// The message of [`parse`] about mistyped variables of program `P`: lets a test compare the settings of all programs.
pub fn find_mistyped_setting<P: Parser>(variables: &[String]) -> Option<String> {
    mistyped_message(variables, &P::command())
}

/// Treats an empty variable as unset: compose files and charts pass on variables without a value.
fn without_empty_variables(command: Command, is_empty: &dyn Fn(&OsStr) -> bool) -> Command {
    command
        .mut_args(
            |argument| {
                if argument.get_env().is_some_and(is_empty) { argument.env(Resettable::Reset) } else { argument }
            },
        )
        .mut_subcommands(|subcommand| without_empty_variables(subcommand, is_empty))
}

/// The message for an invalid value; none for other errors, whose text by clap is clear.
fn invalid_value_message(error: &clap::Error, command: &Command) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let option = find_option(command, argument)?;
    let variable = option.get_env().map(|name| format!(" ({})", name.to_string_lossy())).unwrap_or_default();
    let setting = format!("--{}{variable}", option.get_long()?);
    if let Some(ContextValue::Strings(allowed)) = error.get(ContextKind::ValidValue)
        && !allowed.is_empty()
    {
        return Some(format!("invalid value `{value}` for {setting}; allowed: {}", allowed.join(", ")));
    }
    let cause = plain_cause(&std::error::Error::source(error)?.to_string());
    // Of a file, the cause names the place in it.
    if cause.starts_with(&format!("{value}:")) {
        return Some(format!("invalid {setting}: {cause}"));
    }
    if option.is_hide_env_values_set() {
        // It may be a secret, or hold one by mistake.
        return Some(format!("invalid value for {setting}: {cause}"));
    }
    Some(format!("invalid value `{value}` for {setting}: {cause}"))
}

/// The option that clap shows as `argument`, of the command or of a subcommand.
fn find_option<'a>(command: &'a Command, argument: &str) -> Option<&'a clap::Arg> {
    let name = argument.trim_start_matches('-').split([' ', '=']).next()?;
    let own = command.get_arguments().find(|option| option.get_long() == Some(name));
    own.or_else(|| command.get_subcommands().find_map(|subcommand| find_option(subcommand, argument)))
}

/// The messages of Rust's number parsers in plain words.
fn plain_cause(cause: &str) -> String {
    match cause {
        "invalid digit found in string" | "cannot parse integer from empty string" => "expected a whole number".into(),
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
        #[arg(long, hide_env_values = true)]
        hidden: Option<NonZeroU32>,
    }

    #[test]
    fn an_invalid_value_is_named_with_its_variable_and_what_is_allowed() {
        let cases = [
            ("--row-batch-size=x", "invalid value `x` for --row-batch-size (ROW_BATCH_SIZE): expected a whole number"),
            ("--row-batch-size=0", "invalid value `0` for --row-batch-size (ROW_BATCH_SIZE): it must be at least 1"),
            ("--hidden=secret", "invalid value for --hidden: expected a whole number"),
            ("--id-conflict=maybe", "invalid value `maybe` for --id-conflict; allowed: fail, update"),
        ];
        for (argument, message) in cases {
            let error = Options::try_parse_from(["program", argument]).unwrap_err();
            assert_eq!(invalid_value_message(&error, &Options::command()).as_deref(), Some(message), "{argument}");
        }
        let error = Options::try_parse_from(["program", "--startup-timeout=soon"]).unwrap_err();
        let message = invalid_value_message(&error, &Options::command()).unwrap();
        assert!(message.starts_with("invalid value `soon` for --startup-timeout (STARTUP_TIMEOUT): "), "{message}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let command = without_empty_variables(Options::command(), &|name| name == "ROW_BATCH_SIZE");
        let variable = |long| {
            let argument = command.get_arguments().find(|argument| argument.get_long() == Some(long)).unwrap();
            argument.get_env().map(OsStr::to_owned)
        };
        assert_eq!(variable("row-batch-size"), None);
        assert_eq!(variable("startup-timeout"), Some("STARTUP_TIMEOUT".into()));
    }

    #[test]
    fn a_mistyped_setting_is_named() {
        let message = |variable: &str| mistyped_message(&[variable.to_owned(), "PATH".to_owned()], &Options::command());
        assert_eq!(
            message("ROW_BATCHSIZE").as_deref(),
            Some(
                "unknown setting ROW_BATCHSIZE, did you mean ROW_BATCH_SIZE? rename it; if another program reads \
                 ROW_BATCHSIZE, set ROW_BATCH_SIZE too"
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
    fn the_usage_is_that_of_the_called_command() {
        let called = ["status", "--nothing"].map(str::to_owned).into_iter();
        let usage = usage(Program::command(), called).to_string();
        assert_eq!(usage, "Usage: program status [OPTIONS]");
    }

    #[test]
    fn the_short_help_shows_what_is_needed_first() {
        let command = with_short_help(Options::command());
        let (short, long) = (command.clone().render_help().to_string(), command.clone().render_long_help().to_string());
        assert!(!short.contains("--startup-timeout") && short.contains("--id-conflict"), "{short}");
        assert!(long.contains("--startup-timeout") && long.contains("STARTUP_TIMEOUT"), "{long}");
    }

    fn parse_file(path: &str) -> Result<String, String> {
        Err(format!("{path}:3:1: unknown field `amont`"))
    }

    #[derive(Debug, Parser)]
    struct WithFile {
        #[arg(long, env = "MAPPING", value_parser = parse_file)]
        mapping: Option<String>,
    }

    #[test]
    fn a_fault_in_a_file_is_named_by_its_place() {
        let error = WithFile::try_parse_from(["program", "--mapping=t.toml"]).unwrap_err();
        let message = invalid_value_message(&error, &WithFile::command());
        assert_eq!(message.as_deref(), Some("invalid --mapping (MAPPING): t.toml:3:1: unknown field `amont`"));
    }

    #[test]
    fn other_errors_are_left_to_clap() {
        let error = Options::try_parse_from(["program", "--no-such-option"]).unwrap_err();
        assert_eq!(invalid_value_message(&error, &Options::command()), None);
    }
}

//! The command line: read by clap, with errors that name the environment variable too, as most settings come from there.
//!
//! `inputs` adds the environment and the file of settings, which `file` reads; `message` says what is wrong, `mistyped` finds slips in names;
//! `resolve` tells where each value came from, and `redact` keeps secrets out of that.

mod common;
mod config;
mod file;
mod inputs;
mod message;
mod mistyped;
mod redact;
mod resolve;

use std::ffi::OsStr;
use std::sync::OnceLock;

use assay_transaction::Exit;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Parser};

use self::inputs::Inputs;
use self::message::{first_paragraph, invalid_value_message, usage};
use self::mistyped::mistyped;
use crate::failure::{is_json, print_failure};

pub use self::common::{CommonArgs, ProcessArgs, ShutdownOptions, StartupOptions};
pub use self::config::ConfigOption;
pub use self::resolve::{ResolvedSetting, SettingOrigin, resolve_settings};

/// What [`parse`] has to warn of, once logs are there.
static WARNING: OnceLock<String> = OnceLock::new();

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

/// Reads the command line, the environment and the file of `--config`. An invalid value ends the program with exit code 2 and a
/// message that names the option, its variable, the value and what is allowed. A mistyped setting does so too.
pub fn parse<P: Parser>() -> P {
    let plain = P::command();
    let inputs = Inputs::of_process(plain.get_name(), std::env::args_os().skip(1));
    let inputs = inputs.unwrap_or_else(|message| refuse_file::<P>(&message));
    let command = inputs.apply(plain.clone()).unwrap_or_else(|message| refuse_file::<P>(&message));
    let command = with_short_help(command);
    let parsed = command.clone().try_get_matches().and_then(|matches| P::from_arg_matches(&matches));
    if let Err(error) = &parsed
        && !error.use_stderr()
    {
        // Help, or the version.
        error.exit()
    }
    if let Some(message) = mistyped_message(&inputs.variable_names(), &plain) {
        refuse::<P>(ErrorKind::ValueValidation, &message)
    }
    if let Some(warning) = inputs.warning(&plain) {
        // Only a second call in a process would find another.
        let _ = WARNING.set(warning);
    }
    parsed.unwrap_or_else(|mut error| {
        if let Some(message) = invalid_value_message(&error, &command, &inputs) {
            refuse::<P>(error.kind(), &message)
        }
        // clap would list options that are set by variables as required.
        if error.get(ContextKind::Usage).is_some() {
            let usage = usage(command.clone(), std::env::args().skip(1));
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
        end(&error.format(&mut command.clone()))
    })
}

/// Ends the program over its file of settings, unless help or the version is asked for.
fn refuse_file<P: Parser>(message: &str) -> ! {
    match with_short_help(P::command()).try_get_matches() {
        Err(error) if !error.use_stderr() => error.exit(),
        _ => refuse::<P>(ErrorKind::ValueValidation, message),
    }
}

/// Ends the program with a message.
fn refuse<P: Parser>(kind: ErrorKind, message: &str) -> ! {
    end(&P::command().error(kind, message))
}

/// Ends the program with an error in the command line, as an object under `--json`.
fn end(error: &clap::Error) -> ! {
    if is_json() {
        print_failure(&first_paragraph(&error.to_string()), Exit::Usage);
        std::process::exit(i32::from(Exit::Usage as u8))
    }
    error.exit()
}

/// What [`parse`] warns of.
pub(crate) fn warning() -> Option<&'static str> {
    WARNING.get().map(String::as_str)
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

    fn said(error: &clap::Error, command: &Command) -> Option<String> {
        invalid_value_message(error, command, &Inputs::for_tests(&[], &[], None))
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
            assert_eq!(said(&error, &Options::command()).as_deref(), Some(message), "{argument}");
        }
        let error = Options::try_parse_from(["program", "--startup-timeout=soon"]).unwrap_err();
        let message = said(&error, &Options::command()).unwrap();
        assert!(message.starts_with("invalid value `soon` for --startup-timeout (STARTUP_TIMEOUT): "), "{message}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let inputs = Inputs::for_tests(&[], &["ROW_BATCH_SIZE"], None);
        let command = inputs.apply(Options::command()).unwrap();
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
        let message = said(&error, &WithFile::command());
        assert_eq!(message.as_deref(), Some("invalid --mapping (MAPPING): t.toml:3:1: unknown field `amont`"));
    }

    #[test]
    fn other_errors_are_left_to_clap() {
        let error = Options::try_parse_from(["program", "--no-such-option"]).unwrap_err();
        assert_eq!(said(&error, &Options::command()), None);
    }

    #[test]
    fn an_invalid_value_of_the_file_is_named_with_its_place() {
        let inputs = Inputs::for_tests(&[], &[], Some("\nROW_BATCH_SIZE = 'many'"));
        let error = inputs.apply(Options::command()).unwrap().try_get_matches_from(["program"]).unwrap_err();
        let message = invalid_value_message(&error, &Options::command(), &inputs).unwrap();
        let (start, end) = (
            "invalid value `many` for --row-batch-size (ROW_BATCH_SIZE) in ",
            ", line 2, column 18: expected a whole number",
        );
        assert!(message.starts_with(start) && message.ends_with(end), "{message}");
    }

    #[test]
    fn the_first_paragraph_is_one_line() {
        let error = Options::try_parse_from(["program", "--no-such-option"]).unwrap_err();
        assert_eq!(first_paragraph(&error.to_string()), "unexpected argument '--no-such-option' found");
    }
}

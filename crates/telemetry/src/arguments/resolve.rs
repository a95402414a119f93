//! The settings of a program with their values and where each came from, as `assay config` shows them.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;

use super::inputs::Inputs;
use super::message::message;
use super::redact::{holds_secret, redacted};

/// A setting, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResolvedSetting {
    /// Its variable, which is its name in a file, too.
    pub name: String,
    /// Its flag; none for an argument without one.
    pub flag: Option<String>,
    /// The value in force; none if it has none.
    pub value: Option<String>,
    /// Whether a part of the value is hidden.
    pub is_redacted: bool,
    /// Where the value came from.
    pub origin: SettingOrigin,
    /// The file that it came from.
    pub file: Option<String>,
    /// The line in that file.
    pub line: Option<usize>,
}

/// Where a value came from, in the order of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingOrigin {
    /// The command line.
    Flag,
    /// A variable.
    Environment,
    /// The file of `--config`.
    File,
    /// The default.
    Default,
    /// Nothing: there is no default.
    Unset,
}

/// The settings of a program, or of one of its commands. `line` is its command line: the names of commands, then flags.
///
/// # Errors
///
/// As the program refuses what it is given; one line.
pub fn resolve_settings(command: &Command, line: &[String]) -> Result<Vec<ResolvedSetting>, String> {
    let inputs = Inputs::of_process(command.get_name(), line.iter().map(OsString::from))?;
    let parser = inputs.apply(command.clone())?;
    let matches = parsed(&parser, line).map_err(|error| message(&error, &parser, &inputs))?;
    let (mut settings, mut command, mut matches) = (Vec::new(), command, &matches);
    loop {
        let called = matches.subcommand();
        // Of the commands above the called one, only what holds for all of them.
        let asked = command.get_arguments().filter(|it| !it.is_hide_set() && (called.is_none() || it.is_global_set()));
        settings.extend(asked.filter_map(|argument| resolve(argument, matches, &inputs)));
        let Some((name, inner)) = called else { return Ok(settings) };
        let Some(subcommand) = command.find_subcommand(name) else { return Ok(settings) };
        (command, matches) = (subcommand, inner);
    }
}

/// A parsed command line, which may lack what the program needs to work. That is checked last, when all values were judged.
fn parsed(parser: &Command, line: &[String]) -> Result<ArgMatches, clap::Error> {
    use ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument, MissingSubcommand};
    let arguments = || std::iter::once(parser.get_name()).chain(line.iter().map(String::as_str));
    parser.clone().try_get_matches_from(arguments()).or_else(|error| match error.kind() {
        MissingRequiredArgument | MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand => {
            parser.clone().ignore_errors(true).try_get_matches_from(arguments())
        }
        _ => Err(error),
    })
}

fn resolve(argument: &Arg, matches: &ArgMatches, inputs: &Inputs) -> Option<ResolvedSetting> {
    let (id, is_secret) = (argument.get_id().as_str(), argument.is_hide_env_values_set());
    let name = argument.get_env()?.to_string_lossy().into_owned();
    let raw = matches.try_get_raw(id).ok().flatten();
    let given: Option<Vec<_>> = raw.map(|values| values.map(|value| value.to_string_lossy()).collect());
    let value = given.filter(|values| !values.is_empty()).map(|values| values.join(","));
    let placed = inputs.in_file(&name);
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => SettingOrigin::Flag,
        Some(ValueSource::EnvVariable) => SettingOrigin::Environment,
        Some(_) if placed.is_some() => SettingOrigin::File,
        Some(_) if value.is_some() => SettingOrigin::Default,
        _ => SettingOrigin::Unset,
    };
    let placed = placed.filter(|_| origin == SettingOrigin::File);
    Some(ResolvedSetting {
        flag: argument.get_long().map(|long| format!("--{long}")),
        is_redacted: value.as_ref().is_some_and(|value| holds_secret(value, is_secret)),
        value: value.map(|value| redacted(&value, is_secret)),
        origin,
        file: placed.map(|(file, _)| file.path().display().to_string()),
        line: placed.map(|(_, setting)| setting.line),
        name,
    })
}

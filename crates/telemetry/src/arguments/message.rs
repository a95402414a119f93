//! What is said about a wrong command line: one line that names the option, its variable, the value and what is allowed.

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::inputs::Inputs;

/// An error of clap as one line.
pub(super) fn message(error: &clap::Error, command: &Command, inputs: &Inputs) -> String {
    invalid_value_message(error, command, inputs).unwrap_or_else(|| first_paragraph(&error.to_string()))
}

/// The first paragraph of what clap says, on one line.
pub(super) fn first_paragraph(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The usage of the called command.
pub(super) fn usage(mut command: Command, arguments: impl Iterator<Item = String>) -> StyledStr {
    command.build();
    for name in arguments {
        let Some(called) = command.find_subcommand(&name) else { break };
        command = called.clone();
    }
    command.render_usage()
}

/// The message for an invalid value; none for other errors, whose text by clap is clear.
pub(super) fn invalid_value_message(error: &clap::Error, command: &Command, inputs: &Inputs) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (argument, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let option = find_option(command, argument)?;
    let variable = option.get_env().map(|name| name.to_string_lossy().into_owned());
    let place = variable.as_deref().and_then(|name| place_in_file(inputs, name, value)).unwrap_or_default();
    let setting = match (option.get_long(), variable) {
        (Some(long), Some(variable)) => format!("--{long} ({variable}){place}"),
        (Some(long), None) => format!("--{long}"),
        (None, variable) => format!("{}{place}", variable?),
    };
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

/// The place of a value in the file of settings, if it came from there.
fn place_in_file(inputs: &Inputs, name: &str, value: &str) -> Option<String> {
    let (file, setting) = inputs.in_file(name)?;
    let mut values = setting.values.iter().flat_map(|values| values.split(',').chain([values.as_str()]));
    values.any(|part| part == value).then(|| format!(" in {}", file.place(setting)))
}

/// The option that clap shows as `argument`, of the command or of a subcommand.
fn find_option<'a>(command: &'a Command, argument: &str) -> Option<&'a clap::Arg> {
    let name = argument.trim_start_matches('-').split([' ', '=']).next()?;
    let is_named =
        |option: &&clap::Arg| option.get_long().map_or_else(|| option.to_string() == argument, |it| it == name);
    let own = command.get_arguments().find(is_named);
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

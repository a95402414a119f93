//! `assay config`: the settings of a program, with their values and where each came from.

use std::fmt;
use std::path::Path;

use assay_telemetry::{LogOptions, ResolvedSetting, SettingOrigin, resolve_settings};
use assay_transaction::Exit;
use clap::{Args, Command};
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{Table, one_line, print};
use crate::programs::{command_line, command_lines};

/// Longest value that is shown.
const VALUE: usize = 120;

/// Show each setting with its value and where it came from
///
/// Reads the environment and the file of --config as the program does, and flags after --. Secrets are shown as ***, also those
/// inside of addresses.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  assay config
  assay config loader watch
  assay config writer --config assay.toml --json
  assay config assay run -- --api-batch-size 500")]
pub(crate) struct ConfigArguments {
    /// The program and, if it has some, its command, such as `loader watch` [default: all programs]
    #[arg(value_name = "PROGRAM", num_args = 0..=2)]
    program: Vec<String>,
    /// Flags of the program
    #[arg(value_name = "FLAG", last = true, requires = "program")]
    flags: Vec<String>,
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Shows the settings.
pub(crate) fn config(arguments: &ConfigArguments, file: Option<&Path>) -> Result<Exit, CommandError> {
    let file: Vec<String> = file.map(|path| format!("--config={}", path.display())).into_iter().collect();
    let mut list = SettingList(Vec::new());
    match arguments.program.split_first() {
        Some((program, command)) => list.add_called(program, &[command, &file, &arguments.flags].concat())?,
        None => command_lines().iter().try_for_each(|command| list.add_all(command, &file))?,
    }
    print(&list, arguments.json)?;
    Ok(Exit::Done)
}

/// The settings in the order of the programs, each once, unless programs differ in its value.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct SettingList(Vec<SettingLine>);

/// A setting.
#[derive(Debug, Serialize)]
struct SettingLine {
    #[serde(flatten)]
    setting: ResolvedSetting,
    /// The programs that read it with this value.
    programs: Vec<String>,
}

impl SettingList {
    /// Adds the settings of one command line.
    fn add_called(&mut self, program: &str, line: &[String]) -> Result<(), CommandError> {
        let command = command_line(program).ok_or_else(|| unknown(program))?;
        self.add(&command, line)
    }

    /// Adds the settings of a program and of all of its commands.
    fn add_all(&mut self, program: &Command, flags: &[String]) -> Result<(), CommandError> {
        self.add(program, flags)?;
        for subcommand in program.get_subcommands() {
            self.add(program, &[&[subcommand.get_name().to_owned()], flags].concat())?;
        }
        Ok(())
    }

    fn add(&mut self, command: &Command, line: &[String]) -> Result<(), CommandError> {
        let program = command.get_name();
        for setting in resolve_settings(command, line).map_err(CommandError::Settings)? {
            match self.0.iter_mut().find(|line| line.setting == setting) {
                Some(line) if line.programs.iter().any(|name| name == program) => {}
                Some(line) => line.programs.push(program.to_owned()),
                None => self.0.push(SettingLine { setting, programs: vec![program.to_owned()] }),
            }
        }
        Ok(())
    }
}

fn unknown(program: &str) -> CommandError {
    let names: Vec<_> = command_lines().iter().map(|command| command.get_name().to_owned()).collect();
    CommandError::Settings(format!("unknown program {}; allowed: {}", one_line(program, VALUE), names.join(", ")))
}

/// `flag`, `environment`, `assay.toml:3`, `default` or `-`.
fn origin(setting: &ResolvedSetting) -> String {
    match (setting.origin, &setting.file, setting.line) {
        (SettingOrigin::File, Some(file), Some(line)) => format!("{}:{line}", one_line(file, VALUE)),
        (SettingOrigin::File, ..) => "file".to_owned(),
        (SettingOrigin::Flag, ..) => "flag".to_owned(),
        (SettingOrigin::Environment, ..) => "environment".to_owned(),
        (SettingOrigin::Default, ..) => "default".to_owned(),
        (SettingOrigin::Unset, ..) => "-".to_owned(),
    }
}

impl fmt::Display for SettingList {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["setting", "value", "from", "read by"]);
        for SettingLine { setting, programs } in &self.0 {
            let value = setting.value.as_deref().map_or_else(|| "-".to_owned(), |value| one_line(value, VALUE));
            table.add([setting.name.clone(), value, origin(setting), programs.join(", ")]);
        }
        table.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, value: Option<&str>, origin: SettingOrigin) -> SettingLine {
        let setting = ResolvedSetting {
            name: name.into(),
            flag: Some(format!("--{}", name.to_lowercase().replace('_', "-"))),
            value: value.map(str::to_owned),
            is_redacted: value.is_some_and(|value| value.contains("***")),
            origin,
            file: (origin == SettingOrigin::File).then(|| "assay.toml".into()),
            line: (origin == SettingOrigin::File).then_some(3),
        };
        SettingLine { setting, programs: vec!["writer".into()] }
    }

    fn example() -> SettingList {
        SettingList(vec![
            line("DATABASE_URL", Some("postgres://ada:***@db/assay"), SettingOrigin::File),
            line("LOG_LEVEL", Some("debug"), SettingOrigin::Flag),
            line("METRICS_ADDR", None, SettingOrigin::Unset),
        ])
    }

    #[test]
    fn its_json_is_pinned() {
        crate::output::pin_json("config", &example());
    }

    #[test]
    fn reads_as_a_table() {
        assert_eq!(
            example().to_string(),
            "\
setting       value                        from          read by
DATABASE_URL  postgres://ada:***@db/assay  assay.toml:3  writer
LOG_LEVEL     debug                        flag          writer
METRICS_ADDR  -                            -             writer
"
        );
    }

    #[test]
    fn each_command_of_each_program_has_settings() {
        let mut list = SettingList(Vec::new());
        let flags = ["watch", "--watch-interval=7s"].map(str::to_owned);
        list.add_called("loader", &flags).unwrap();
        let interval = list.0.iter().find(|line| line.setting.name == "WATCH_INTERVAL").unwrap();
        assert_eq!((interval.setting.value.as_deref(), interval.setting.origin), (Some("7s"), SettingOrigin::Flag));
        assert!(list.0.iter().all(|line| line.setting.name != "SOURCE_URL"), "that is of `loader` alone");
        let mut list = SettingList(Vec::new());
        command_lines().iter().try_for_each(|command| list.add_all(command, &[])).unwrap();
        let names: Vec<_> = list.0.iter().map(|line| line.setting.name.as_str()).collect();
        assert!(
            ["SOURCE_URL", "WATCH_URL", "STREAMER_TOKENS", "ML_API_DELAY", "ASSAY_CONFIG"]
                .iter()
                .all(|name| names.contains(name))
        );
        let error = list.add_called("lader", &[]).unwrap_err().to_string();
        assert_eq!(error, "unknown program lader; allowed: loader, predictor, writer, streamer, ml-api, assay");
        let wrong = ["--chunk-rows=many".to_owned()];
        let error = list.add_called("loader", &wrong).unwrap_err().to_string();
        assert_eq!(error, "invalid value `many` for --chunk-rows (CHUNK_ROWS): expected a whole number");
    }
}

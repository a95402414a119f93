//! Where values come from besides flags: the environment, then the file of `--config`, then defaults.
//!
//! clap reads flags and variables itself. A value of the file becomes the default of its argument, unless the variable is
//! set: so the order flag, environment, file, default holds, and one parser judges all values.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command};

use super::config::{CONFIG_FLAG, CONFIG_VARIABLE};
use super::file::{FileSetting, SettingsFile, is_known};
use super::redact::holds_secret;

/// The suffix of settings that name the file of a secret.
const FILE_SUFFIX: &str = "_FILE";

/// The environment and the file of settings.
pub(super) struct Inputs {
    /// Names of the variables that are not empty.
    variables: Vec<OsString>,
    /// Names of those that are.
    empty: Vec<OsString>,
    file: Option<SettingsFile>,
}

impl Inputs {
    /// What this process was given, for the command line of a program.
    pub(super) fn of_process(program: &str, line: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut variables, mut empty) = (Vec::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            if value.is_empty() { empty.push(name) } else { variables.push(name) }
        }
        let named = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = config_flag(line).or(named);
        let file = path.map(|path| SettingsFile::read(&path, program)).transpose()?;
        Ok(Self { variables, empty, file })
    }

    /// Names of the set variables.
    pub(super) fn variable_names(&self) -> Vec<String> {
        self.variables.iter().filter_map(|name| name.to_str().map(str::to_owned)).collect()
    }

    /// A command that takes its values from here. An empty variable counts as unset: compose files and charts pass on variables
    /// without a value.
    pub(super) fn apply(&self, command: Command) -> Result<Command, String> {
        self.check_lists(&command)?;
        Ok(self.applied(command))
    }

    fn applied(&self, command: Command) -> Command {
        command
            .mut_args(|argument| {
                let Some(name) = argument.get_env().map(OsStr::to_owned) else { return argument };
                let argument = if self.empty.contains(&name) { argument.env(Resettable::Reset) } else { argument };
                match name.to_str().and_then(|name| self.in_file(name)) {
                    Some((_, setting)) => with_default(argument, setting),
                    None => argument,
                }
            })
            .mut_subcommands(|subcommand| self.applied(subcommand))
    }

    /// Refuses lists for settings that take one value.
    fn check_lists(&self, command: &Command) -> Result<(), String> {
        for argument in command.get_arguments() {
            let setting = argument.get_env().and_then(OsStr::to_str).and_then(|name| Some((name, self.in_file(name)?)));
            if let Some((name, (file, setting))) = setting
                && setting.is_list
                && !takes_several(argument)
            {
                return Err(format!("{}: expected one value for {name}, not a list", file.place(setting)));
            }
        }
        command.get_subcommands().try_for_each(|subcommand| self.check_lists(subcommand))
    }

    /// The setting of the file that is in force, unless a flag overrides it. A secret and the file that holds it override each other.
    pub(super) fn in_file(&self, name: &str) -> Option<(&SettingsFile, &FileSetting)> {
        let file = self.file.as_ref()?;
        let setting = file.get(name)?;
        let other = name.strip_suffix(FILE_SUFFIX).map_or_else(|| format!("{name}{FILE_SUFFIX}"), str::to_owned);
        // A variable of that name that is no setting has nothing to do with it.
        let is_overridden = self.is_set(name) || is_known(&other) && self.is_set(&other);
        (!is_overridden).then_some((file, setting))
    }

    fn is_set(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable == name)
    }

    /// A warning if everybody may read a secret of the file.
    pub(super) fn warning(&self, command: &Command) -> Option<String> {
        let file = self.file.as_ref().filter(|file| file.is_world_readable())?;
        let name = first_secret(command, file)?;
        let path = file.path().display();
        Some(format!("{path} holds {name}, and everybody on this machine may read it: `chmod o-r {path}`"))
    }
}

/// The path of `--config` among the arguments.
fn config_flag(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == CONFIG_FLAG {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix(CONFIG_FLAG)?.strip_prefix('=')) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// An argument with the values of the file as its default, which --help does not show: it may be a secret.
fn with_default(argument: Arg, setting: &FileSetting) -> Arg {
    // clap keeps defaults for the life of the program, and so does this: once for each setting.
    let values = setting.values.iter().map(|value| &*Box::leak(value.clone().into_boxed_str()));
    argument.required(false).hide_default_value(true).default_values(values)
}

fn takes_several(argument: &Arg) -> bool {
    argument.get_value_delimiter().is_some()
        || argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(argument.get_action(), ArgAction::Append)
}

/// The first setting of the file with a secret in it.
fn first_secret(command: &Command, file: &SettingsFile) -> Option<String> {
    let own = command.get_arguments().find_map(|argument| {
        let name = argument.get_env()?.to_str()?;
        let is_secret = argument.is_hide_env_values_set();
        let values = &file.get(name)?.values;
        values.iter().any(|value| holds_secret(value, is_secret)).then(|| name.to_owned())
    });
    own.or_else(|| command.get_subcommands().find_map(|subcommand| first_secret(subcommand, file)))
}

#[cfg(test)]
impl Inputs {
    /// Inputs of variables and the text of a file.
    pub(super) fn for_tests(variables: &[(&str, &str)], empty: &[&str], toml: Option<&str>) -> Self {
        let file = toml.map(|toml| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.toml");
            std::fs::write(&path, toml).unwrap();
            SettingsFile::read(&path, "writer").unwrap()
        });
        let variables = variables.iter().map(|(name, _)| name.into()).collect();
        Self { variables, empty: empty.iter().map(Into::into).collect(), file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    #[derive(Debug, Parser)]
    struct Options {
        #[arg(env = "SOURCE_URL", required = true, num_args = 1..)]
        sources: Vec<String>,
        #[arg(long, env = "API_BATCH_SIZE", default_value = "100")]
        api_batch_size: u32,
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: Option<String>,
        #[arg(long, env = "DATABASE_URL_FILE")]
        database_url_file: Option<String>,
        #[arg(long, env = "WATCH_SUFFIX", value_delimiter = ',')]
        suffixes: Vec<String>,
    }

    fn inputs(toml: &str, variables: &[(&str, &str)]) -> Inputs {
        Inputs::for_tests(variables, &["WATCH_SUFFIX"], Some(toml))
    }

    fn parsed(inputs: &Inputs, line: &[&str]) -> Options {
        let command = inputs.apply(Options::command()).unwrap();
        let matches = command.try_get_matches_from([&["program"], line].concat()).unwrap();
        Options::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let given = inputs("API_BATCH_SIZE = 7\nSOURCE_URL = ['a.csv', 'b.csv']\nWATCH_SUFFIX = '.csv,.gz'", &[]);
        let options = parsed(&given, &[]);
        assert_eq!((options.api_batch_size, options.sources), (7, vec!["a.csv".to_owned(), "b.csv".to_owned()]));
        assert_eq!(options.suffixes, [".csv", ".gz"]);
        let options = parsed(&given, &["--api-batch-size=9", "c.csv"]);
        assert_eq!((options.api_batch_size, options.sources), (9, vec!["c.csv".to_owned()]));
        assert_eq!(parsed(&inputs("", &[]), &["x"]).api_batch_size, 100);
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        // clap reads the environment itself, so the argument only must keep its own default.
        let given = inputs(
            "API_BATCH_SIZE = 7\nDATABASE_URL_FILE = '/run/url'",
            &[("API_BATCH_SIZE", "9"), ("DATABASE_URL", "x")],
        );
        assert!(given.in_file("API_BATCH_SIZE").is_none() && given.in_file("DATABASE_URL_FILE").is_none());
        let of_another = inputs("LOG_FILE = '/var/log/a.log'", &[("LOG", "debug")]);
        assert!(of_another.in_file("LOG_FILE").is_some(), "LOG is no setting");
        let command = given.apply(Options::command()).unwrap();
        let variable = |name: &str| command.get_arguments().find(|it| it.get_id() == name).unwrap().get_env().is_some();
        assert!(variable("api_batch_size") && !variable("suffixes"), "an empty variable is unset");
    }

    #[test]
    fn help_shows_nothing_of_the_file() {
        let given = inputs("DATABASE_URL = 'postgres://ada:a-password@h/d'\nAPI_BATCH_SIZE = 7531", &[]);
        let help = given.apply(Options::command()).unwrap().render_long_help().to_string();
        assert!(help.contains("--database-url") && !help.contains("a-password") && !help.contains("7531"), "{help}");
    }

    #[test]
    fn a_list_for_one_value_is_refused() {
        let error = inputs("\nAPI_BATCH_SIZE = [1, 2]", &[]).apply(Options::command()).unwrap_err();
        assert!(
            error.ends_with("a.toml, line 2, column 18: expected one value for API_BATCH_SIZE, not a list"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_that_everybody_may_read_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let warning = |toml: &str, mode: u32| {
            std::fs::write(&path, toml).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let inputs = Inputs {
                variables: Vec::new(),
                empty: Vec::new(),
                file: Some(SettingsFile::read(&path, "writer").unwrap()),
            };
            inputs.warning(&Options::command())
        };
        let secret = "DATABASE_URL = 'postgres://ada:pw@host/db'";
        let said = warning(secret, 0o644).unwrap();
        assert!(said.contains("a.toml holds DATABASE_URL, and everybody") && !said.contains("pw"), "{said}");
        assert_eq!(warning(secret, 0o640), None);
        assert_eq!(warning("DATABASE_URL = 'sqlite://a.db'", 0o644), None);
    }

    #[test]
    fn the_flag_is_found_before_parsing() {
        let found = |line: &str| config_flag(line.split(' ').map(OsString::from));
        for line in ["run --config a.toml x", "--config=a.toml run"] {
            assert_eq!(found(line), Some("a.toml".into()), "{line}");
        }
        for line in ["run x", "run --configure=a.toml", "run -- --config a.toml", "run --config"] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}

//! The file of `--config`: settings by the names that they have in the environment, in TOML.
//!
//! One file may serve a whole fleet. So it may name the settings of all programs, and a table such as `[writer]` has what
//! one program alone takes. What no program knows is refused, with its place: a slip must not leave a default in force.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assay_transaction::{place_in_text, problem_in_text};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config::{CONFIG_FLAG, CONFIG_VARIABLE};
use super::mistyped::nearest;

/// The names of all settings of all programs, one a line. `UPDATE_DOCS=1 cargo test -p assay --bins configuration` writes it.
const KNOWN: &str = include_str!("settings.txt");
/// The programs, each of which may have a table.
const PROGRAMS: [&str; 6] = ["assay", "loader", "ml-api", "predictor", "streamer", "writer"];
/// What a value may be.
const FORMS: &str = "expected a text, a number, true, false, or a list of them";
/// Permission of everybody to read a file.
const WORLD_READABLE: u32 = 0o004;

/// The settings of a file, for one program.
#[derive(Debug)]
pub(super) struct SettingsFile {
    path: PathBuf,
    is_world_readable: bool,
    settings: BTreeMap<String, FileSetting>,
}

/// A setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSetting {
    /// Its values as text; one, unless it is a list.
    pub(super) values: Vec<String>,
    pub(super) is_list: bool,
    /// `line 2, column 8`.
    pub(super) place: String,
    /// The line, from 1.
    pub(super) line: usize,
}

impl SettingsFile {
    /// Reads the file for a program. The error is one line that names the file, the place and what is allowed.
    pub(super) fn read(path: &Path, program: &str) -> Result<Self, String> {
        let shown = path.display();
        let failed =
            |error: std::io::Error| format!("cannot read {shown} ({error}): check {CONFIG_FLAG} ({CONFIG_VARIABLE})");
        let text = fs::read_to_string(path).map_err(failed)?;
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        let settings = settings_of(&text, program).map_err(|problem| format!("{shown}, {problem}"))?;
        Ok(Self { path: path.to_owned(), is_world_readable: mode & WORLD_READABLE != 0, settings })
    }

    /// A setting. One without a value counts as unset, as an empty variable does.
    pub(super) fn get(&self, name: &str) -> Option<&FileSetting> {
        self.settings.get(name).filter(|setting| setting.values.iter().any(|value| !value.is_empty()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_world_readable(&self) -> bool {
        self.is_world_readable
    }

    /// `assay.toml, line 2, column 8`.
    pub(super) fn place(&self, setting: &FileSetting) -> String {
        format!("{}, {}", self.path.display(), setting.place)
    }
}

fn settings_of(text: &str, program: &str) -> Result<BTreeMap<String, FileSetting>, String> {
    let table = DeTable::parse(text).map_err(|error| problem_in_text(text, error.span(), error.message()))?;
    let (mut shared, mut own) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in table.get_ref() {
        let DeValue::Table(settings) = value.get_ref() else {
            add(text, name, value, &mut shared)?;
            continue;
        };
        if !PROGRAMS.contains(&name.get_ref().as_ref()) {
            let place = place_in_text(text, name.span().start);
            return Err(format!("{place}: `{}` is no program; allowed: {}", name.get_ref(), PROGRAMS.join(", ")));
        }
        let mut read = BTreeMap::new();
        settings.iter().try_for_each(|(name, value)| add(text, name, value, &mut read))?;
        if *name.get_ref() == program {
            own = read;
        }
    }
    shared.extend(own);
    Ok(shared)
}

fn add(
    text: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    settings: &mut BTreeMap<String, FileSetting>,
) -> Result<(), String> {
    check_name(name.get_ref()).map_err(|problem| format!("{}: {problem}", place_in_text(text, name.span().start)))?;
    let start = value.span().start;
    let place = place_in_text(text, start);
    let is_list = matches!(value.get_ref(), DeValue::Array(_));
    let values = match value.get_ref() {
        DeValue::Array(elements) => {
            elements.iter().map(|element| scalar(element.get_ref())).collect::<Option<Vec<_>>>()
        }
        single => scalar(single).map(|value| vec![value]),
    };
    let values = values.ok_or_else(|| format!("{place}: {FORMS} for {}", name.get_ref()))?;
    let line = text[..start].matches('\n').count() + 1;
    settings.insert(name.get_ref().clone().into_owned(), FileSetting { values, is_list, place, line });
    Ok(())
}

/// Whether a program has a setting of this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.lines().any(|setting| setting == name)
}

fn check_name(name: &str) -> Result<(), String> {
    if name == CONFIG_VARIABLE {
        return Err(format!("{name} cannot be in the file that it names"));
    }
    if is_known(name) {
        return Ok(());
    }
    let meant =
        nearest(name, &mut KNOWN.lines()).map(|setting| format!(", did you mean {setting}?")).unwrap_or_default();
    Err(format!("unknown setting {name}{meant}"))
}

/// A value as the environment would have it; none if it is no scalar.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(is_so) => Some(is_so.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> String {
        settings_of(text, "writer").unwrap()[name].values.join("|")
    }

    #[test]
    fn values_are_those_of_the_environment() {
        for (toml, expected) in [
            ("LOG_LEVEL = 'debug'", "debug"),
            ("LOG_LEVEL = 5_000", "5000"),
            ("LOG_LEVEL = 0x10", "16"),
            ("LOG_LEVEL = 0.05", "0.05"),
            ("LOG_LEVEL = true", "true"),
            ("LOG_LEVEL = ['a', 2]", "a|2"),
        ] {
            assert_eq!(value(toml, "LOG_LEVEL"), expected, "{toml}");
        }
    }

    #[test]
    fn a_table_is_for_one_program() {
        let toml =
            "LOG_LEVEL = 'warn'\nMETRICS_ADDR = ''\n[loader]\nLOG_LEVEL = 'debug'\n[writer]\nLOG_LEVEL = 'info'\n";
        assert_eq!(value(toml, "LOG_LEVEL"), "info");
        assert_eq!(settings_of(toml, "predictor").unwrap()["LOG_LEVEL"].line, 1);
        assert_eq!(settings_of(toml, "loader").unwrap()["LOG_LEVEL"].place, "line 4, column 13");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (toml, expected) in [
            ("\nLOG_LEVL = 'info'", "line 2, column 1: unknown setting LOG_LEVL, did you mean LOG_LEVEL?"),
            ("log_level = 'info'", "line 1, column 1: unknown setting log_level, did you mean LOG_LEVEL?"),
            ("[writer]\nCOLOUR_OF_THE_SKY = 1", "line 2, column 1: unknown setting COLOUR_OF_THE_SKY"),
            ("[loader]\nLOG_LEVL = 1", "line 2, column 1: unknown setting LOG_LEVL, did you mean LOG_LEVEL?"),
            ("[write]\nLOG_LEVEL = 1", "line 1, column 2: `write` is no program; allowed: assay, loader, "),
            ("LOG_LEVEL = 2026-01-11", "line 1, column 13: expected a text, a number, true, false, or a list"),
            ("LOG_LEVEL = 1\nLOG_LEVEL = 2", "line 2, column 1: duplicate key"),
            ("LOG_LEVEL = 'a", "line 1, column 1"),
            ("ASSAY_CONFIG = 'b.toml'", "line 1, column 1: ASSAY_CONFIG cannot be in the file that it names"),
        ] {
            let error = settings_of(toml, "writer").unwrap_err();
            assert!(error.starts_with(expected) && !error.contains('\n'), "{toml}: {error}");
        }
        let error = SettingsFile::read(Path::new("/nowhere.toml"), "writer").unwrap_err();
        assert!(
            error.contains("cannot read /nowhere.toml (") && error.ends_with("check --config (ASSAY_CONFIG)"),
            "{error}"
        );
    }

    #[test]
    fn a_setting_without_a_value_is_unset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "LOG_LEVEL = ''\nLOG_FORMAT = 'json'\n").unwrap();
        let file = SettingsFile::read(&path, "writer").unwrap();
        assert!(file.get("LOG_LEVEL").is_none() && file.get("LOG_FORMAT").is_some());
    }
}

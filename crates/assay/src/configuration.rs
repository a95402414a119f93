//! docs/configuration.md, made from the command lines of all programs; the test below keeps it current.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::programs::command_lines;

/// Settings that a first try may need.
const NEEDED_FIRST: [&str; 10] = [
    "SOURCE_URL",
    "AMQP_URL",
    "DATABASE_URL",
    "ML_API_URL",
    "ENDPOINT_URL",
    "KEY",
    "SECRET",
    "MAPPING",
    "ID_NAMESPACE",
    "API_BATCH_SIZE",
];

/// The programs with settings of their own.
const PROGRAMS: [&str; 5] = ["loader", "predictor", "writer", "streamer", "ml-api"];

/// A setting, and the programs that read it.
struct Setting {
    flag: String,
    default: String,
    help: String,
    section: String,
    programs: Vec<&'static str>,
}

impl Setting {
    fn of(argument: &Arg) -> Self {
        let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match values.join(" ").as_str() {
            "" => String::new(),
            value => format!("`{value}`"),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        Self {
            flag: argument.get_long().map_or_else(|| "argument".to_owned(), |long| format!("`--{long}`")),
            default,
            help: help.replace('|', "\\|").replace('\n', " "),
            section: argument.get_help_heading().unwrap_or("General").to_owned(),
            programs: Vec::new(),
        }
    }

    /// The program that reads the setting, if it is only one apart from `assay`.
    fn only_program(&self) -> Option<&'static str> {
        let first_word = |name: &&'static str| name.split(' ').next();
        let mut stages: Vec<_> = self.programs.iter().filter_map(first_word).filter(|name| *name != "assay").collect();
        stages.dedup();
        if let [stage] = stages[..] { Some(stage) } else { None }
    }

    /// The programs, without the commands of those that read it in all commands.
    fn readers(&self) -> String {
        let is_included = |name: &str| {
            self.programs.iter().any(|other| name.strip_prefix(other).is_some_and(|rest| rest.starts_with(' ')))
        };
        self.programs.iter().copied().filter(|name| !is_included(name)).collect::<Vec<_>>().join(", ")
    }
}

/// The command lines with settings of their own. `assay` stands for all of its other commands.
fn commands() -> Vec<(&'static str, Command)> {
    let [loader, predictor, writer, streamer, ml_api, assay] = command_lines();
    let subcommand = |program: &Command, name| program.find_subcommand(name).expect("the program has it").clone();
    let mut commands = vec![
        ("loader", loader.clone()),
        ("loader watch", subcommand(&loader, "watch")),
        ("predictor", predictor),
        ("writer", writer),
        ("streamer", streamer.clone()),
        ("streamer serve", subcommand(&streamer, "serve")),
        ("streamer simulate", subcommand(&streamer, "simulate")),
        ("ml-api", ml_api),
        ("assay run", subcommand(&assay, "run")),
        ("assay inspect", subcommand(&assay, "inspect")),
    ];
    commands.push(("assay", assay.clone()));
    let others = assay.get_subcommands().filter(|command| !["run", "inspect"].contains(&command.get_name()));
    commands.extend(others.map(|command| ("assay", command.clone())));
    commands
}

/// All settings with an environment variable, in the order in which the programs name them.
fn settings() -> Vec<(String, Setting)> {
    let (mut order, mut settings) = (Vec::new(), BTreeMap::<String, Setting>::new());
    for (program, command) in commands() {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(variable) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else { continue };
            let setting = settings.entry(variable.clone()).or_insert_with(|| {
                order.push(variable);
                Setting::of(argument)
            });
            if !setting.programs.contains(&program) {
                setting.programs.push(program);
            }
        }
    }
    order.into_iter().filter_map(|variable| settings.remove_entry(&variable)).collect()
}

/// The sections of docs/configuration.md.
fn sections() -> String {
    let settings = settings();
    let mut text = String::from("## Needed first\n\n");
    let find = |name: &&str| settings.iter().find(|(variable, _)| variable == name).expect("the setting exists");
    add_table(&mut text, NEEDED_FIRST.iter().map(find));
    text.push_str("\n## Settings of several programs\n");
    let shared = || settings.iter().filter(|(_, setting)| setting.only_program().is_none());
    let mut headings: Vec<&str> = Vec::new();
    for (_, setting) in shared() {
        if !headings.contains(&setting.section.as_str()) {
            headings.push(&setting.section);
        }
    }
    for heading in headings {
        write!(text, "\n### {heading}\n\n").unwrap();
        add_table(&mut text, shared().filter(|(_, setting)| setting.section == heading));
    }
    for program in PROGRAMS {
        write!(text, "\n## {program}\n\n").unwrap();
        add_table(&mut text, settings.iter().filter(|(_, setting)| setting.only_program() == Some(program)));
    }
    text
}

fn add_table<'a>(text: &mut String, settings: impl Iterator<Item = &'a (String, Setting)>) {
    text.push_str("| variable | flag | default | meaning | read by |\n| --- | --- | --- | --- | --- |\n");
    for (variable, setting) in settings {
        let Setting { flag, default, help, .. } = setting;
        writeln!(text, "| `{variable}` | {flag} | {default} | {help} | {} |", setting.readers()).unwrap();
    }
}

#[test]
fn docs_configuration_lists_every_setting() {
    const BEGIN: &str = "<!-- settings: made by the code -->\n";
    const END: &str = "<!-- end of settings -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    let begin = document.find(BEGIN).expect("the settings begin") + BEGIN.len();
    let end = document.find(END).expect("the settings end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{}{}{}", &document[..begin], sections(), &document[end..]);
        std::fs::write(path, updated).unwrap();
        return;
    }
    let (found, expected) = (&document[begin..end], sections());
    let difference = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "run `UPDATE_DOCS=1 cargo test -p assay --bins configuration` and review the changes, such as {difference:?}"
    );
}

/// `--config` refuses names that no program knows, so each program has the list.
#[test]
fn the_known_settings_are_all_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../telemetry/src/arguments/settings.txt");
    let mut names: Vec<String> = settings().into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = names.join("\n") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(found == expected, "run `UPDATE_DOCS=1 cargo test -p assay --bins configuration`");
}

/// The programs of a fleet share an environment: a setting of one must not look like a typo to another.
#[test]
fn no_program_takes_the_setting_of_another_for_a_mistyped_one() {
    let settings = commands().into_iter().flat_map(|(_, command)| {
        let names = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned));
        names.collect::<Vec<_>>()
    });
    let mistyped = [
        assay_telemetry::find_mistyped_setting::<assay_loader::Arguments>,
        assay_telemetry::find_mistyped_setting::<assay_predictor::Arguments>,
        assay_telemetry::find_mistyped_setting::<assay_writer::Arguments>,
        assay_telemetry::find_mistyped_setting::<assay_streamer::Arguments>,
        assay_telemetry::find_mistyped_setting::<assay_ml_api::Arguments>,
        assay_telemetry::find_mistyped_setting::<crate::arguments::Arguments>,
    ];
    for setting in settings {
        let variable = [setting];
        for mistyped in mistyped {
            assert_eq!(mistyped(&variable), None);
        }
    }
    let slip = ["AMPQ_URL".to_owned()];
    assert!(mistyped[0](&slip).is_some(), "the loader reads AMQP_URL");
}

#[test]
fn every_command_prints_json() {
    // What completions, man and report print is a file of another form; the console prints nothing.
    const OTHERS: [&str; 4] = ["completions", "console", "man", "report"];
    let [.., assay] = command_lines();
    for command in assay.get_subcommands().filter(|command| !OTHERS.contains(&command.get_name())) {
        let has_json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
        assert!(has_json, "`assay {}` lacks --json: docs/json.md", command.get_name());
    }
}

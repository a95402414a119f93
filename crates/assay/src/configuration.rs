//! The table of settings in the README, made from the command lines of all programs; the test below keeps it true.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

/// The commands of the desk, and those beside it. The table calls them `assay`, and `assay run` with them where it has a setting too.
const DESK: [&str; 13] = [
    "runs",
    "status",
    "row",
    "transaction",
    "audit",
    "failures",
    "invalid",
    "replay",
    "repair",
    "cancel",
    "operations",
    "put",
    "watch-setup",
];

/// A setting, and the programs that have it.
struct Setting {
    flag: String,
    default: String,
    help: String,
    programs: Vec<&'static str>,
}

/// The command lines of all programs.
fn programs() -> Vec<(&'static str, Command)> {
    let mut programs: Vec<(&str, Command)> = vec![
        ("loader", assay_loader::Arguments::command()),
        ("loader watch", subcommand(&assay_loader::Arguments::command(), "watch")),
        ("predictor", assay_predictor::Arguments::command()),
        ("writer", assay_writer::Arguments::command()),
        ("streamer serve", subcommand(&assay_streamer::Arguments::command(), "serve")),
        ("streamer simulate", subcommand(&assay_streamer::Arguments::command(), "simulate")),
        ("ml-api", assay_ml_api::Arguments::command()),
        ("assay run", subcommand(&crate::arguments::Arguments::command(), "run")),
        ("assay inspect", subcommand(&crate::arguments::Arguments::command(), "inspect")),
        ("assay put", subcommand(&crate::arguments::Arguments::command(), "put")),
        ("assay watch-setup", subcommand(&crate::arguments::Arguments::command(), "watch-setup")),
    ];
    programs.extend(DESK.map(|name| ("assay", subcommand(&crate::arguments::Arguments::command(), name))));
    programs
}

/// Every setting that has an environment variable, by the order in which the programs name them.
fn table() -> String {
    let programs = programs();
    let (mut order, mut settings) = (Vec::new(), BTreeMap::<String, Setting>::new());
    for (program, command) in &programs {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(variable) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else { continue };
            let setting = settings.entry(variable.clone()).or_insert_with(|| {
                order.push(variable);
                describe(argument)
            });
            if !setting.programs.contains(program) {
                setting.programs.push(*program);
            }
        }
    }
    let mut table =
        String::from("| variable | flag | default | what it is | read by |\n| --- | --- | --- | --- | --- |\n");
    for variable in order {
        let Setting { flag, default, help, programs } = &settings[&variable];
        // Where a whole program has it, its commands need not be named.
        let is_told = |name: &str| {
            programs.iter().any(|other| name.strip_prefix(other).is_some_and(|rest| rest.starts_with(' ')))
        };
        let programs: Vec<_> = programs.iter().copied().filter(|name| !is_told(name)).collect();
        let programs = programs.join(", ");
        writeln!(table, "| `{variable}` | {flag} | {default} | {help} | {programs} |").unwrap();
    }
    table
}

fn subcommand(program: &Command, name: &str) -> Command {
    program.find_subcommand(name).expect("the program has it").clone()
}

fn describe(argument: &Arg) -> Setting {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match values.join(" ").as_str() {
        "" => String::new(),
        value => format!("`{value}`"),
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let flag = argument.get_long().map_or_else(|| "argument".to_owned(), |long| format!("`--{long}`"));
    Setting { flag, default, help: help.replace('|', "\\|").replace('\n', " "), programs: Vec::new() }
}

#[test]
fn the_readme_lists_every_setting() {
    const BEGIN: &str = "<!-- settings: made by the code -->\n";
    const END: &str = "<!-- end of settings -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let begin = readme.find(BEGIN).expect("the README has a place for settings") + BEGIN.len();
    let end = readme.find(END).expect("the place for settings ends");
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{}{}{}", &readme[..begin], table(), &readme[end..]);
        std::fs::write(path, updated).unwrap();
        return;
    }
    assert_eq!(
        &readme[begin..end],
        table(),
        "run `UPDATE_README=1 cargo test --release -p assay` and look at what changed"
    );
}

/// The environment of a fleet is shared: what one program reads must not look like a slip to another.
#[test]
fn no_program_takes_the_setting_of_another_for_a_mistyped_one() {
    let settings = programs().into_iter().flat_map(|(_, command)| {
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

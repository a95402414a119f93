//! The command lines of all programs, of which completions, man pages, `assay config` and docs/configuration.md are made.

use clap::{Command, CommandFactory as _};

/// The command line of each program, by its name.
pub(crate) fn command_lines() -> [Command; 6] {
    [
        assay_loader::Arguments::command(),
        assay_predictor::Arguments::command(),
        assay_writer::Arguments::command(),
        assay_streamer::Arguments::command(),
        assay_ml_api::Arguments::command(),
        crate::arguments::Arguments::command(),
    ]
}

/// The command line of a program.
pub(crate) fn command_line(program: &str) -> Option<Command> {
    command_lines().into_iter().find(|command| command.get_name() == program)
}

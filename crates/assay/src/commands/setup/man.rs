//! `assay man`: the help of all programs as man pages.

use std::io;
use std::path::{Path, PathBuf};

use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use clap::{Args, Command};
use clap_mangen::Man;

use crate::error::CommandError;
use crate::programs::command_lines;

/// What a page is of, in its footer.
const SOURCE: &str = concat!("Assay ", env!("CARGO_PKG_VERSION"));

/// Write man pages of all programs and their commands
#[derive(Debug, Args)]
#[command(after_help = "Example:
  assay man --output ~/.local/share/man/man1 && man assay-status")]
pub(crate) struct ManArguments {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// What is logged.
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Writes a page for each program, and for each of its commands.
pub(crate) fn man(arguments: &ManArguments) -> Result<Exit, CommandError> {
    for program in command_lines() {
        let mut program = program.disable_help_subcommand(true);
        // Gives each command its whole name, such as `assay-status`.
        program.build();
        write_pages(&program, &arguments.output)
            .map_err(|error| CommandError::Output { path: arguments.output.display().to_string(), error })?;
    }
    Ok(Exit::Done)
}

fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    for command in command.get_subcommands() {
        write_pages(command, folder)?;
    }
    Man::new(command.clone()).source(SOURCE).manual("Assay").generate_to(folder).map(drop)
}

//! `assay completions`: what a shell completes after the name of a program.

use std::path::PathBuf;

use assay_telemetry::LogOptions;
use assay_transaction::Exit;
use clap::{Args, ValueEnum};
use clap_complete::Shell;

use crate::error::CommandError;
use crate::output::print_text;
use crate::programs::command_lines;

/// Print shell completions of all programs
///
/// With --output, writes one file for each program, named as the shell looks for it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(assay completions bash)            in ~/.bashrc; zsh in ~/.zshrc
  assay completions fish | source             in ~/.config/fish/config.fish
  assay completions zsh --output ~/.zfunc     for a folder of $fpath")]
pub(crate) struct CompletionsArguments {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: CompletedShell,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// What is logged.
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// The shells whose completions are tested.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

impl From<CompletedShell> for Shell {
    fn from(shell: CompletedShell) -> Self {
        match shell {
            CompletedShell::Bash => Self::Bash,
            CompletedShell::Zsh => Self::Zsh,
            CompletedShell::Fish => Self::Fish,
        }
    }
}

/// Writes to --output, or to stdout.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<Exit, CommandError> {
    let shell = Shell::from(arguments.shell);
    match &arguments.output {
        Some(folder) => {
            for mut program in command_lines() {
                let name = program.get_name().to_owned();
                clap_complete::generate_to(shell, &mut program, name, folder)
                    .map_err(|error| CommandError::Output { path: folder.display().to_string(), error })?;
            }
        }
        None => print_text(&String::from_utf8_lossy(&scripts(shell)))?,
    }
    Ok(Exit::Done)
}

/// The scripts of all programs, to be sourced as one.
fn scripts(shell: Shell) -> Vec<u8> {
    let mut scripts = Vec::new();
    for mut program in command_lines() {
        let name = program.get_name().to_owned();
        clap_complete::generate(shell, &mut program, name, &mut scripts);
    }
    scripts
}

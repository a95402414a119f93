//! Runs the commands that pages show: this program itself, with the same settings. So a button does what the command beside it does, and the
//! console has no second way of changing a run.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long an order is waited for; it goes on afterwards.
const PATIENCE: Duration = Duration::from_mins(2);

/// How this program is run again.
#[derive(Debug, Clone)]
pub struct Commands {
    program: PathBuf,
    /// What precedes each command, such as `--config FILE`.
    arguments: Vec<OsString>,
    /// Settings that this process was given otherwise than by the environment.
    environment: Vec<(String, OsString)>,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It ended.
    Done { exit_code: Option<i32>, output: String },
    /// It takes longer than somebody waits, and goes on.
    GoesOn,
}

impl Commands {
    /// Runs `program` with these arguments and settings before those of the command.
    pub fn new(program: PathBuf, arguments: Vec<OsString>, environment: Vec<(String, OsString)>) -> Self {
        Self { program, arguments, environment }
    }

    fn command(&self, arguments: &[String], operator: Option<&str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(operator) = operator {
            command.env("ASSAY_OPERATOR", operator);
        }
        command
    }

    /// Runs a command in the name of an operator, and returns what it printed.
    pub(crate) async fn run(&self, arguments: &[String], operator: &str) -> io::Result<Ended> {
        let child = self.command(arguments, Some(operator)).spawn()?;
        // In a task of its own, so that it ends well even if nobody waits any more.
        let ending = tokio::spawn(child.wait_with_output());
        match timeout(PATIENCE, ending).await {
            Ok(ended) => {
                let Output { status, stdout, stderr } = ended.map_err(io::Error::other)??;
                let text = [stderr, stdout].concat();
                Ok(Ended::Done { exit_code: status.code(), output: String::from_utf8_lossy(&text).into_owned() })
            }
            Err(_) => Ok(Ended::GoesOn),
        }
    }

    /// Starts a command whose output is passed on; it ends when nobody reads it any more.
    pub(crate) fn stream(&self, arguments: &[String], operator: Option<&str>) -> io::Result<Child> {
        self.command(arguments, operator).stderr(Stdio::null()).kill_on_drop(true).spawn()
    }
}

/// A word of a command as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain =
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=,@+".contains(&byte));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (word, expected) in [("a-1", "a-1"), ("", "''"), ("it's $HOME", "'it'\\''s $HOME'"), ("a;b", "'a;b'")] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[tokio::test]
    async fn it_runs_in_the_name_of_the_operator() {
        let environment = vec![("GIVEN".to_owned(), "x".into())];
        let commands = Commands::new("/bin/sh".into(), vec!["-c".into()], environment);
        let script = "echo \"$ASSAY_OPERATOR $GIVEN\"; echo why >&2; exit 4".to_owned();
        let Ended::Done { exit_code, output } = commands.run(&[script], "ada").await.unwrap() else { panic!() };
        assert_eq!((exit_code, output.as_str()), (Some(4), "why\nada x\n"));
    }
}

//! How a program says why it ends early: as the last log line or, under `--json`, as an object on stderr, its last line.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write as _;

use assay_transaction::{Exit, escaped, mask_card_numbers};
use serde::Serialize;

/// The flag of all commands that print JSON.
const JSON_FLAG: &str = "--json";

/// The target of log lines that are for the file alone, as their text is printed, too.
pub(crate) const PRINTED: &str = "assay_telemetry::printed";

/// Why a program ends early: one clear line, and an exit code that a scheduler can act on.
pub trait Failure: Display {
    /// The exit code.
    fn exit(&self) -> Exit;
}

/// A failure as JSON: docs/json.md.
#[derive(Debug, Serialize)]
struct FailureReport {
    error: String,
    hint: &'static str,
    exit_code: u8,
}

impl FailureReport {
    fn new(message: &str, exit: Exit) -> Self {
        let error = escaped(&mask_card_numbers(message)).into_owned();
        Self { error, hint: hint(exit), exit_code: exit as u8 }
    }
}

/// Whether results and failures are printed as JSON. The command line is asked, as it may be what is wrong.
pub fn is_json() -> bool {
    is_json_asked(std::env::args_os().skip(1))
}

fn is_json_asked(arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    let mut own = arguments.take_while(|argument| argument.as_ref() != "--");
    own.any(|argument| argument.as_ref() == JSON_FLAG)
}

/// Prints a failure as JSON.
pub(crate) fn print_failure(message: &str, exit: Exit) {
    let report = FailureReport::new(message, exit);
    // Nobody is told of a failure to write to stderr.
    if let Ok(line) = serde_json::to_string(&report) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// What to look at next. The fix itself is in the message, which names the setting.
fn hint(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "nothing is to be done",
        Exit::FailedRows => "`assay failures RUN` shows the rows, and `assay audit RUN` counts them again",
        Exit::Usage => {
            "`assay config` shows each setting and where it came from, and --help what is allowed; a retry changes nothing"
        }
        Exit::DependencyUnavailable => "`assay doctor` checks each dependency; repeat the command once it is reachable",
        Exit::SourceUnreadable => "`assay inspect SOURCE` shows what is read of the source",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_as_json_is_pinned() {
        let report =
            FailureReport::new("there is no run 4111111111111111\u{1b}[2J: `assay runs` lists all runs", Exit::Usage);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"error":"there is no run ************1111\\u{1b}[2J: `assay runs` lists all runs","hint":"`assay config` shows each setting and where it came from, and --help what is allowed; a retry changes nothing","exit_code":2}"#
        );
    }

    #[test]
    fn the_flag_is_found_among_the_options() {
        for (line, expected) in
            [("status latest --json", true), ("status --json=x", false), ("config -- --json", false)]
        {
            assert_eq!(is_json_asked(line.split(' ')), expected, "{line}");
        }
    }
}

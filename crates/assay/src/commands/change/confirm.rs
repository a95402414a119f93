//! Asking before something is done that cannot be taken back: on a terminal with a question, elsewhere by `--yes`.

use std::io::{BufRead, IsTerminal as _, Write};

use assay_store::Act;
use clap::Args;

use crate::commands::ledger::OperatorOptions;
use crate::error::CommandError;

/// An act that takes a reason and a confirmation.
#[derive(Debug, Args)]
pub(crate) struct ConfirmOptions {
    /// Do it without asking; needed where nobody is at a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: OperatorOptions,
}

impl ConfirmOptions {
    /// Asks for what is missing, the reason and whether it is to be done. Where nobody can be asked, what is missing is an error.
    pub(crate) fn ask(&self, question: &str) -> Result<Act, CommandError> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let asked = is_terminal.then(|| (std::io::stdin().lock(), std::io::stderr()));
        let context = self.operator.audit_context();
        let reason = decide(question, context.reason.as_deref(), self.yes, asked)?;
        Ok(Act { reason: Some(reason), ..context })
    }

    /// The act where it was confirmed before.
    pub(crate) fn without_asking(&self) -> Act {
        self.operator.audit_context()
    }
}

fn decide<I: BufRead, O: Write>(
    question: &str,
    reason: Option<&str>,
    yes: bool,
    mut asked: Option<(I, O)>,
) -> Result<String, CommandError> {
    let given = reason.map(str::trim).filter(|reason| !reason.is_empty());
    let mut ask = |question: &str, missing: &'static str| {
        let Some((input, output)) = &mut asked else { return Err(CommandError::Unconfirmed { missing }) };
        let mut answer = String::new();
        let read =
            write!(output, "{question} ").and_then(|()| output.flush()).and_then(|()| input.read_line(&mut answer));
        read.map_err(CommandError::Print)?;
        Ok(answer.trim().to_owned())
    };
    // Without a terminal, all that is missing is named at once.
    let missing = match (given, yes) {
        (None, false) => "--reason and --yes",
        (None, true) => "--reason",
        (Some(_), _) => "--yes",
    };
    let reason = match given {
        Some(reason) => reason.to_owned(),
        None => ask("Why?", missing)?,
    };
    if reason.is_empty() {
        return Err(CommandError::Declined);
    }
    if !yes && !matches!(ask(&format!("{question} [y/N]"), missing)?.to_lowercase().as_str(), "y" | "yes") {
        return Err(CommandError::Declined);
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(reason: Option<&str>, yes: bool, answers: Option<&str>) -> (Result<String, String>, String) {
        let mut output = Vec::new();
        let asked = answers.map(|answers| (answers.as_bytes(), &mut output));
        let decided = decide("Cancel it?", reason, yes, asked);
        let decided = decided.map_err(|error| error.to_string());
        (decided, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_terminal_is_asked_for_what_is_missing() {
        let why = Some("wrong file");
        for (reason, yes, answers, expected, shown) in [
            (why, true, "", Ok("wrong file"), ""),
            (why, false, "y\n", Ok("wrong file"), "Cancel it? [y/N] "),
            (None, false, "a mistake\nYes\n", Ok("a mistake"), "Why? Cancel it? [y/N] "),
            (None, true, "a mistake\n", Ok("a mistake"), "Why? "),
            (why, false, "\n", Err("nothing was done"), "Cancel it? [y/N] "),
            (why, false, "", Err("nothing was done"), "Cancel it? [y/N] "),
            (Some(" "), true, "\n", Err("nothing was done"), "Why? "),
        ] {
            let (decided, output) = decided(reason, yes, Some(answers));
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            match (&decided, &expected) {
                (Err(error), Err(start)) => assert!(error.starts_with(start), "{error}"),
                _ => assert_eq!(decided, expected),
            }
            assert_eq!(output, shown);
        }
    }

    #[test]
    fn without_a_terminal_what_is_missing_is_named() {
        assert_eq!(decided(Some("wrong file"), true, None).0, Ok("wrong file".to_owned()));
        for (reason, yes, missing) in [
            (None, false, "give --reason and --yes"),
            (Some(""), true, "give --reason,"),
            (Some("wrong file"), false, "give --yes,"),
        ] {
            let error = decided(reason, yes, None).0.unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
    }
}

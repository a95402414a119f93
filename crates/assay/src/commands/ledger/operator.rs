//! Who changes a run and why, and the confirmation: a question on a terminal, `--yes` elsewhere.

use std::fs;
use std::io::{BufRead, IsTerminal as _, Write};
use std::os::unix::fs::MetadataExt as _;

use assay_store::AuditContext;
use clap::Args;

use crate::error::CommandError;

/// Who changes a run, and why.
#[derive(Debug, Args)]
#[command(next_help_heading = "Who and why")]
pub(crate) struct OperatorOptions {
    /// Operator to record in the table of operations [default: the name of the user]
    #[arg(long, env = "ASSAY_OPERATOR", value_name = "NAME")]
    operator: Option<String>,
    /// Reason to record in the table of operations
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The name of the user.
    #[arg(long, env = "USER", hide = true)]
    user: Option<String>,
}

impl OperatorOptions {
    /// What the table of operations records of the operator.
    pub(crate) fn audit_context(&self) -> AuditContext {
        let name = [&self.operator, &self.user].into_iter().flatten().map(|name| name.trim()).find(|it| !it.is_empty());
        AuditContext { operator: name.map_or_else(system_user, str::to_owned), reason: self.reason.clone() }
    }
}

/// A change that takes a reason and a confirmation.
#[derive(Debug, Args)]
pub(crate) struct ConfirmOptions {
    /// Do it without asking; needed without a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    operator: OperatorOptions,
}

impl ConfirmOptions {
    /// Asks for the reason and the confirmation, if they are missing. Without a terminal, that is an error.
    pub(crate) fn ask(&self, question: &str) -> Result<AuditContext, CommandError> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let asked = is_terminal.then(|| (std::io::stdin().lock(), std::io::stderr()));
        let context = self.operator.audit_context();
        let reason = decide(question, context.reason.as_deref(), self.yes, asked)?;
        Ok(AuditContext { reason: Some(reason), ..context })
    }

    /// For a change that was confirmed before.
    pub(crate) fn without_asking(&self) -> AuditContext {
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
    // Without a terminal, all missing options are named at once.
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

/// The name of the user of this process, else `uid 1000 on HOST`, else `unknown`.
pub(crate) fn system_user() -> String {
    let Ok(user) = fs::metadata("/proc/self").map(|metadata| metadata.uid()) else { return "unknown".to_owned() };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    user_name(user, &users, &assay_connect::host_name())
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(user: u32, users: &str, host: &str) -> String {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user) && !name.is_empty()).then(|| name.to_owned())
    };
    let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
    users.lines().find_map(entry).unwrap_or_else(|| format!("uid {user}{on}"))
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
    fn on_a_terminal_it_asks_for_what_is_missing() {
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
    fn without_a_terminal_it_names_what_is_missing() {
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

    #[test]
    fn a_user_has_a_name_or_a_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:7::/:\nada:x:1000:1000::/home/ada:/bin/sh\n";
        for (user, host, expected) in
            [(0, "box", "root"), (1000, "box", "ada"), (7, "box", "uid 7 on box"), (65_532, "", "uid 65532")]
        {
            assert_eq!(user_name(user, users, host), expected);
        }
        assert_ne!(system_user(), "");
    }
}

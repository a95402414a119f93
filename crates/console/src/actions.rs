//! What an operator may order of a run, each confirmed before: a page shows what would happen, the command, and asks for the reason.

use assay_report::{one_line, with_separators};
use assay_store::{AuditContext, FailedRowSelection, parse_row_range};
use assay_transaction::{FailureClass, Run};
use axum::extract::{Path, Query, State};
use axum::{Extension, Form};
use maud::{Markup, html};
use serde::Deserialize;

use crate::access::{Role, User};
use crate::commands::{Ended, quoted};
use crate::error::PageError;
use crate::markup::{Shell, command, number};
use crate::pages::{crumbs, find_run, run_path};
use crate::server::{Console, Shared};

/// Longest reason that is taken.
const REASON: usize = 1_000;

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Replay,
    Repair,
    Cancel,
    Audit,
}

impl Action {
    const ALL: [Self; 4] = [Self::Replay, Self::Repair, Self::Cancel, Self::Audit];

    fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Repair => "repair",
            Self::Cancel => "cancel",
            Self::Audit => "audit",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Replay => "Replay failed transactions",
            Self::Repair => "Publish missing chunks again",
            Self::Cancel => "End the run early",
            Self::Audit => "Count the rows again",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Replay => "They are scored again. What is scored now is stored, and no longer failed.",
            Self::Repair => {
                "Chunks that were lost on their way are read from the source again. What is recorded stays."
            }
            Self::Cancel => {
                "No more of its source is read. Stored rows stay; chunks on their way fail, class cancelled."
            }
            Self::Audit => "Reads every row of the run, and says whether the numbers add up. Changes nothing.",
        }
    }

    /// Whether it can be ordered of the run.
    fn fits(self, run: &Run) -> bool {
        match self {
            Self::Replay => run.removal.is_none(),
            Self::Repair => run.removal.is_none() && !run.source.is_live() && !run.state.is_finished(),
            Self::Cancel => !run.state.is_finished(),
            Self::Audit => true,
        }
    }

    /// Whether it needs a reason.
    fn has_reason(self) -> bool {
        self != Self::Audit
    }

    /// The words of the command, without the program.
    fn words(self, run: &Run, selection: &Choice, reason: Option<&str>) -> Vec<String> {
        let mut words = vec![self.name().to_owned(), run.run_id.to_string()];
        if self == Self::Replay {
            for class in selection.classes() {
                words.extend(["--class".to_owned(), class.to_owned()]);
            }
            if !selection.rows.trim().is_empty() {
                words.extend(["--rows".to_owned(), selection.rows.trim().to_owned()]);
            }
        }
        if let Some(reason) = reason {
            words.extend(["--reason".to_owned(), reason.to_owned()]);
        }
        if self == Self::Cancel {
            words.push("--yes".to_owned());
        }
        words
    }
}

/// The command as somebody types it.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("assay {}", words.join(" "))
}

/// Which failed rows, in the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice {
    /// A class; all, if it is empty.
    class: String,
    /// Rows and ranges of rows; all, if it is empty.
    rows: String,
}

impl Choice {
    fn classes(&self) -> impl Iterator<Item = &str> {
        self.class.split(',').map(str::trim).filter(|class| !class.is_empty())
    }

    fn selection(&self) -> Result<FailedRowSelection, PageError> {
        let unknown = self.classes().find(|class| !FailureClass::ALL.iter().any(|known| known.code() == *class));
        if let Some(class) = unknown {
            return Err(PageError::Invalid(format!("There is no class {}.", one_line(class, 60))));
        }
        let rows = self.rows.split(',').map(str::trim).filter(|text| !text.is_empty());
        let rows =
            rows.map(|text| parse_row_range(text).map_err(|problem| PageError::Invalid(format!("Rows: {problem}."))));
        Ok(FailedRowSelection {
            classes: self.classes().map(str::to_owned).collect(),
            rows: rows.collect::<Result<_, _>>()?,
        })
    }
}

/// The part of the page of a run that says what can be done: buttons for an operator, and commands for everybody.
pub(crate) fn offer(console: &Console, user: &User, run: &Run) -> Markup {
    let may_order = operator(console, user).is_ok();
    let path = run_path(&run.run_id);
    html! {
        @if !console.has_actions { p { "Nothing can be ordered here (CONSOLE_ACTIONS); these commands do it:" } }
        @else if !may_order { p { "An operator can order this here; these commands do it, too:" } }
        ul.actions {
            @for action in Action::ALL.into_iter().filter(|action| action.fits(run)) {
                li {
                    @if may_order { a.button href=(format!("{path}/actions/{}", action.name())) { (action.title()) "…" } " " }
                    @else { (action.title()) ": " }
                    (command(&line(&action.words(run, &Choice::default(), action.has_reason().then_some("…")))))
                }
            }
            li { a href=(format!("{path}/report")) { "Report, to keep or to print" } ": " (command(&format!("assay report {} > run.html", run.run_id))) }
        }
    }
}

/// The name of somebody who may order something; an error for everybody else.
pub(crate) fn operator<'a>(console: &Console, user: &'a User) -> Result<&'a str, PageError> {
    if !console.has_actions {
        return Err(PageError::Forbidden("Nothing can be ordered here: CONSOLE_ACTIONS is off.".to_owned()));
    }
    user.name_as(Role::Operator)
        .ok_or_else(|| PageError::Forbidden(format!("Only an operator can order this; you are a {}.", user.role)))
}

fn check_fits(action: Action, run: &Run) -> Result<(), PageError> {
    if action.fits(run) {
        return Ok(());
    }
    Err(PageError::Invalid(format!("Run {} is {}: it cannot be ordered to {}.", run.run_id, run.state, action.name())))
}

/// Shows what an order would do.
pub(crate) async fn confirm(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path((name, action)): Path<(String, Action)>,
    Query(choice): Query<Choice>,
) -> Result<Markup, PageError> {
    operator(&console, &user)?;
    let run = find_run(&console, &name).await?;
    check_fits(action, &run)?;
    let selected = match action {
        Action::Replay => Some(console.store.count_failed(&run.run_id, &choice.selection()?).await?),
        _ => None,
    };
    let count: u64 = selected.iter().flatten().map(|(_, count)| count).sum();
    let content = html! {
        (crumbs(&run.run_id))
        h1 { (action.title()) }
        p { (action.meaning()) }
        p { (one_line(&run.source.location, 300)) }
        @if let Some(selected) = &selected {
            form.filter {
                label { "Class " input name="class" value=(choice.class) placeholder="all"; }
                label { "Rows " input name="rows" value=(choice.rows) placeholder="all, or 1-100, 4711"; }
                button { "Count" }
            }
            p.fate { (number(count)) " failed transactions are selected"
                @if !selected.is_empty() { ": " @for (index, (class, count)) in selected.iter().enumerate() { @if index > 0 { ", " } (one_line(class, 60)) " " (number(*count)) } }
            }
        }
        @if selected.is_some() && count == 0 {
            p.empty { "There is nothing to replay." }
        } @else {
            form.confirm method="post" {
                input type="hidden" name="class" value=(choice.class);
                input type="hidden" name="rows" value=(choice.rows);
                input type="hidden" name="count" value=(count);
                @if action.has_reason() { label { "Why? It is recorded with your name. " input name="reason" required maxlength=(REASON); } }
                button.order {
                    (action.title())
                    @if selected.is_some() { ": " (with_separators(count)) }
                }
                " " a href=(run_path(&run.run_id)) { "Leave it" }
            }
        }
        p { "The same on a terminal: " (command(&line(&action.words(&run, &choice, action.has_reason().then_some("…"))))) }
    };
    Ok(Shell::new(action.title(), &user).page(&content))
}

/// What was confirmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    #[serde(default)]
    class: String,
    #[serde(default)]
    rows: String,
    /// Rows that the page showed.
    #[serde(default)]
    count: u64,
    #[serde(default)]
    reason: String,
}

/// Runs the command, and shows what it printed.
pub(crate) async fn order(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path((name, action)): Path<(String, Action)>,
    Form(order): Form<Order>,
) -> Result<Markup, PageError> {
    let operator = operator(&console, &user)?;
    let run = find_run(&console, &name).await?;
    check_fits(action, &run)?;
    let choice = Choice { class: order.class, rows: order.rows };
    let reason = order.reason.trim();
    if action.has_reason() && (reason.is_empty() || reason.len() > REASON) {
        return Err(PageError::Invalid("An order needs a reason.".to_owned()));
    }
    if action == Action::Replay {
        let selected = console.store.count_failed(&run.run_id, &choice.selection()?).await?;
        let now: u64 = selected.iter().map(|(_, count)| count).sum();
        if now > order.count {
            return Err(PageError::Invalid(format!(
                "{} transactions are selected by now, not {}: look again before you order it.",
                with_separators(now),
                with_separators(order.count)
            )));
        }
    }
    let words = action.words(&run, &choice, action.has_reason().then_some(reason));
    let ended = console.commands.run(&words, operator).await.map_err(PageError::Command)?;
    if action == Action::Audit {
        // The command changes nothing, and so records nothing.
        let exit_code = if let Ended::Done { exit_code, .. } = &ended { *exit_code } else { None };
        let details = serde_json::json!({ "by": "console", "exit_code": exit_code });
        let context = AuditContext { operator: operator.to_owned(), reason: None };
        console.store.record_operation("audit", Some(&run.run_id), Some(&details), &context).await?;
    }
    let content = html! {
        (crumbs(&run.run_id))
        h1 { (action.title()) }
        p { (command(&line(&words))) }
        @match &ended {
            Ended::Done { exit_code: Some(0), output } => { p.fate role="status" { "It is done." } (printed(output)) }
            Ended::Done { exit_code, output } => {
                p.problem role="alert" {
                    "It ended with exit code " (exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string()))
                    @if action == Action::Audit && *exit_code == Some(1) { ": the numbers do not add up." } @else { "." }
                }
                (printed(output))
            }
            Ended::GoesOn => { p.fate role="status" { "It takes longer, and goes on. The operations and the page of the run show what comes of it." } }
        }
        p { a href=(run_path(&run.run_id)) { "Back to the run" } }
    };
    Ok(Shell::new(action.title(), &user).page(&content))
}

/// What a command printed: it is masked already, as on a terminal.
fn printed(output: &str) -> Markup {
    html! { pre.printed tabindex="0" { (assay_report::harmless(output)) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;
    use assay_transaction::RunState;

    fn choice(class: &str, rows: &str) -> Choice {
        Choice { class: class.into(), rows: rows.into() }
    }

    #[test]
    fn an_order_is_the_command_that_is_shown() {
        let words = |action: Action, choice: &Choice| line(&action.words(&example(), choice, Some("it's fixed")));
        assert_eq!(
            words(Action::Replay, &choice("rejected, suspect", "1-10")),
            "assay replay batch_20260111_100000_3f9a1c --class rejected --class suspect --rows 1-10 --reason 'it'\\''s fixed'"
        );
        assert!(words(Action::Cancel, &choice("rejected", "")).ends_with("--reason 'it'\\''s fixed' --yes"));
    }

    #[test]
    fn a_choice_is_checked_before_it_is_counted() {
        let selection = choice("rejected", "1-10, 4711").selection().unwrap();
        assert_eq!((selection.classes, selection.rows), (vec!["rejected".to_owned()], vec![(1, 10), (4_711, 4_711)]));
        for wrong in [choice("king", ""), choice("", "0"), choice("", "9-1"), choice("", "--yes"), choice("--yes", "")]
        {
            assert!(wrong.selection().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_finished_run_is_not_cancelled() {
        let open = Run { state: RunState::Loading, sealed: None, finished_at: None, ..example() };
        assert!(Action::Cancel.fits(&open) && Action::Repair.fits(&open));
        assert!(!Action::Cancel.fits(&example()) && Action::Replay.fits(&example()) && Action::Audit.fits(&example()));
    }
}

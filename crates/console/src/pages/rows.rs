//! The rows behind a reason: invalid and failed ones in pages, and files to take away.

use std::io;

use assay_report::{FailedTransactionView, one_line, raw_text, unmasked_line};
use assay_store::{AuditContext, FailedRowSelection, InvalidRecord};
use assay_transaction::Run;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Form};
use bytes::Bytes;
use futures_util::stream::{StreamExt as _, iter, once};
use maud::{Markup, html};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::{crumbs, find_run, run_path};
use crate::access::{Role, User};
use crate::actions;
use crate::error::PageError;
use crate::markup::{Shell, command, fields, number};
use crate::server::{Console, Shared};

/// Rows of a page.
const PAGE: u32 = 50;
/// Longest text of a row that is shown.
const TEXT: usize = 500;

/// The rows of a page, as the address has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RowFilter {
    /// The first row.
    from: u64,
    /// Only this class of failed rows; all, if it is empty.
    class: String,
    /// Only this reason of invalid rows; all, if it is empty.
    reason: String,
}

/// Invalid rows, masked.
pub(crate) async fn invalid(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(from): Query<RowFilter>,
) -> Result<Markup, PageError> {
    let run = find_run(&console, &name).await?;
    invalid_page(&console, &user, &run, &from, false).await
}

/// Why somebody sees rows unmasked.
#[derive(Debug, Deserialize)]
pub(crate) struct Unmasking {
    #[serde(default)]
    from: u64,
    /// Only invalid rows with this reason code.
    #[serde(default)]
    code: String,
    reason: String,
}

/// Invalid rows with their card numbers, for an auditor. It is recorded before anything is shown.
pub(crate) async fn unmasked(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Form(unmasking): Form<Unmasking>,
) -> Result<Markup, PageError> {
    let auditor = auditor(&user)?;
    let run = find_run(&console, &name).await?;
    let context = AuditContext { operator: auditor.to_owned(), reason: Some(reason(&unmasking.reason)?.to_owned()) };
    let details = serde_json::json!({ "by": "console", "form": "page", "from_row": unmasking.from, "rows": PAGE });
    console.store.record_operation("unmask", Some(&run.run_id), Some(&details), &context).await?;
    let from = RowFilter { from: unmasking.from, class: String::new(), reason: unmasking.code };
    invalid_page(&console, &user, &run, &from, true).await
}

fn auditor(user: &User) -> Result<&str, PageError> {
    user.name_as(Role::Auditor)
        .ok_or_else(|| PageError::Forbidden(format!("Only an auditor sees rows unmasked; you are a {}.", user.role)))
}

fn reason(text: &str) -> Result<&str, PageError> {
    let text = text.trim();
    if text.is_empty() {
        Err(PageError::Invalid("Say why; it is recorded with your name.".to_owned()))
    } else {
        Ok(text)
    }
}

async fn invalid_page(
    console: &Console,
    user: &User,
    run: &Run,
    from: &RowFilter,
    is_unmasked: bool,
) -> Result<Markup, PageError> {
    let code = from.reason.trim();
    let reason = (!code.is_empty()).then_some(code);
    let records = console.store.invalid_rows(&run.run_id, reason, from.from, PAGE).await?;
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("reason", code).finish();
    let path = run_path(&run.run_id);
    let title = format!("Invalid rows of {}", run.run_id);
    let content = html! {
        (crumbs(&run.run_id))
        h1 { "Invalid rows" @if let Some(code) = reason { ": " (one_line(code, 60)) } }
        @if reason.is_some() { p { a href=(format!("{path}/invalid")) { "All invalid rows" } } }
        @if is_unmasked { p.problem role="status" { "Card numbers are shown. It is recorded that you saw them." } }
        @if records.is_empty() {
            p.empty { @if from.from > 0 { "No invalid row comes after this. " a href=(format!("{path}/invalid")) { "From the first" } } @else if reason.is_some() { "No row has this reason." } @else { "No row is invalid." } }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Invalid rows" {
                table {
                    thead { tr {
                        th.right scope="col" { "Row" } th.right scope="col" { "Line" } th scope="col" { "Reason" } th scope="col" { "Rule" } th scope="col" { "Text" }
                    } }
                    tbody { @for record in &records { (invalid_row(record, run, is_unmasked)) } }
                }
            }
            (next_page(&format!("{path}/invalid"), &format!("&{query}"), records.len(), records.last().map(|record| record.row)))
        }
        h2 { "Correct and load them again" }
        p { "This file has the header and the rows of the source, to be corrected and loaded as a file of its own. Card numbers are masked; only an auditor has them unmasked." }
        p { a.button href=(format!("{path}/rejected.csv")) { "Rejected rows as a file" } " "
            (command(&format!("assay invalid {} --csv --output rejected.csv", run.run_id))) }
        @if user.role == Role::Auditor {
            form.confirm method="post" action=(format!("{path}/invalid")) {
                input type="hidden" name="from" value=(from.from);
                input type="hidden" name="code" value=(code);
                label { "Why? It is recorded with your name. " input name="reason" required; }
                button { "Show card numbers" } " "
                button formaction=(format!("{path}/rejected.csv")) { "File with card numbers" }
            }
        }
    };
    Ok(Shell::new(&title, user).page(&content))
}

fn invalid_row(record: &InvalidRecord, run: &Run, is_unmasked: bool) -> Markup {
    let shown = if is_unmasked { unmasked_line } else { one_line };
    html! {
        tr {
            th.right scope="row" { a href=(format!("{}/rows/{}", run_path(&run.run_id), record.row)) { (number(record.row)) } }
            td.right { (number(record.line)) }
            td { (one_line(&record.reason, 60)) }
            td { (shown(&record.message, TEXT)) }
            td.raw { code { (shown(&raw_text(record, run), TEXT)) } }
        }
    }
}

/// Leads to the rows after the last one.
fn next_page(path: &str, query: &str, shown: usize, last: Option<u64>) -> Markup {
    html! {
        @if let (true, Some(last)) = (shown >= PAGE as usize, last) {
            nav.pages aria-label="Pages of rows" { a rel="next" href=(format!("{path}?from={}{query}", last + 1)) { "Further rows" } }
        }
    }
}

/// Failed transactions, masked.
pub(crate) async fn failed(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(from): Query<RowFilter>,
) -> Result<Markup, PageError> {
    let run = find_run(&console, &name).await?;
    let classes: Vec<String> =
        Some(from.class.trim().to_owned()).filter(|class| !class.is_empty()).into_iter().collect();
    let selection = FailedRowSelection { classes, rows: Vec::new() };
    let records = console.store.failed_rows(&run.run_id, &selection, from.from, PAGE).await?;
    let last = records.last().map(|record| record.row);
    let path = run_path(&run.run_id);
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("class", from.class.trim()).finish();
    let rows: Vec<FailedTransactionView> = records.into_iter().map(FailedTransactionView::from).collect();
    let title = format!("Failed transactions of {}", run.run_id);
    let content = html! {
        (crumbs(&run.run_id))
        h1 { "Failed transactions" @if !from.class.trim().is_empty() { ": " (one_line(from.class.trim(), 60)) } }
        @if rows.is_empty() {
            p.empty { @if from.from > 0 { "No failed transaction comes after this. " } @else { "No transaction is like this. " } a href=(format!("{path}/failed")) { "All failed transactions" } }
        }
        @for row in &rows {
            article {
                h2 { a href=(format!("{path}/rows/{}", row.row)) { "Row " (number(row.row)) } ": " (one_line(&row.class, 60)) }
                (fields(&row.fields()))
            }
        }
        (next_page(&format!("{path}/failed"), &format!("&{query}"), rows.len(), last))
        @if actions::operator(&console, &user).is_ok() {
            p { a.button href=(format!("{path}/actions/replay?{query}")) { "Replay them…" } }
        }
        p { "The same on a terminal: " (command(&format!("assay failures {}", run.run_id))) }
    };
    Ok(Shell::new(&title, &user).page(&content))
}

/// The rejected rows as a file, masked.
pub(crate) async fn download(State(console): State<Shared>, Path(name): Path<String>) -> Result<Response, PageError> {
    let run = find_run(&console, &name).await?;
    let words = ["invalid", run.run_id.as_str(), "--csv"].map(str::to_owned);
    file(&console, &words, None, "text/csv", &format!("{}-rejected.csv", run.run_id))
}

/// The rejected rows as the source had them, for an auditor; the command records it.
pub(crate) async fn download_unmasked(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Form(unmasking): Form<Unmasking>,
) -> Result<Response, PageError> {
    let auditor = auditor(&user)?;
    let run = find_run(&console, &name).await?;
    let words = ["invalid", run.run_id.as_str(), "--csv", "--unmasked", "--reason", reason(&unmasking.reason)?];
    file(&console, &words.map(str::to_owned), Some(auditor), "text/csv", &format!("{}-rejected.csv", run.run_id))
}

/// The report of a run as a file.
pub(crate) async fn report(State(console): State<Shared>, Path(name): Path<String>) -> Result<Response, PageError> {
    let run = find_run(&console, &name).await?;
    let words = ["report", run.run_id.as_str()].map(str::to_owned);
    file(&console, &words, None, "text/html; charset=utf-8", &format!("{}.html", run.run_id))
}

/// What a command prints, as a file: it is passed on while it is made.
fn file(
    console: &Console,
    words: &[String],
    operator: Option<&str>,
    kind: &str,
    name: &str,
) -> Result<Response, PageError> {
    let mut child = console.commands.stream(words, operator).map_err(PageError::Command)?;
    let pieces = child.stdout.take().map(ReaderStream::new);
    // It is waited for after the last piece: unless it ended well, the browser sees that the file is not complete.
    let end = once(async move {
        let status = child.wait().await?;
        if status.success() {
            Ok(Bytes::new())
        } else {
            Err(io::Error::other(format!("the command ended with {status}")))
        }
    });
    let pieces = iter(pieces).flatten().chain(end);
    // The name of a run has no quote.
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, &disposition)], Body::from_stream(pieces))
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::example;

    #[test]
    fn a_row_is_masked_unless_an_auditor_asked() {
        let record = InvalidRecord {
            run_id: example().run_id,
            row: 4_711,
            line: 4_713,
            reason: "amount_format".into(),
            message: "not a number: `4111111111111111x`".into(),
            raw: b"7;CB 4111111111111111;<script>\x1b[2J".to_vec(),
        };
        let masked = invalid_row(&record, &example(), false).into_string();
        assert!(!masked.contains("4111111111111111") && masked.contains("************1111"), "{masked}");
        assert!(masked.contains("&lt;script&gt;\\u{1b}[2J"), "{masked}");
        assert!(invalid_row(&record, &example(), true).into_string().contains("4111111111111111"));
    }

    #[test]
    fn only_an_auditor_sees_rows_unmasked() {
        let user = |role| User { name: Some("ada".into()), role };
        assert!(auditor(&user(Role::Auditor)).is_ok());
        for other in [user(Role::Operator), user(Role::Viewer), User { name: None, role: Role::Auditor }] {
            assert!(auditor(&other).is_err());
        }
    }
}

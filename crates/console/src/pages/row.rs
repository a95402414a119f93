//! One row: what became of it.

use assay_report::{EarlierAttempt, RowFate, one_line};
use axum::Extension;
use axum::extract::{Path, State};
use maud::{Markup, html};

use super::runs::show_queues;
use super::{crumbs, find_run, run_path};
use crate::access::User;
use crate::error::PageError;
use crate::markup::{Shell, command, fields, number};
use crate::server::Shared;

/// The page.
pub(crate) async fn row(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Path((name, row)): Path<(String, String)>,
) -> Result<Markup, PageError> {
    let run = find_run(&console, &name).await?;
    let row: u64 = row.parse().map_err(|_| PageError::Invalid("A row is a number, from 1.".to_owned()))?;
    let recorded = console.store.row(&run.run_id, row).await?;
    let earlier = console.store.earlier_failures(&run.run_id, row).await?;
    let fate = RowFate::of(&*console.store, &run, row, recorded, async || console.queues.snapshot().await).await?;
    let mut list = fate.fields();
    for failure in earlier {
        list.add("failed before", EarlierAttempt::from(failure).to_string());
    }
    let title = format!("Row {row} of {}", run.run_id);
    let content = html! {
        (crumbs(&run.run_id))
        h1 { "Row " (number(row)) }
        p { (one_line(&run.source.location, 300)) }
        @for line in fate.headline(&run.run_id).lines() { p.fate { (line) } }
        @if let RowFate::Duplicate { of: Some(of), .. } = &fate {
            p { a href=(format!("{}/rows/{}", run_path(&of.run_id), of.row)) { "The row that stored it" } }
        }
        @if let RowFate::OnItsWay { queues: Some(queues), .. } = &fate { (show_queues(Some(queues))) }
        (fields(&list))
        nav.pages aria-label="Rows beside this one" {
            @if row > 1 { a rel="prev" href=(format!("{}/rows/{}", run_path(&run.run_id), row - 1)) { "Row before" } }
            a rel="next" href=(format!("{}/rows/{}", run_path(&run.run_id), row.saturating_add(1))) { "Next row" }
        }
        p { "The same on a terminal: " (command(&format!("assay row {} {row}", run.run_id))) }
    };
    Ok(Shell::new(&title, &user).page(&content))
}

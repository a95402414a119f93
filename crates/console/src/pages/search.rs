//! Finds a run, or transactions by an id.

use assay_report::{FoundTransactions, find_transactions, grouped, one_line};
use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::run_path;
use crate::access::User;
use crate::error::PageError;
use crate::markup::{Shell, command, fields};
use crate::server::Shared;

/// Longest text that is looked for.
const LONGEST: usize = 1_000;

/// What is looked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Search {
    #[serde(default)]
    q: String,
}

/// The page; that of the run, if one has this name.
pub(crate) async fn search(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
    Query(search): Query<Search>,
) -> Result<Response, PageError> {
    let text = search.q.trim();
    if text.is_empty() || text.len() > LONGEST {
        return Err(PageError::Invalid(format!("Search for a run or an id, of at most {LONGEST} characters.")));
    }
    if let Ok(run_id) = text.parse()
        && console.store.run(&run_id).await?.is_some()
    {
        return Ok(Redirect::to(&run_path(&run_id)).into_response());
    }
    let found = find_transactions(&*console.store, text).await?;
    Ok(Shell::new("Search", &user).page(&results(text, &found)).into_response())
}

fn results(text: &str, found: &FoundTransactions) -> Markup {
    let shown = one_line(text, 100);
    let at = |run_id: &assay_transaction::RunId, row: u64| format!("{}/rows/{row}", run_path(run_id));
    html! {
        h1 { "Search for " (shown) }
        @if found.is_empty() {
            p.empty {
                "No run has this name, and no transaction this id. An id that is not stored belongs to a row that is invalid or on \
                 its way: look for the row by its number, on the page of its run."
            }
        }
        @for stored in &found.stored {
            article {
                h2 { "Predicted: " (stored.prediction_line()) }
                p { a href=(at(&stored.run_id, stored.row)) { "Row " (grouped(stored.row)) " of " (stored.run_id) } }
                (fields(&stored.fields()))
            }
        }
        @for failed in &found.failed {
            article {
                h2 { "Failed: " (failed.class) }
                p { a href=(at(&failed.run_id, failed.row)) { "Row " (grouped(failed.row)) " of " (failed.run_id) } }
                (fields(&failed.fields()))
            }
        }
        p { "The same on a terminal: " (command(&format!("assay transaction {}", crate::commands::quoted(&shown)))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_report::fixture::{failed, record};

    #[test]
    fn what_is_found_leads_to_its_row() {
        let found = FoundTransactions { stored: vec![record().into()], failed: vec![failed().into()] };
        let page = results("4711", &found).into_string();
        for part in ["Predicted: fraud, score 0.9700", "/runs/first/rows/3", "Failed: rejected", "/runs/first/rows/7"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("4111111111111111"), "{page}");
        let none = results("<x>", &FoundTransactions { stored: Vec::new(), failed: Vec::new() }).into_string();
        assert!(none.contains("&lt;x&gt;") && none.contains("no transaction this id"), "{none}");
    }
}

//! What operators did: of all runs, or of one.

use assay_report::one_line;
use assay_store::OperationRecord;
use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};

use super::run_path;
use crate::access::User;
use crate::error::PageError;
use crate::markup::{Shell, time};
use crate::server::Shared;

/// Operations that are shown.
pub(crate) const SHOWN: u32 = 200;
/// Longest text that is shown.
const TEXT: usize = 300;

/// The page.
pub(crate) async fn operations(
    State(console): State<Shared>,
    Extension(user): Extension<User>,
) -> Result<Markup, PageError> {
    let records = console.store.operations(None, SHOWN).await?;
    let content = html! {
        h1 { "Operations" }
        p { "What operators did, when and why; the last " (SHOWN) ". " code { "assay operations" } " lists more." }
        (list(&records))
    };
    Ok(Shell::new("Operations", &user).page(&content))
}

/// The operations in a table.
pub(crate) fn list(records: &[OperationRecord]) -> Markup {
    if records.is_empty() {
        return html! { p.empty { "No operator has done anything." } };
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Operations" {
            table {
                thead { tr {
                    th.right scope="col" { "Number" } th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" }
                    th scope="col" { "Run" } th scope="col" { "Why" } th scope="col" { "Details" }
                } }
                tbody { @for record in records {
                    tr {
                        td.right { (record.id) }
                        td { (time(record.done_at)) }
                        td { (one_line(&record.operator, 64)) }
                        td { (record.action) }
                        td { @if let Some(run_id) = &record.run_id { a href=(run_path(run_id)) { (run_id) } } }
                        td { (record.reason.as_deref().map(|reason| one_line(reason, TEXT)).unwrap_or_default()) }
                        td { (record.details.as_ref().map(|details| one_line(&details.to_string(), TEXT)).unwrap_or_default()) }
                    }
                } }
            }
        }
    }
}

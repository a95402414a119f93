//! The views, one file each. Each reads what it shows, and draws it; a part that changes is drawn by the same code for [`crate::live`].

pub(crate) mod operations;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod search;

use assay_transaction::{Run, RunId};
use maud::{Markup, html};

use crate::error::PageError;
use crate::server::Console;

/// The run of an address.
pub(crate) async fn find_run(console: &Console, name: &str) -> Result<Run, PageError> {
    let missing = || no_run(name);
    let run_id: RunId = name.parse().map_err(|_| missing())?;
    console.store.run(&run_id).await?.ok_or_else(missing)
}

/// There is no run of this name.
pub(crate) fn no_run(name: &str) -> PageError {
    PageError::Missing(format!("There is no run {}.", assay_report::one_line(name, 100)))
}

/// Where the page of something of a run is.
pub(crate) fn crumbs(run_id: &RunId) -> Markup {
    html! {
        nav.crumbs aria-label="Where this is" { a href="/" { "Runs" } " / " a href=(run_path(run_id)) { (run_id) } }
    }
}

/// The address of a run. A name has no character that would need to be escaped.
pub(crate) fn run_path(run_id: &RunId) -> String {
    format!("/runs/{run_id}")
}

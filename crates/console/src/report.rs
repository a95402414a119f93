//! A report of one run: one page that needs nothing else, to keep or to print.

use assay_store::{Store, StoreError};
use assay_transaction::RunId;

use crate::markup::standalone;
use crate::pages::run::{Facts, report_content};

/// The report of a run as HTML; none if there is no such run.
pub async fn report(store: &dyn Store, run_id: &RunId) -> Result<Option<String>, StoreError> {
    let facts = Facts::for_report(store, run_id).await?;
    Ok(facts.map(|facts| standalone(&format!("Run {run_id}"), &report_content(&facts)).into_string()))
}

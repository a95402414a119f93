//! Finds transactions by an id: that of a source, or the one it is stored under.

use std::collections::BTreeSet;
use std::fmt;

use assay_store::{Store, StoreError};
use assay_transaction::Namespace;
use serde::Serialize;
use uuid::Uuid;

use crate::{FailedTransactionView, FieldList, StoredTransactionView, grouped};

/// The transactions with an id.
#[derive(Debug, Serialize)]
pub struct FoundTransactions {
    /// Those that are stored.
    pub stored: Vec<StoredTransactionView>,
    /// Those that could not be scored or stored.
    pub failed: Vec<FailedTransactionView>,
}

impl FoundTransactions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.failed.is_empty()
    }
}

impl fmt::Display for FoundTransactions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for stored in &self.stored {
            writeln!(out, "{gap}predicted: {}", stored.prediction_line())?;
            let mut fields = FieldList::default();
            fields.add("from", format!("row {} of run {}", grouped(stored.row), stored.run_id));
            stored.show(&mut fields);
            fields.fmt(out)?;
            gap = "\n";
        }
        for unstored in &self.failed {
            writeln!(out, "{gap}failed: {}", unstored.class)?;
            let mut fields = FieldList::default();
            fields.add("from", format!("row {} of run {}", grouped(unstored.row), unstored.run_id));
            unstored.show(&mut fields);
            fields.fmt(out)?;
            gap = "\n";
        }
        Ok(())
    }
}

/// Finds the transactions with an id: a UUID in any notation, or an id of a source, in every namespace of the ledger.
pub async fn find_transactions(store: &dyn Store, id: &str) -> Result<FoundTransactions, StoreError> {
    let mut candidates = BTreeSet::new();
    if let Ok(uuid) = Uuid::try_parse(id) {
        candidates.insert(uuid);
    }
    for namespace in store.namespaces().await? {
        candidates.insert(Namespace::new(&namespace.to_string()).identify(store.ids(), id).0);
    }
    let mut found = FoundTransactions { stored: Vec::new(), failed: Vec::new() };
    for candidate in candidates {
        found.stored.extend(store.transaction(candidate).await?.map(StoredTransactionView::from));
        found.failed.extend(store.failed_with_id(candidate).await?.into_iter().map(FailedTransactionView::from));
    }
    Ok(found)
}

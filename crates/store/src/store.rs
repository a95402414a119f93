//! The database seam: `postgres` and `sqlite` implement it and pass one contract suite.

use std::pin::Pin;
use std::sync::Arc;

use assay_transaction::IdScheme;
use async_trait::async_trait;

use crate::{ChunkWriter, LiveLedger, Operations, Privacy, RunLedger, StoreError};

/// A database of Assay.
///
/// # The law
///
/// `rows_read = predicted + invalid + failed + duplicate` for each finished run, counted from data rows at any time
/// ([`Operations::tally`]). A transaction belongs for good to the run and row that stored it first: when
/// [`IdConflict::Update`](crate::IdConflict::Update) replaces its content, the row that brought the new content counts as a
/// duplicate of its own run, and `transaction_history` names it. So the counts of both runs stay, but for failed rows that are
/// replayed ([`ChunkWriter::write_replay`]), each of which trades one outcome for another.
#[async_trait]
pub trait Store: RunLedger + ChunkWriter + LiveLedger + Operations + Privacy {
    /// How ids become identities in this database. It never changes: every run and every message follows it.
    fn ids(&self) -> IdScheme;

    /// Server settings under which a crash loses or damages confirmed data, and which no program can override.
    async fn hazards(&self) -> Result<Vec<String>, StoreError>;

    /// Checks that the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Closes all connections once their work is done.
    async fn close(&self);
}

/// A check that the database answers, in the form that a process's health endpoint takes.
pub fn health_check(
    store: &Arc<dyn Store>,
) -> impl Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + 'static {
    let store = Arc::clone(store);
    move || {
        let store = Arc::clone(&store);
        Box::pin(async move { store.ping().await.map_err(|error| error.to_string()) })
    }
}

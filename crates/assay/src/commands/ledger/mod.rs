//! What commands share: opening the ledger, finding a run, and the parts that several of them show.

pub(crate) mod operator;
pub(crate) mod run_argument;
pub(crate) mod since;

use std::sync::Arc;

use assay_store::{DatabaseOptions, Store};
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::{Run, RunId};
use clap::Args;

use crate::error::CommandError;
use crate::local::existing_database;

/// The options of every command that reads the ledger.
#[derive(Debug, Args)]
pub(crate) struct LedgerOptions {
    #[command(flatten)]
    pub(crate) database: DatabaseOptions,
    #[command(flatten)]
    pub(crate) startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

impl LedgerOptions {
    /// Opens the database of DATABASE_URL, else the file that `assay run` created in this folder.
    pub(crate) async fn open(&self, command: &str) -> Result<Arc<dyn Store>, CommandError> {
        let startup = self.startup.startup_timeout;
        let database = existing_database(&self.database).ok_or(CommandError::NoDatabase)?;
        if !self.database.is_set() {
            // An earlier version may have created the file.
            assay_store::migrate(&database, startup).await?;
        }
        Ok(assay_store::connect(&database, command, startup).await?)
    }
}

/// Finds a run by its name.
pub(crate) async fn find_run(store: &dyn Store, run_id: &RunId) -> Result<Run, CommandError> {
    store.run(run_id).await?.ok_or_else(|| CommandError::NoRun(run_id.to_string()))
}

/// Rows that a run has read, according to the ledger.
pub(crate) fn rows_read(run: &Run) -> u64 {
    run.sealed.map_or_else(|| run.checkpoint.rows_before(), |sealed| sealed.rows_read)
}

//! The ledger: the commands that tell what became of runs and rows, and those that change it.
//!
//! One module a command, which holds its arguments, asks the database through `assay_store::Operations`, and prints what it
//! learns: `runs`, `status`, `audit`, `row`, `transaction`, `failures`, `invalid`, `operations` only look; `replay`, `repair`,
//! `cancel` and `remove` act, and record who did so. What they share is here: how a database is opened, how a run is found, who the
//! operator is.

pub(crate) mod control_totals;
pub(crate) mod live_counts;
pub(crate) mod operator;
pub(crate) mod queues;
pub(crate) mod run_argument;
pub(crate) mod since;
pub(crate) mod state;
pub(crate) mod transactions;

use std::path::Path;
use std::sync::Arc;

use assay_predictor::LiveOptions;
use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_store::{DatabaseOptions, Store};
use assay_telemetry::{LogOptions, ShutdownOptions, StartupOptions};
use assay_transaction::{Run, RunId};
use assay_writer::WriterOptions;
use clap::Args;

use crate::error::CommandError;
use crate::local::{DEFAULT_DATABASE, DEFAULT_DATABASE_FILE, StageSettings};

/// What every command of the desk needs.
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
    /// Opens the database: the one that is named, else the file that `assay run` made here.
    pub(crate) async fn open(&self, command: &str) -> Result<Arc<dyn Store>, CommandError> {
        let startup = self.startup.startup_timeout;
        if self.database.is_set() {
            return Ok(assay_store::connect(&self.database, command, startup).await?);
        }
        if !Path::new(DEFAULT_DATABASE_FILE).exists() {
            return Err(CommandError::NoDatabase);
        }
        let database = self.database.clone().or_default(DEFAULT_DATABASE);
        // As `assay run` does: an earlier version may have made the file.
        assay_store::migrate(&database, startup).await?;
        Ok(assay_store::connect(&database, command, startup).await?)
    }
}

/// The stages that rows go through again: those of a fleet, or some in this process.
#[derive(Debug, Args)]
pub(crate) struct StageOptions {
    #[command(flatten)]
    pub(crate) broker: BrokerOptions,
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    writer: WriterOptions,
    #[command(flatten)]
    pub(crate) shutdown: ShutdownOptions,
}

impl StageOptions {
    /// The same, for those who start them.
    pub(crate) fn settings<'a>(&'a self, ledger: &LedgerOptions) -> StageSettings<'a> {
        let (startup, drain) = (ledger.startup.startup_timeout, self.shutdown.drain_timeout);
        StageSettings {
            broker: &self.broker,
            api: &self.api,
            writer: &self.writer,
            // Where a broker is named, they are a fleet's; the one in this process has no live transactions.
            live: LiveOptions::default(),
            take_queued: false,
            startup,
            drain,
        }
    }

    /// Demands that rows of a run whose chunks went through a fleet are not scored by the demonstration model, because
    /// somebody forgot to name the broker.
    pub(crate) fn require_scorer(&self, run: &Run) -> Result<(), CommandError> {
        if run.settings.durable_broker && !self.broker.is_set() && !self.api.is_set() {
            return Err(CommandError::NoFleet(run.run_id.clone()));
        }
        Ok(())
    }
}

/// A run by its name.
pub(crate) async fn find_run(store: &dyn Store, run_id: &RunId) -> Result<Run, CommandError> {
    store.run(run_id).await?.ok_or_else(|| CommandError::NoRun(run_id.to_string()))
}

/// The rows that a run has read, as far as the ledger knows.
pub(crate) fn rows_read(run: &Run) -> u64 {
    run.sealed.map_or_else(|| run.checkpoint.rows_before(), |sealed| sealed.rows_read)
}

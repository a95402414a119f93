//! What commands share: opening the ledger, finding a run, and the parts that several of them show.

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
        if self.database.is_set() {
            return Ok(assay_store::connect(&self.database, command, startup).await?);
        }
        if !Path::new(DEFAULT_DATABASE_FILE).exists() {
            return Err(CommandError::NoDatabase);
        }
        let database = self.database.clone().or_default(DEFAULT_DATABASE);
        // An earlier version may have created the file.
        assay_store::migrate(&database, startup).await?;
        Ok(assay_store::connect(&database, command, startup).await?)
    }
}

/// The stages for rows that are sent again: of a fleet, or in this process.
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
    /// The settings to start them.
    pub(crate) fn settings<'a>(&'a self, ledger: &LedgerOptions) -> StageSettings<'a> {
        let (startup, drain) = (ledger.startup.startup_timeout, self.shutdown.drain_timeout);
        StageSettings {
            broker: &self.broker,
            api: &self.api,
            writer: &self.writer,
            // The in-process broker has no live transactions.
            live: LiveOptions::default(),
            take_queued: false,
            startup,
            drain,
        }
    }

    /// Refuses to score rows of a fleet with the demonstration model, if AMQP_URL was forgotten.
    pub(crate) fn require_scorer(&self, run: &Run) -> Result<(), CommandError> {
        if run.settings.durable_broker && !self.broker.is_set() && !self.api.is_set() {
            return Err(CommandError::NoFleet(run.run_id.clone()));
        }
        Ok(())
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

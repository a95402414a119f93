//! The stages that `replay` and `repair` send rows to, and waiting for the outcomes.

use std::sync::Arc;
use std::time::Duration;

use assay_predictor::LiveOptions;
use assay_queue::BrokerOptions;
use assay_scoring::ApiOptions;
use assay_store::Store;
use assay_telemetry::{ShutdownOptions, TraceOptions};
use assay_transaction::Run;
use assay_writer::WriterOptions;
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::commands::ledger::LedgerOptions;
use crate::error::CommandError;
use crate::local::{RunningStages, StageCounters, StageSettings};

/// Interval of queries.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The stages: of a fleet, or in this process.
#[derive(Debug, Args)]
pub(crate) struct StageOptions {
    #[command(flatten)]
    broker: BrokerOptions,
    #[command(flatten)]
    api: ApiOptions,
    #[command(flatten)]
    writer: WriterOptions,
    #[command(flatten)]
    pub(super) shutdown: ShutdownOptions,
    #[command(flatten)]
    pub(crate) traces: TraceOptions,
}

impl StageOptions {
    /// Runs the work with the stages, which are started before and stopped afterwards.
    pub(super) async fn with_stages<T>(
        &self,
        ledger: &LedgerOptions,
        store: Arc<dyn Store>,
        run: &Run,
        command: &str,
        shutdown: &CancellationToken,
        work: impl AsyncFnOnce(&RunningStages, &StageCounters) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        // Rows of a fleet must not be scored by the demonstration model because AMQP_URL was forgotten.
        if run.settings.durable_broker && !self.broker.is_set() && !self.api.is_set() {
            return Err(CommandError::NoFleet(run.run_id.clone()));
        }
        let settings = StageSettings {
            broker: &self.broker,
            api: &self.api,
            writer: &self.writer,
            // The in-process broker has no live transactions.
            live: LiveOptions::default(),
            take_queued: false,
            startup: ledger.startup.startup_timeout,
            drain: self.shutdown.drain_timeout,
        };
        let counters = StageCounters::default();
        let starting = Box::pin(RunningStages::connect_or_start(store, settings, command, &counters));
        let Some(stages) = shutdown.run_until_cancelled(starting).await else { return Err(CommandError::NotBegun) };
        let stages = stages?;
        let result = tokio::select! {
            result = work(&stages, &counters) => result,
            failure = stages.failure() => Err(failure),
        };
        stages.stop().await;
        result
    }
}

/// Queries until there is a result. The query returns `Ok(Err(_))` while there is none, with the error for a timeout.
pub(super) async fn poll_until<T>(
    timeout: Duration,
    shutdown: &CancellationToken,
    stopped: CommandError,
    query: impl AsyncFn() -> Result<Result<T, CommandError>, CommandError>,
) -> Result<T, CommandError> {
    let deadline = Instant::now() + timeout.min(Duration::MAX / 4);
    loop {
        let pending = match query().await {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(pending)) => pending,
            Err(CommandError::Store(error)) if error.is_transient() => {
                debug!("waiting: {error}");
                error.into()
            }
            Err(error) => return Err(error),
        };
        if Instant::now() >= deadline {
            return Err(pending);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = shutdown.cancelled() => return Err(stopped),
        }
    }
}

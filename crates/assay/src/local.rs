//! A fleet in this process: predictor, writer and, unless ML_API_URL is set, the reference ML API, with one broker and one
//! database. `assay run` adds a loader. Replays and repairs use it if no broker is set; else they publish to that fleet.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::LoadProgress;
use assay_ml_api::{Model, ModelServerOptions};
use assay_predictor::{LiveOptions, PredictProgress};
use assay_queue::{Broker, BrokerOptions, InProcess, Route};
use assay_scoring::{ApiOptions, Scorer};
use assay_store::{DatabaseOptions, Store};
use assay_writer::{WriteProgress, WriterOptions};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;

/// Chunks in each queue of the in-process broker: enough that no stage waits, in little memory.
const QUEUE_LENGTH: usize = 128;
/// The database, unless another is set.
pub(crate) const DEFAULT_DATABASE: &str = "sqlite://assay.db";
/// The file of [`DEFAULT_DATABASE`].
const DEFAULT_DATABASE_FILE: &str = "assay.db";

/// The database of the settings, else that which `assay run` made in this folder.
pub(crate) fn existing_database(set: &DatabaseOptions) -> Option<DatabaseOptions> {
    (set.is_set() || Path::new(DEFAULT_DATABASE_FILE).exists()).then(|| set.clone().or_default(DEFAULT_DATABASE))
}

/// The counters of the stages.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageCounters {
    pub(crate) load: Arc<LoadProgress>,
    pub(crate) predict: Arc<PredictProgress>,
    pub(crate) write: Arc<WriteProgress>,
}

/// How the stages are started.
#[derive(Debug, Clone)]
pub(crate) struct StageSettings<'a> {
    pub(crate) broker: &'a BrokerOptions,
    pub(crate) api: &'a ApiOptions,
    pub(crate) writer: &'a WriterOptions,
    /// How live transactions are read, which only an external broker has.
    pub(crate) live: LiveOptions,
    /// Whether messages that are already in the queues are accepted.
    pub(crate) take_queued: bool,
    pub(crate) startup: Duration,
    /// Longest time to stop.
    pub(crate) drain: Duration,
}

/// Running stages, in this process or in a fleet.
pub(crate) struct RunningStages {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    tasks: Mutex<JoinSet<Result<(), CommandError>>>,
    /// The scorer, if the stages are in this process.
    scorer: Option<Arc<Scorer>>,
    /// Stops predictor and writer, which drain.
    shutdown: CancellationToken,
    /// Stops the ML API, after the predictor.
    ml_api: CancellationToken,
}

impl RunningStages {
    /// Connects to the services that are set, starts the others here, and starts both stages.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        settings: StageSettings<'_>,
        command: &str,
        counters: &StageCounters,
    ) -> Result<Self, CommandError> {
        let StageSettings { api, writer, live, take_queued, startup, drain, .. } = settings;
        let mut tasks = JoinSet::new();
        let (shutdown, ml_api) = (CancellationToken::new(), CancellationToken::new());
        let broker = if settings.broker.is_set() {
            let broker = assay_queue::connect(settings.broker, command, startup).await?;
            ensure_queues_are_unused(&*broker, take_queued).await?;
            broker
        } else {
            InProcess::with_hold_timeout(QUEUE_LENGTH, settings.broker.hold_timeout)
        };
        let scorer = if api.is_set() {
            Scorer::from_options(api)?
        } else {
            Scorer::new(&start_reference_ml_api(&mut tasks, ml_api.clone()).await?, api)?
        };
        scorer.wait_until_ready(startup).await?;
        let scorer = Arc::new(scorer);

        let predictor = assay_predictor::run(
            Arc::clone(&broker),
            Arc::clone(&scorer),
            live,
            Arc::clone(&counters.predict),
            drain,
            shutdown.clone(),
        );
        tasks.spawn(async move { Ok(predictor.await?) });
        let (writer_broker, writer_store, options) = (Arc::clone(&broker), Arc::clone(&store), writer.clone());
        let (write, stop) = (Arc::clone(&counters.write), shutdown.clone());
        let written = Arc::clone(&write);
        counters.load.log_before_complete(move || written.log_written());
        let writer =
            async move { Box::pin(assay_writer::run(writer_broker, writer_store, &options, write, drain, stop)).await };
        tasks.spawn(async move { Ok(writer.await?) });
        Ok(Self { store, broker, tasks: Mutex::new(tasks), scorer: Some(scorer), shutdown, ml_api })
    }

    /// Connects to the fleet of a broker, if one is set; else starts the stages in this process.
    pub(crate) async fn connect_or_start(
        store: Arc<dyn Store>,
        settings: StageSettings<'_>,
        command: &str,
        counters: &StageCounters,
    ) -> Result<Self, CommandError> {
        if !settings.broker.is_set() {
            return Self::start(store, settings, command, counters).await;
        }
        Ok(Self {
            broker: assay_queue::connect(settings.broker, command, settings.startup).await?,
            store,
            tasks: Mutex::new(JoinSet::new()),
            scorer: None,
            shutdown: CancellationToken::new(),
            ml_api: CancellationToken::new(),
        })
    }

    /// The database.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The broker.
    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Whether the stages are in this process, and so end with it.
    pub(crate) fn are_local(&self) -> bool {
        self.scorer.is_some()
    }

    /// The scorer of this process.
    pub(crate) fn scorer(&self) -> Option<&Arc<Scorer>> {
        self.scorer.as_ref()
    }

    /// Waits until a stage of this process ends unexpectedly.
    pub(crate) async fn failure(&self) -> CommandError {
        if !self.are_local() {
            return std::future::pending().await;
        }
        match self.tasks.lock().await.join_next().await {
            Some(Ok(Err(error))) => error,
            // The panic hook has logged the message.
            Some(Err(_)) => CommandError::Stage("it panicked".to_owned()),
            Some(Ok(Ok(()))) | None => CommandError::Stage("it stopped by itself".to_owned()),
        }
    }

    /// Stops the stages, those that use others first.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let mut tasks = self.tasks.into_inner();
        while tasks.len() > 1 && tasks.join_next().await.is_some() {}
        self.ml_api.cancel();
        while tasks.join_next().await.is_some() {}
        self.broker.close().await;
        self.store.close().await;
    }
}

/// Refuses queues of a fleet, whose work this process would score with its model and store in its database.
async fn ensure_queues_are_unused(broker: &dyn Broker, take_queued: bool) -> Result<(), CommandError> {
    for route in Route::ALL {
        let depth = broker.depth(route).await?;
        if depth.consumers > 0 {
            return Err(CommandError::FleetRuns { queue: route.to_string(), consumers: depth.consumers });
        }
        if depth.messages > 0 && !take_queued {
            return Err(CommandError::QueueNotEmpty { queue: route.to_string(), messages: depth.messages });
        }
    }
    Ok(())
}

/// Starts the reference ML API on loopback, and returns its URL.
async fn start_reference_ml_api(
    tasks: &mut JoinSet<Result<(), CommandError>>,
    shutdown: CancellationToken,
) -> Result<String, CommandError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(CommandError::MlApi)?;
    let address = listener.local_addr().map_err(CommandError::MlApi)?;
    let model = Arc::new(Model::bundled());
    tasks.spawn(async move {
        assay_ml_api::serve(listener, model, ModelServerOptions::default(), shutdown).await;
        Ok(())
    });
    Ok(format!("http://{address}"))
}

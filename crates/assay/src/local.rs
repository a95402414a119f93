//! The predictor, the writer and, unless another is named, the reference ML API: in this process, around one broker and
//! one database. `assay run` starts them beside a loader; replays and repairs do where no broker is named, and else publish
//! for the stages of a fleet.

use std::sync::Arc;
use std::time::Duration;

use assay_loader::LoadProgress;
use assay_ml_api::{Model, ServeOptions};
use assay_predictor::{LiveOptions, PredictProgress};
use assay_queue::{Broker, BrokerOptions, InProcess, Route};
use assay_scoring::{ApiOptions, Scorer};
use assay_store::Store;
use assay_writer::{WriteProgress, WriterOptions};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::CommandError;

/// Chunks that the broker in this process holds in each queue: enough that no stage waits, and little memory.
const QUEUE_LENGTH: usize = 128;
/// Where rows go, unless a database is named.
pub(crate) const DEFAULT_DATABASE: &str = "sqlite://assay.db";
/// The file that this is.
pub(crate) const DEFAULT_DATABASE_FILE: &str = "assay.db";

/// The counters of the three stages.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageCounters {
    pub(crate) load: Arc<LoadProgress>,
    pub(crate) predict: Arc<PredictProgress>,
    pub(crate) write: Arc<WriteProgress>,
}

/// What the stages are made of.
#[derive(Debug, Clone)]
pub(crate) struct StageSettings<'a> {
    pub(crate) broker: &'a BrokerOptions,
    pub(crate) api: &'a ApiOptions,
    pub(crate) writer: &'a WriterOptions,
    /// How live transactions are read, of which a broker that is named may have some.
    pub(crate) live: LiveOptions,
    /// Whether what waits on a broker that is named is taken as well.
    pub(crate) take_queued: bool,
    pub(crate) startup: Duration,
    /// How long they may take to end.
    pub(crate) drain: Duration,
}

/// Stages that run beside whoever publishes to them.
pub(crate) struct Stages {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    tasks: Mutex<JoinSet<Result<(), CommandError>>>,
    /// What scores in this process, where the stages are.
    scorer: Option<Arc<Scorer>>,
    /// Ends predictor and writer, which drain.
    shutdown: CancellationToken,
    /// Ends the ML API, which the predictor may need until its own end.
    ml_api: CancellationToken,
}

impl Stages {
    /// Connects to the parts that are named, starts the others here, and both stages.
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
        let writer =
            async move { Box::pin(assay_writer::run(writer_broker, writer_store, &options, write, drain, stop)).await };
        tasks.spawn(async move { Ok(writer.await?) });
        Ok(Self { store, broker, tasks: Mutex::new(tasks), scorer: Some(scorer), shutdown, ml_api })
    }

    /// The stages of a fleet where a broker is named, else some in this process.
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

    /// Whether they are in this process, and so end with it.
    pub(crate) fn are_local(&self) -> bool {
        self.scorer.is_some()
    }

    /// What scores in this process.
    pub(crate) fn scorer(&self) -> Option<&Arc<Scorer>> {
        self.scorer.as_ref()
    }

    /// Waits for a stage of this process to end although nobody asked it to.
    pub(crate) async fn failure(&self) -> CommandError {
        if !self.are_local() {
            return std::future::pending().await;
        }
        match self.tasks.lock().await.join_next().await {
            Some(Ok(Err(error))) => error,
            // What it panicked with is logged where it may be.
            Some(Err(_)) => CommandError::Stage("it panicked".to_owned()),
            Some(Ok(Ok(()))) | None => CommandError::Stage("it stopped without being asked to".to_owned()),
        }
    }

    /// Ends the stages one after the other: first those that use the rest.
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

/// Refuses queues that are somebody else's: stages of this process would take a fleet's work, score it with their model and
/// store it in their database.
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

/// Starts the reference ML API behind real HTTP on loopback, and tells its URL.
async fn start_reference_ml_api(
    tasks: &mut JoinSet<Result<(), CommandError>>,
    shutdown: CancellationToken,
) -> Result<String, CommandError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(CommandError::MlApi)?;
    let address = listener.local_addr().map_err(CommandError::MlApi)?;
    let model = Arc::new(Model::bundled());
    tasks.spawn(async move {
        assay_ml_api::serve(listener, model, ServeOptions::default(), shutdown).await;
        Ok(())
    });
    Ok(format!("http://{address}"))
}

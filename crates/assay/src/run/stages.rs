//! The predictor, the writer and, unless another is named, the reference ML API: in this process, around one broker and
//! one database.

use std::sync::Arc;

use assay_ml_api::{Model, ServeOptions};
use assay_queue::{Broker, InProcess};
use assay_scoring::Scorer;
use assay_store::Store;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::display::Progress;
use crate::arguments::RunArguments;
use crate::error::CommandError;

/// Chunks that the broker in this process holds in each queue: enough that no stage waits, and little memory.
const QUEUE_LENGTH: usize = 128;
/// Where rows go, unless a database is named.
const DEFAULT_DATABASE: &str = "sqlite://assay.db";

/// The stages that run beside the loader.
pub(crate) struct Stages {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    tasks: Mutex<JoinSet<Result<(), CommandError>>>,
    /// Ends predictor and writer, which drain.
    shutdown: CancellationToken,
    /// Ends the ML API, which the predictor may need until its own end.
    ml_api: CancellationToken,
}

impl Stages {
    /// Connects to the parts that are named, starts the others here, and both stages.
    pub(crate) async fn start(arguments: &RunArguments, progress: &Progress) -> Result<Self, CommandError> {
        let startup = arguments.startup.startup_timeout;
        let mut tasks = JoinSet::new();
        let (shutdown, ml_api) = (CancellationToken::new(), CancellationToken::new());
        let database = arguments.database.clone().or_default(DEFAULT_DATABASE);
        if database.is_file() {
            assay_store::migrate(&database, startup).await?;
        }
        let store = assay_store::connect(&database, "run", startup).await?;
        let broker = if arguments.broker.is_set() {
            assay_queue::connect(&arguments.broker, "run", startup).await?
        } else {
            InProcess::new(QUEUE_LENGTH)
        };
        let scorer = if arguments.api.is_set() {
            Scorer::from_options(&arguments.api)?
        } else {
            Scorer::new(&serve_reference_model(&mut tasks, ml_api.clone()).await?, &arguments.api)?
        };
        scorer.wait_until_ready(startup).await?;

        let predictor = assay_predictor::run(
            Arc::clone(&broker),
            Arc::new(scorer),
            Arc::clone(&progress.predict),
            shutdown.clone(),
        );
        tasks.spawn(async move { Ok(predictor.await?) });
        let (writer_broker, writer_store, options) =
            (Arc::clone(&broker), Arc::clone(&store), arguments.writer.clone());
        let (write, stop) = (Arc::clone(&progress.write), shutdown.clone());
        tasks.spawn(async move { Ok(assay_writer::run(writer_broker, writer_store, &options, write, stop).await?) });
        Ok(Self { store, broker, tasks: Mutex::new(tasks), shutdown, ml_api })
    }

    /// The database.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The broker.
    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Waits for a stage to end although nobody asked it to.
    pub(crate) async fn failed(&self) -> CommandError {
        match self.tasks.lock().await.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => CommandError::Stage(error.to_string()),
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

/// Starts the reference ML API behind real HTTP on loopback, and tells its URL.
async fn serve_reference_model(
    tasks: &mut JoinSet<Result<(), CommandError>>,
    shutdown: CancellationToken,
) -> Result<String, CommandError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(CommandError::MlApi)?;
    let address = listener.local_addr().map_err(CommandError::MlApi)?;
    let model = Arc::new(Model::bundled());
    tasks.spawn(async move {
        assay_ml_api::serve(listener, model, ServeOptions::default(), shutdown).await.map_err(CommandError::MlApi)
    });
    Ok(format!("http://{address}"))
}

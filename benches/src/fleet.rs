//! The programs of Assay on real services, with default settings.

use std::time::Duration;

use assay_tests::{DEADLINE, Program, Running, Script, Stack};
use tokio::time::{sleep, timeout};

use crate::options::Options;

/// Interval between two checks whether something is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// An ML API in a process of its own.
#[derive(Debug)]
pub(crate) struct ModelServer {
    url: String,
    process: Running,
}

impl ModelServer {
    /// Starts the reference ML API with this extra latency for each request.
    pub(crate) async fn reference(latency: Duration) -> Self {
        let latency = format!("{}ms", latency.as_millis());
        let mut process = Program::new("ml-api").args(["--port", "0"]).env("ML_API_DELAY", latency).start();
        process.says("listens on http://").await;
        let log = process.log();
        let url = log.split("listens on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        Self { url: url.expect("the log has its address").to_owned(), process }
    }

    /// Wraps another ML API, and waits until it responds at this address.
    pub(crate) async fn other(process: Running, address: &str) -> Self {
        let ready = async {
            while !assay_tests::get(address, "/health").await.is_ok_and(|answer| answer.status == 200) {
                assert!(process.is_running(), "the model server ended:\n{}", process.log());
                sleep(POLL_INTERVAL).await;
            }
        };
        timeout(DEADLINE, ready).await.expect("the model server responds");
        Self { url: format!("http://{address}"), process }
    }

    /// The value of `ML_API_URL`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Programs with a database and queues of their own.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    pub(crate) stack: Stack,
    pub(crate) model_server: &'a ModelServer,
    settings: Vec<(String, String)>,
}

impl<'a> Fleet<'a> {
    /// Creates a fleet whose programs have these settings in addition to those of the command line.
    pub(crate) async fn new(options: &Options, model_server: &'a ModelServer, settings: &[(&str, String)]) -> Self {
        // The stack's own ML API is for tests, and receives no request.
        let stack = Stack::new(Script::Score).await;
        let own = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self { stack, model_server, settings: own.chain(options.settings.iter().cloned()).collect() }
    }

    /// Returns the `loader` of an object.
    pub(crate) fn loader(&self, object: &str) -> Program {
        self.set(self.stack.loader(object).without("WAIT_TIMEOUT"))
    }

    /// Returns `assay run` of an object: one process, without RabbitMQ.
    pub(crate) fn assay_run(&self, object: &str) -> Program {
        let run = self.stack.assay(["run", object]).env("ML_API_URL", self.model_server.url());
        self.set(run.without("AMQP_URL").without("QUEUE_PREFIX"))
    }

    pub(crate) fn predictor(&self) -> Program {
        self.set(self.stack.predictor().env("ML_API_URL", self.model_server.url()))
    }

    /// Returns a `writer` without the short intervals of tests.
    pub(crate) fn writer(&self) -> Program {
        self.set(self.stack.writer().without("FLUSH_INTERVAL"))
    }

    fn set(&self, program: Program) -> Program {
        self.settings.iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// Starts this number of predictors and a writer, and waits until they consume.
    pub(crate) async fn start_stages(&self, predictors: usize) -> Stages {
        let mut stages = Stages {
            predictors: (0..predictors).map(|_| self.predictor().start()).collect(),
            writer: self.writer().start(),
        };
        for predictor in &mut stages.predictors {
            predictor.says("scoring with up to").await;
        }
        self.until_consumed("transactions.batch", predictors).await;
        self.until_consumed("predictions.batch", 1).await;
        stages
    }

    /// Waits until a declared queue has at least this number of consumers.
    pub(crate) async fn until_consumed(&self, queue: &str, consumers: usize) {
        let looked_at = self.stack.broker.look_at(queue).await;
        let ready = async {
            while usize::try_from(looked_at.consumers().await).unwrap_or_default() < consumers {
                sleep(POLL_INTERVAL).await;
            }
        };
        timeout(DEADLINE, ready).await.unwrap_or_else(|_| panic!("{consumers} consume from {queue}"));
    }
}

/// Running predictors and a writer.
#[derive(Debug)]
pub(crate) struct Stages {
    pub(crate) predictors: Vec<Running>,
    pub(crate) writer: Running,
}

impl Stages {
    /// Stops all stages; panics if one logged an error.
    pub(crate) async fn end(self) {
        for stage in self.predictors.into_iter().chain([self.writer]) {
            end(stage).await;
        }
    }
}

/// Stops a stage; panics if it logged an error.
pub(crate) async fn end(stage: Running) {
    stage.terminate();
    stage.end().await.expect_exit(0).expect_silent_about(" - ERROR - ");
}

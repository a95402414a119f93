//! A deployment for one test: database, broker, S3 and ML API, and the programs that use them.

use assay_testkit::{MlApi, S3Server, Script};

use crate::{Broker, Database, Program, Running};

/// Everything that Assay depends on.
#[derive(Debug)]
pub struct Stack {
    /// PostgreSQL, migrated.
    pub database: Database,
    /// RabbitMQ, with queues of its own.
    pub broker: Broker,
    /// Where the objects lie.
    pub s3: S3Server,
    /// What scores them.
    pub ml_api: MlApi,
}

impl Stack {
    /// A new one, whose ML API does what the script says.
    pub async fn new(script: Script) -> Self {
        Self {
            database: Database::migrated().await,
            broker: Broker::new(),
            s3: S3Server::start().await,
            ml_api: MlApi::start(script).await,
        }
    }

    /// Starts a predictor and a writer.
    pub fn start_stages(&self) -> [Running; 2] {
        [self.predictor().start(), self.writer().start()]
    }

    /// `loader`, about to load an object.
    pub fn loader(&self, object: &str) -> Program {
        self.known_to(Program::new("loader")).arg(object).env("WAIT_TIMEOUT", "60s")
    }

    /// `loader watch`, about to watch `s3://drops/in/`, and nothing but events once it has looked through it.
    pub fn watcher(&self) -> Program {
        self.known_to(Program::new("loader")).args(["watch", "s3://drops/in/"]).env("WATCH_INTERVAL", "1h")
    }

    /// Tells a program where the database, the broker and the objects are.
    pub fn known_to(&self, program: Program) -> Program {
        self.broker
            .known_to(program)
            .env("DATABASE_URL", self.database.url())
            .env("KEY", S3Server::KEY)
            .env("SECRET", S3Server::SECRET)
            .env("ENDPOINT_URL", self.s3.endpoint())
            .env("STARTUP_TIMEOUT", "10s")
    }

    /// `assay`, about to execute a command.
    pub fn assay<const N: usize>(&self, arguments: [&str; N]) -> Program {
        self.known_to(Program::new("assay")).args(arguments)
    }

    /// `predictor`.
    pub fn predictor(&self) -> Program {
        self.broker
            .known_to(Program::new("predictor"))
            .env("ML_API_URL", self.ml_api.url())
            .env("STARTUP_TIMEOUT", "10s")
    }

    /// `writer`.
    pub fn writer(&self) -> Program {
        self.broker
            .known_to(Program::new("writer"))
            .env("DATABASE_URL", self.database.url())
            .env("FLUSH_INTERVAL", "100ms")
            .env("STARTUP_TIMEOUT", "10s")
    }
}

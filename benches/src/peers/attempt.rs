//! One peer does the job once, on a database of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assay_tests::{Database, Program, Running, S3Server, law};
use tokio::time::timeout;

use super::meter::{Memory, Used};
use super::peer::Peer;
use crate::fleet::{Fleet, ModelServer, Stages};
use crate::load::time_limit;
use crate::options::Options;

const SCHEMA: &str = include_str!("../../peers/schema.sql");
/// The queue of the scripts, after the prefix, and those that Dramatiq adds.
const QUEUE: &str = "score";
const QUEUES: [&str; 3] = [QUEUE, "score.DQ", "score.XQ"];
/// Worker processes of the task queues: one for each core, as for Assay's predictors.
const WORKERS: &str = "2";
/// Contents of what all store alike, in any order.
const CONTENTS: &str = "
    SELECT abs(sum(hashtextextended(concat_ws('|', description, amount, extract(epoch FROM \"timestamp\"), coalesce(merchant, ''),
        operation_type, side, prediction, round(fraud_score::numeric, 6)), 0)::numeric))::text
    FROM transactions JOIN predictions ON transaction_id = id";

/// What one attempt took.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) peer: Peer,
    /// From the first read to the last stored row.
    pub(crate) took: Duration,
    /// With the start of its processes, and the end of the last one.
    pub(crate) with_start: Duration,
    /// During the job.
    pub(crate) used: Used,
    /// The most of all its processes together: resident, and with shared pages divided.
    pub(crate) memory_kib: [u64; 2],
    /// Checksum of what all store alike.
    pub(crate) contents: String,
}

/// Does the job once, and checks that every row is stored.
pub(crate) async fn attempt(
    peer: Peer,
    options: &Options,
    model_server: &ModelServer,
    file: &Path,
    rows: u64,
) -> Attempt {
    let place = Place::new(peer, options, model_server, file).await;
    let memory = Memory::watch(model_server.id());
    let began = Instant::now();
    let workers = place.start_workers(options.predictors).await;
    let ready = began.elapsed();
    let (took, used, with_main) = place.run_main(time_limit(rows)).await;
    let memory_kib = memory.peak_kib().await;
    workers.end().await;
    let contents = place.check(rows).await;
    Attempt { peer, took, with_start: ready + with_main, used, memory_kib, contents }
}

/// The services of an attempt, with nothing in them but the object.
struct Place<'a> {
    peer: Peer,
    fleet: Fleet<'a>,
    object: String,
    /// The tables of the scripts.
    database: Option<Database>,
}

/// Processes that are up before the job begins.
enum Workers {
    None,
    Stages(Stages),
    Tasks(Running),
}

impl<'a> Place<'a> {
    async fn new(peer: Peer, options: &Options, model_server: &'a ModelServer, file: &Path) -> Self {
        let fleet = Fleet::new(options, model_server, &[]).await;
        let object = fleet.stack.s3.put_file("transactions", "rows.csv", file);
        let database = if peer.is_script() {
            let database = Database::empty().await;
            database.execute(SCHEMA).await;
            Some(database)
        } else {
            None
        };
        // Earlier changes must not be written during this attempt.
        fleet.stack.database.execute("CHECKPOINT").await;
        Self { peer, fleet, object, database }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap_or(&self.fleet.stack.database)
    }

    async fn start_workers(&self, predictors: usize) -> Workers {
        match self.peer {
            Peer::Polars | Peer::AssayRun => Workers::None,
            Peer::AssayFleet => Workers::Stages(self.fleet.start_stages(predictors).await),
            Peer::Celery => {
                let worker = self.python().args(["-m", "celery", "--app", "celery_tasks", "worker"]);
                let worker = worker.args(["--pool", "prefork", "--concurrency", WORKERS, "--optimization", "fair"]);
                let quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"];
                let mut worker = worker.args(quiet).start();
                worker.says("READY").await;
                Workers::Tasks(worker)
            }
            Peer::Dramatiq => {
                let worker = self.python().args(["-m", "dramatiq", "dramatiq_tasks"]);
                let mut worker = worker.args(["--processes", WORKERS, "--threads", "2"]).start();
                worker.says_times("Worker process is ready for action", 2).await;
                Workers::Tasks(worker)
            }
        }
    }

    /// Returns the time of the job, what was used during it, and the time with the start and the end of the process.
    async fn run_main(&self, limit: Duration) -> (Duration, Used, Duration) {
        let ml_api = self.fleet.model_server.id();
        let mut before = Used::so_far(ml_api);
        let began = Instant::now();
        let mut main = self.main().start();
        let mut job_began = began;
        if self.peer.is_script() {
            main.says("BEGIN").await;
            job_began = Instant::now();
            before = Used::so_far(ml_api);
            main.prints_within("}", limit).await;
        } else {
            let ended = timeout(limit, main.until_ended()).await;
            assert!(ended.is_ok(), "{} did not end in time:\n{}", self.peer.name(), main.log());
        }
        let took = job_began.elapsed();
        let used = Used::so_far(ml_api).since(before);
        let ended = main.end().await;
        let with_start = began.elapsed();
        ended.expect_exit(0).expect_silent_about(" - ERROR - ");
        (took, used, with_start)
    }

    /// The process that is told what to load, and ends when it is stored.
    fn main(&self) -> Program {
        match self.peer {
            Peer::Polars => self.python().arg("polars_script.py"),
            Peer::Celery => self.python().arg("celery_tasks.py"),
            Peer::Dramatiq => self.python().arg("dramatiq_tasks.py"),
            Peer::AssayFleet => self.fleet.loader(&self.object).arg("--wait"),
            Peer::AssayRun => self.fleet.assay_run(&self.object),
        }
    }

    fn python(&self) -> Program {
        let stack = &self.fleet.stack;
        Program::external("python", python())
            .within(scripts())
            .env("SOURCE", &self.object)
            .env("ENDPOINT_URL", stack.s3.endpoint())
            .env("KEY", S3Server::KEY)
            .env("SECRET", S3Server::SECRET)
            .env("DATABASE_URL", self.database().url())
            .env("AMQP_URL", stack.broker.url())
            .env("QUEUE", format!("{}{QUEUE}", stack.broker.prefix()))
            .env("ML_API_URL", self.fleet.model_server.url())
    }

    /// Demands that every row is stored once; returns the checksum of the contents.
    async fn check(&self, rows: u64) -> String {
        let stored = [
            self.database().count("SELECT count(*) FROM transactions").await,
            self.database().count("SELECT count(*) FROM predictions").await,
        ];
        assert_eq!(stored.map(i64::cast_unsigned), [rows; 2], "rows that {} stored", self.peer.name());
        if self.peer.is_script() {
            self.fleet.stack.broker.forget(&QUEUES).await;
        } else {
            law::holds_for_one_run(self.database()).await;
        }
        self.database().texts(CONTENTS).await.concat()
    }
}

impl Workers {
    async fn end(self) {
        match self {
            Self::None => {}
            Self::Stages(stages) => stages.end().await,
            Self::Tasks(worker) => {
                worker.terminate();
                worker.end().await;
            }
        }
    }
}

/// The Python with the packages of the scripts.
fn python() -> String {
    std::env::var("BENCH_PEERS_PYTHON").expect("BENCH_PEERS_PYTHON is not set: run scripts/bench, which provisions it")
}

fn scripts() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/peers")).to_owned()
}

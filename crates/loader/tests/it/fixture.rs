//! A file and a database for one test, and processes that load it: on the in-process broker and SQLite, with a stand-in for
//! predictor and writer that records every chunk's rows as failed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::{Dependencies, LeaseOwner, LoadError, LoadOptions, LoadProgress, LoadSummary, WaitOptions};
use assay_queue::{Broker, DeliveryOutcome, InProcess, Message, QueueKind, Route, ServeOptions, serve};
use assay_source::{S3Options, SourceUrl, Sources};
use assay_store::{AuditContext, DatabaseOptions, IdConflict, LeaseAttempt, Store};
use assay_transaction::{Chunk, FailureClass, Lane, REQUIRED_COLUMNS, Run, ScoredChunk, Tally, Timestamp};
use chrono::Utc;
use clap::Parser;
use tempfile::TempDir;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any test.
pub(crate) const LEASE: Duration = Duration::from_mins(10);

#[derive(Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) wait: WaitOptions,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    s3: S3Options,
}

/// A file and a database, used by one process after another.
pub(crate) struct LoaderFixture {
    pub(crate) folder: TempDir,
    pub(crate) rows: usize,
}

/// A loader process.
pub(crate) struct LoaderProcess {
    pub(crate) dependencies: Dependencies,
    pub(crate) options: Options,
    pub(crate) url: SourceUrl,
    /// While it is written to, no chunk is recorded.
    recording: Arc<RwLock<()>>,
    end: CancellationToken,
}

impl LoaderFixture {
    pub(crate) fn new(rows: usize) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap(), rows };
        fixture.write("first");
        fixture
    }

    pub(crate) fn write(&self, description: &str) {
        let mut file = format!("{}\n", REQUIRED_COLUMNS.join(","));
        for row in 1..=self.rows {
            writeln!(file, "{row},{description},1.50,2026-01-11 10:00:00,payment,debit").unwrap();
        }
        std::fs::write(self.file(), file).unwrap();
    }

    /// Removes the description of the first rows.
    pub(crate) fn spoil(&self, rows: usize) {
        let file = std::fs::read_to_string(self.file()).unwrap();
        std::fs::write(self.file(), file.replacen(",first,", ",,", rows)).unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("transactions.csv")
    }

    /// A process with its own broker, the length of its queue, and whether its chunks are consumed.
    pub(crate) async fn process(&self, arguments: &[&str], queue: usize, served: bool) -> LoaderProcess {
        let database = format!("sqlite://{}", self.folder.path().join("assay.db").display());
        // Chunks of 100 rows, whatever the size of the file.
        let fixed = ["loader", "--wait", "--database-url", &database, "--chunk-rows", "100"];
        let options = Options::parse_from(fixed.iter().chain(arguments));
        assay_store::migrate(&options.database, TEST_TIMEOUT).await.unwrap();
        let store = assay_store::connect(&options.database, "test", TEST_TIMEOUT).await.unwrap();
        let broker = InProcess::new(queue);
        let (recording, end) = (Arc::<RwLock<()>>::default(), CancellationToken::new());
        if served {
            tokio::spawn(record(Arc::clone(&broker), Arc::clone(&store), Arc::clone(&recording), end.clone()));
        }
        let sources = Sources::new(&options.s3).unwrap();
        let audit = AuditContext { operator: "test".to_owned(), reason: None };
        let dependencies = Dependencies {
            sources,
            store,
            broker,
            startup: TEST_TIMEOUT,
            drain: TEST_TIMEOUT,
            lease_owner: LeaseOwner::new(),
            lease_timeout: LEASE,
            audit,
        };
        LoaderProcess { dependencies, options, url: SourceUrl::File(self.file()), recording, end }
    }
}

impl LoaderProcess {
    pub(crate) async fn load(&self) -> Result<LoadSummary, LoadError> {
        self.load_with(&Arc::default(), &CancellationToken::new()).await
    }

    pub(crate) async fn load_with(
        &self,
        progress: &Arc<LoadProgress>,
        shutdown: &CancellationToken,
    ) -> Result<LoadSummary, LoadError> {
        let Options { load, wait, .. } = &self.options;
        assay_loader::run(&self.dependencies, &self.url, load, wait, progress, shutdown).await
    }

    /// Loads, and runs `then` as soon as this many rows are published.
    pub(crate) async fn load_and(&self, rows: u64, then: impl AsyncFnOnce()) -> Result<LoadSummary, LoadError> {
        self.load_until(rows, then, &CancellationToken::new()).await
    }

    /// Loads until this many rows are published, and is then stopped.
    pub(crate) async fn stopped_after(&self, rows: u64) -> LoadError {
        let shutdown = CancellationToken::new();
        self.load_until(rows, async || shutdown.cancel(), &shutdown).await.expect_err("there is more to load")
    }

    async fn load_until(
        &self,
        rows: u64,
        then: impl AsyncFnOnce(),
        shutdown: &CancellationToken,
    ) -> Result<LoadSummary, LoadError> {
        let progress = Arc::<LoadProgress>::default();
        let at_rows = async {
            while progress.rows_published() < rows {
                tokio::task::yield_now().await;
            }
            then().await;
        };
        let loading = async { tokio::join!(self.load_with(&progress, shutdown), at_rows).0 };
        tokio::time::timeout(TEST_TIMEOUT, loading).await.expect("the load ends")
    }

    /// Gives an order while nothing is recorded, and goes on once the loader has received it: a loader whose queue is full cannot
    /// finish before.
    pub(crate) async fn ordered(&self, order: impl AsyncFnOnce()) {
        let _held = self.recording.write().await;
        order().await;
        let (run, _) = self.only_run().await;
        let remaining = async || match self.dependencies.store.take_lease(&run.run_id, "another", LEASE).await.unwrap()
        {
            LeaseAttempt::Held { remaining, .. } => remaining,
            other => panic!("the loader has the lease: {other:?}"),
        };
        // A renewal returns the order.
        let mut last = remaining().await;
        loop {
            // Nobody tells when the lease is renewed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = remaining().await;
            if now > last {
                return;
            }
            last = now;
        }
    }

    /// The only run of the ledger, and the outcomes of its rows.
    pub(crate) async fn only_run(&self) -> (Run, Tally) {
        let store = &self.dependencies.store;
        let [run] = <[Run; 1]>::try_from(store.runs(None, 10).await.unwrap()).expect("one run");
        let tally = store.tally(&run.run_id).await.unwrap();
        (run, tally)
    }
}

impl Drop for LoaderProcess {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Records the rows of every chunk as failed, one chunk after another.
async fn record(broker: Arc<dyn Broker>, store: Arc<dyn Store>, recording: Arc<RwLock<()>>, end: CancellationToken) {
    let route = Route { kind: QueueKind::Transactions, lane: Lane::Batch };
    let options = ServeOptions { concurrency: 1, prefetch: 1, drain: TEST_TIMEOUT };
    let decode = |message: &Message| Chunk::decode(&message.body).map_err(|error| error.to_string());
    let work = move |chunk: Chunk| {
        let (store, recording) = (Arc::clone(&store), Arc::clone(&recording));
        async move {
            let _recording = recording.read().await;
            let at = Timestamp::from(Utc::now());
            let scored =
                ScoredChunk::all_failed(chunk, Lane::Batch, at, &FailureClass::Suspect, "no predictor runs here");
            let run_id = scored.id.run_id.clone();
            store.write(&[scored], IdConflict::Fail).await.unwrap();
            store.close_run(&run_id).await.unwrap();
            DeliveryOutcome::Done
        }
    };
    serve(broker, route, options, end, decode, work).await.unwrap();
}

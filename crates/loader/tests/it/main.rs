//! Loads that are stopped, and begun again: on the in-process broker and SQLite, with a stand-in for predictor and writer
//! that records every chunk's rows as failed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_loader::{Dependencies, Ended, LoadError, LoadOptions, LoadProgress, WaitOptions};
use assay_queue::{Broker, InProcess, Message, Outcome, Route, ServeOptions, Work, serve};
use assay_source::{S3Options, SourceUrl, Sources};
use assay_store::{Act, DatabaseOptions, IdConflict, Store};
use assay_transaction::{
    Chunk, Exit, FailedRow, FailureClass, Lane, REQUIRED_COLUMNS, RunState, ScoredChunk, Timestamp,
};
use chrono::Utc;
use clap::Parser;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    wait: WaitOptions,
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    s3: S3Options,
}

/// A file and a database, for one process after the other.
struct Place {
    folder: TempDir,
    rows: usize,
}

/// What one process has.
struct Process {
    dependencies: Dependencies,
    options: Options,
    url: SourceUrl,
    end: CancellationToken,
}

impl Place {
    fn new(rows: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), rows };
        place.write("first");
        place
    }

    fn write(&self, description: &str) {
        let mut file = format!("{}\n", REQUIRED_COLUMNS.join(","));
        for row in 1..=self.rows {
            writeln!(file, "{row},{description},1.50,2026-01-11 10:00:00,payment,debit").unwrap();
        }
        std::fs::write(self.file(), file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("transactions.csv")
    }

    /// A process with a broker of its own, which takes at most so many chunks, and perhaps with somebody who takes them.
    async fn process(&self, arguments: &[&str], queue: usize, served: bool) -> Process {
        let database = format!("sqlite://{}", self.folder.path().join("assay.db").display());
        let options = Options::parse_from(["loader", "--wait", "--database-url", &database].iter().chain(arguments));
        assay_store::migrate(&options.database, PATIENCE).await.unwrap();
        let store = assay_store::connect(&options.database, "test", PATIENCE).await.unwrap();
        let broker = InProcess::new(queue);
        let end = CancellationToken::new();
        if served {
            tokio::spawn(record(Arc::clone(&broker), Arc::clone(&store), end.clone()));
        }
        let sources = Sources::new(&options.s3).unwrap();
        let act = Act { operator: "test".to_owned(), reason: None };
        let dependencies = Dependencies { sources, store, broker, startup: PATIENCE, drain: PATIENCE, act };
        Process { dependencies, options, url: SourceUrl::File(self.file()), end }
    }
}

impl Process {
    async fn load(&self, progress: &Arc<LoadProgress>, shutdown: &CancellationToken) -> Result<Ended, LoadError> {
        let Options { load, wait, .. } = &self.options;
        assay_loader::run(&self.dependencies, &self.url, load, wait, progress, shutdown).await
    }

    /// Loads until so many rows are published, and is then asked to stop.
    async fn stopped_after(&self, rows: u64) -> LoadError {
        let (progress, shutdown) = (Arc::new(LoadProgress::default()), CancellationToken::new());
        let stop = async {
            while progress.rows_published() < rows {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        let (ended, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(self.load(&progress, &shutdown), stop) })
            .await
            .expect("a load that is asked to stop stops");
        ended.expect_err("there is more to load")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Records the rows of every chunk as failed, one after the other.
async fn record(broker: Arc<dyn Broker>, store: Arc<dyn Store>, end: CancellationToken) {
    let route = Route { work: Work::Transactions, lane: Lane::Batch };
    let options = ServeOptions { concurrency: 1, prefetch: 1, drain: PATIENCE };
    let decode = |message: &Message| Chunk::decode(&message.body).map_err(|error| error.to_string());
    let work = move |chunk: Chunk| {
        let store = Arc::clone(&store);
        async move {
            let failed = chunk.transactions.into_iter().map(|entry| FailedRow {
                transaction_id: entry.transaction.id().unwrap(),
                entry,
                class: FailureClass::Suspect,
                reason: "nobody scores here".to_owned(),
                attempts: 1,
            });
            let scored = ScoredChunk {
                id: chunk.id,
                range: chunk.range,
                lane: Lane::Batch,
                predicted_at: Timestamp::from(Utc::now()),
                predicted: Vec::new(),
                failed: failed.collect(),
                rejected: chunk.rejected,
            };
            let run_id = scored.id.run_id.clone();
            store.write(&[scored], IdConflict::Fail).await.unwrap();
            store.close_run(&run_id).await.unwrap();
            Outcome::Done
        }
    };
    serve(broker, route, options, end, decode, work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_stopped_is_not_sealed_and_the_next_one_ends_it() {
    let place = Place::new(3_000);
    // A batch of one row makes a send after nearly every row, any of which may be the one that finds nobody listening.
    let arguments = ["--row-batch-size", "1", "--api-batch-size", "100"];
    for stop_after in [100, 700, 1_500] {
        let process = place.process(&arguments, 4, true).await;
        let error = process.stopped_after(stop_after).await;
        assert!(matches!(error, LoadError::Stopped { .. }), "{error}");
    }
    let process = place.process(&arguments, 4, true).await;
    let ended = process.load(&Arc::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(ended.run.state, RunState::Complete);
    assert_eq!(ended.run.sealed.unwrap().rows_read, 3_000);
    let tally = ended.tally.unwrap();
    assert!(tally.accounts_for(3_000), "{tally:?}");
    assert_eq!((tally.failed, ended.exit()), (3_000, Exit::FailedRows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_lost_with_its_process_is_published_again() {
    let place = Place::new(1_000);
    // Nobody takes the chunks: the run is sealed, and its chunks end with the process.
    let first = place.process(&["--wait-timeout", "0s"], 100, false).await;
    let error = first.load(&Arc::default(), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().ends_with("0 of 10 chunks are stored; no consumer on transactions.batch"), "{error}");
    drop(first);
    let second = place.process(&[], 100, true).await;
    let ended = second.load(&Arc::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!((ended.run.state, ended.already_loaded), (RunState::Complete, false));
    assert!(ended.tally.unwrap().accounts_for(1_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_replaced_fails_its_run_and_what_was_read_is_kept() {
    let place = Place::new(60_000);
    let process = place.process(&["--row-batch-size", "100"], 1, true).await;
    let progress = Arc::new(LoadProgress::default());
    let replace = async {
        while progress.rows_published() < 500 {
            tokio::task::yield_now().await;
        }
        place.write("second, and longer");
    };
    let never = CancellationToken::new();
    let (ended, ()) = tokio::join!(process.load(&progress, &never), replace);
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("was replaced while it was read"), "{error}");
    assert_eq!(assay_telemetry::Failure::exit(&error), Exit::SourceUnreadable);
    assert_eq!(process.dependencies.store.open_runs().await.unwrap(), [], "the run is closed");

    let again = process.load(&Arc::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(
        (again.run.state, again.already_loaded),
        (RunState::Complete, false),
        "the new version has a run of its own"
    );
}

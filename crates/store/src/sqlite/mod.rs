//! SQLite, for `assay run` alone: one file, one connection that writes, some that read beside it (WAL).
//!
//! `ledger`: runs and chunks, and what became of rows; `session`: the transaction that writes chunks; `insert`: many rows in
//! one statement.

mod insert;
mod ledger;
mod operations;
mod session;

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use assay_transaction::{Checkpoint, Run, RunId, RunState, ScoredChunk, Sealed, Tally};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use self::session::SqliteSession;
use crate::schema::{self, APPLIED, OLDEST_VERSION};
use crate::screening::Screened;
use crate::write::{Refusal, write};
use crate::{
    Begun, ChunkOutcome, ErrorClass, IdConflict, Migrated, NewRun, PredictionCount, Progress, RecordedChunk, Store,
    StoreError, Written,
};

/// How long a connection waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that read.
const READERS: u32 = 2;
/// How much of the file the writer keeps in memory, in KiB: ids come in no order, so each write touches pages all over.
const WRITER_CACHE: &str = "-49152";
/// After how many pages the log is moved into the file: fewer moves write a page that changed often just once.
const CHECKPOINT_PAGES: &str = "8000";

/// A SQLite file with the tables of Assay.
pub(crate) struct Sqlite {
    /// One connection: SQLite has one writer at a time, and who waits here waits in order.
    writer: SqlitePool,
    reader: SqlitePool,
}

fn options(address: &str) -> Result<SqliteConnectOptions, StoreError> {
    let usage = || StoreError::configuration("DATABASE_URL cannot be read: it must be like sqlite://assay.db");
    if address.contains(":memory:") || address.contains("mode=memory") {
        return Err(StoreError::configuration(
            "DATABASE_URL must name a file, such as sqlite://assay.db: memory ends too soon",
        ));
    }
    let options = SqliteConnectOptions::from_str(address).map_err(|_| usage())?;
    if options.get_filename().as_os_str().is_empty() {
        return Err(usage());
    }
    // FULL: who gets a commit confirmed acknowledges a delivery, which a broker elsewhere then forgets for good.
    Ok(options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(64)
        // Its lines hold SQL over many lines, which a log of one line per event has no place for.
        .disable_statement_logging())
}

fn place(path: &Path) -> String {
    format!("file {}", path.display())
}

async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    options.connect().await.map_err(|error| {
        let error = StoreError::from(error);
        error.prefixed(&format!("cannot open {}: ", place(options.get_filename())))
    })
}

/// Applies the migrations that the database lacks; creates its file.
pub(crate) async fn migrate(address: &str) -> Result<Migrated, StoreError> {
    let options = options(address)?.create_if_missing(true);
    let mut connection = open(&options).await?;
    let before = applied(&mut connection).await?.len();
    let place = place(options.get_filename());
    schema::sqlite().run(&mut connection).await.map_err(|error| schema::migrate_error(&place, error))?;
    let after = applied(&mut connection).await?;
    connection.close().await?;
    Ok(Migrated { applied: after.len() - before, version: after.last().copied().unwrap_or_default() })
}

/// The migrations that a database has; none where it has no table of them.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'")
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(APPLIED).fetch_all(connection).await?)
}

impl Sqlite {
    pub(crate) async fn connect(address: &str) -> Result<Self, StoreError> {
        let options = options(address)?.create_if_missing(false);
        let place = place(options.get_filename());
        if !options.get_filename().exists() {
            return Err(StoreError::configuration(format!(
                "{place} of DATABASE_URL is not there: run `assay migrate`"
            )));
        }
        let mut connection = open(&options).await?;
        let applied = applied(&mut connection).await?.last().copied();
        let oldest = match applied {
            Some(_) => sqlx::query_scalar(OLDEST_VERSION).fetch_one(&mut connection).await?,
            None => 0,
        };
        connection.close().await?;
        schema::check(&place, schema::newest(&schema::sqlite()), applied, oldest)?;
        let writing = options.clone().pragma("cache_size", WRITER_CACHE).pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let pool =
            |connections, options| SqlitePoolOptions::new().max_connections(connections).connect_lazy_with(options);
        Ok(Self { writer: pool(1, writing), reader: pool(READERS, options) })
    }

    async fn attempt(
        &self,
        screened: &Screened<'_>,
        on_conflict: IdConflict,
        refusal: Refusal,
    ) -> Result<(Vec<ChunkOutcome>, u64), StoreError> {
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        write(SqliteSession::new(transaction), screened, on_conflict, refusal).await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn begin_run(&self, run: &NewRun) -> Result<Begun, StoreError> {
        ledger::begin_run(&self.writer, run).await
    }

    async fn checkpoint(&self, run_id: &RunId, at: Checkpoint) -> Result<(), StoreError> {
        ledger::checkpoint(&self.writer, run_id, at).await
    }

    async fn seal(&self, run_id: &RunId, sealed: Sealed, error: Option<&str>) -> Result<(), StoreError> {
        ledger::seal(&self.writer, run_id, sealed, error).await
    }

    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        ledger::close_run(&self.writer, run_id).await
    }

    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<Written, StoreError> {
        let screened = Screened::new(chunks);
        if screened.chunks.is_empty() {
            return Ok(screened.written(&[], 0));
        }
        let (outcomes, transactions) = match self.attempt(&screened, on_conflict, Refusal::Abort).await {
            Err(error) if error.class() == ErrorClass::Data => {
                self.attempt(&screened, on_conflict, Refusal::Bisect).await?
            }
            result => result?,
        };
        Ok(screened.written(&outcomes, transactions))
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError> {
        ledger::run(&self.reader, run_id).await
    }

    async fn progress(&self, run_id: &RunId) -> Result<Progress, StoreError> {
        ledger::progress(&self.reader, run_id).await
    }

    async fn recorded_from(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError> {
        ledger::recorded_from(&self.reader, run_id, chunk, limit).await
    }

    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError> {
        ledger::tally(&self.reader, run_id).await
    }

    async fn prediction_counts(&self, run_id: &RunId) -> Result<Vec<PredictionCount>, StoreError> {
        ledger::predictions(&self.reader, run_id).await
    }

    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        ledger::by_code(&self.reader, run_id, ledger::INVALID).await
    }

    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        ledger::by_code(&self.reader, run_id, ledger::FAILED).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    async fn close(&self) {
        // The writer last: who closes the last connection moves the log into the file.
        self.reader.close().await;
        self.writer.close().await;
    }
}

//! SQLite, for `assay run` alone: one file, one connection that writes, some that read beside it (WAL).
//!
//! - `pool`: its connections; `session`: the transaction that writes chunks; `insert`: many rows in one statement; `log`: the
//!   write-ahead log, kept small
//! - `sql`: all other statements, which PostgreSQL shares; `dialect`: what they are made of where the databases differ

mod dialect;
mod pool;
#[expect(clippy::duplicate_mod, reason = "what both databases say in the same words is compiled for each")]
#[path = "../sql/mod.rs"]
mod sql;
mod wal;
mod write;

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::time::Instant;

use self::dialect::WRITING;
use self::pool::Pool;
use self::sql::migrations::{applied, check};
use self::wal::Log;
use self::write::SqliteTransaction;
use crate::schema;
use crate::write::Attempt;
use crate::{Migrated, StoreError};

/// How long a connection waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two attempts to open the file while another process has it.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Connections that read.
const READERS: u32 = 2;
/// How much of the file the writer keeps in memory, in KiB: ids come in no order, so each write touches pages all over.
const WRITER_CACHE: &str = "-49152";
/// After how many pages the log is moved into the file: fewer moves write a page that changed often just once.
const CHECKPOINT_PAGES: &str = "8000";

/// A SQLite file with the tables of Assay.
pub(crate) struct Sqlite {
    /// One connection: SQLite has one writer at a time, and who waits here waits in order.
    writer: Pool,
    reader: Pool,
    log: Log,
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
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(64)
        // Its lines hold SQL over many lines, which a log of one line per event has no place for.
        .disable_statement_logging())
}

fn place(path: &Path) -> String {
    format!("file {}", path.display())
}

/// Opens the file, and turns it to the log that lets others read while one writes. It stays so: connections of a pool need not
/// ask for it again.
///
/// SQLite does not wait with the turn, nor with what a process that is opening or closing the file at this moment has locked: it
/// says at once that the file is busy. So it is asked again.
async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match options.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_busy(&error) && Instant::now() < deadline => tokio::time::sleep(BUSY_PAUSE).await,
            Err(error) => {
                let error = StoreError::from(error);
                return Err(error.prefixed(&format!("cannot open {}: ", place(options.get_filename()))));
            }
        }
    }
}

/// Whether another process has the file for a moment. The lowest eight bits of an extended code are the code.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED))
}

/// Applies the migrations that the database lacks; creates its file. Of several processes that find none, one makes the tables
/// and the others wait for it: all of it is one transaction of the file's one writer.
pub(crate) async fn migrate(address: &str) -> Result<Migrated, StoreError> {
    let options = options(address)?.create_if_missing(true);
    let mut connection = open(&options).await?;
    let place = place(options.get_filename());
    let mut transaction = connection.begin_with(WRITING).await?;
    let before = applied(&mut transaction).await?.len();
    schema::sqlite().run(&mut *transaction).await.map_err(|error| schema::migrate_error(&place, error))?;
    let after = applied(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(Migrated { applied: after.len() - before, version: after.last().copied().unwrap_or_default() })
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
        check(&mut connection, &place, &schema::sqlite()).await?;
        connection.close().await?;
        let writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", wal::KEPT_BYTES);
        let log = Log::of(options.get_filename());
        Ok(Self { writer: Pool::new(writing, 1), reader: Pool::new(options, READERS), log })
    }

    fn reading(&self) -> &Pool {
        &self.reader
    }

    fn writing(&self) -> &Pool {
        &self.writer
    }

    /// The same transaction for every attempt.
    async fn begin_write(&self, _attempt: Attempt) -> Result<SqliteTransaction, StoreError> {
        self.log.keep_small(&self.writer).await?;
        SqliteTransaction::new(self.writer.begin_with(WRITING).await?).await
    }

    async fn end(&self) {
        // The writer last: who closes the last connection moves the log into the file.
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// A file answers, or the operating system says why not: nothing is to be bounded.
fn bounded<F>(call: F) -> F {
    call
}

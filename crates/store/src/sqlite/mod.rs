//! SQLite, for `assay run` alone: one file, one connection that writes, some that read at the same time (WAL).
//!
//! - `pool`: its connections; `wal`: the write-ahead log, kept small; `write`: the transaction that writes chunks
//! - `diagnose`: what `assay doctor` finds
//! - `sql`: all other statements, which PostgreSQL shares; `dialect`: what they need where the databases differ

pub(crate) mod diagnose;
mod dialect;
mod pool;
#[expect(clippy::duplicate_mod, reason = "what both databases say in the same words is compiled for each")]
#[path = "../sql/mod.rs"]
mod sql;
mod wal;
mod write;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use assay_connect::{RetryPolicy, retry};
use assay_transaction::IdScheme;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use self::dialect::WRITING;
use self::pool::Pool;
use self::sql::migrations::{applied, check, ids};
use self::wal::WriteAheadLog;
use self::write::SqliteTransaction;
use crate::schema;
use crate::write::Attempt;
use crate::{MigrationReport, StoreError};

/// Longest wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between attempts to open a busy file.
const BUSY: RetryPolicy = RetryPolicy::new(Duration::from_millis(20), Duration::from_millis(20));
const READERS: u32 = 2;
/// The cache of each connection, in KiB. Ascending ids touch few pages, and random ones more than any cache holds: those come
/// from the cache of the operating system.
const WRITER_CACHE: &str = "-16384";
/// Enough for the rows of one transaction, which lie in the order of their ids and are counted in that of their source.
const READER_CACHE: &str = "-8192";
/// Pages of the log after which it is checkpointed: fewer checkpoints write an often changed page just once.
const CHECKPOINT_PAGES: &str = "8000";

/// A SQLite file with the tables of Assay.
pub(crate) struct Sqlite {
    /// One connection: SQLite has one writer at a time, and waiting here is in order.
    writer: Pool,
    reader: Pool,
    log: WriteAheadLog,
    ids: IdScheme,
}

fn options(address: &str) -> Result<SqliteConnectOptions, StoreError> {
    let usage = || StoreError::configuration("DATABASE_URL cannot be read: it must be like sqlite://assay.db");
    if address.contains(":memory:") || address.contains("mode=memory") {
        return Err(StoreError::configuration(
            "DATABASE_URL must name a file, such as sqlite://assay.db: one in memory ends with the program",
        ));
    }
    let options = SqliteConnectOptions::from_str(address).map_err(|_| usage())?;
    if options.get_filename().as_os_str().is_empty() {
        return Err(usage());
    }
    // FULL: after a commit, a delivery is acknowledged, which a broker elsewhere then forgets.
    Ok(options
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(64)
        // The driver logs SQL over many lines; this log has one line per event.
        .disable_statement_logging())
}

/// The file of an address.
pub(crate) fn file(address: &str) -> Option<PathBuf> {
    Some(options(address).ok()?.get_filename().to_owned())
}

/// A missing file is not created by those who only use it.
fn require_file(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    if options.get_filename().exists() {
        return Ok(());
    }
    let place = place(options.get_filename());
    Err(StoreError::configuration(format!("{place} of DATABASE_URL does not exist: run `assay migrate`")))
}

fn place(path: &Path) -> String {
    format!("file {}", path.display())
}

/// Opens the file and switches it to WAL, which lets others read while one writes. The mode stays with the file.
///
/// SQLite does not wait for the switch, nor for a process that is opening or closing the file: it reports the file as
/// busy at once. So it is tried again.
async fn open(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let opened = retry::until_ok(BUSY.within(BUSY_TIMEOUT), || options.connect(), is_busy).await;
    opened
        .map_err(|error| StoreError::from(error).prefixed(&format!("cannot open {}: ", place(options.get_filename()))))
}

/// Whether another process has the file for a moment. The low eight bits of an extended code are the code.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED))
}

/// Applies the missing migrations; creates the file. Of several processes that find none, one makes the tables and
/// the others wait for its transaction.
pub(crate) async fn migrate(address: &str) -> Result<MigrationReport, StoreError> {
    let options = options(address)?.create_if_missing(true);
    let mut connection = open(&options).await?;
    let place = place(options.get_filename());
    let mut transaction = connection.begin_with(WRITING).await?;
    let before = applied(&mut transaction).await?.len();
    schema::sqlite().run(&mut *transaction).await.map_err(|error| schema::migrate_error(&place, error))?;
    let (after, ids) = (applied(&mut transaction).await?, ids(&mut transaction).await?);
    transaction.commit().await?;
    connection.close().await?;
    Ok(MigrationReport { applied: after.len() - before, version: after.last().copied().unwrap_or_default(), ids })
}

impl Sqlite {
    pub(crate) async fn connect(address: &str) -> Result<Self, StoreError> {
        let options = options(address)?.create_if_missing(false);
        let place = place(options.get_filename());
        require_file(&options)?;
        let mut connection = open(&options).await?;
        let ids = check(&mut connection, &place, &schema::sqlite()).await?;
        connection.close().await?;
        let writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", wal::KEPT_BYTES);
        let log = WriteAheadLog::of(options.get_filename());
        let reading = options.pragma("cache_size", READER_CACHE);
        Ok(Self { writer: Pool::new(writing, 1), reader: Pool::new(reading, READERS), log, ids })
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

    /// An index has each row.
    #[expect(clippy::unused_async, reason = "as that of PostgreSQL")]
    async fn summarise(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn end(&self) {
        // The writer last: closing the last connection checkpoints the log.
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// A file answers, or the operating system reports an error: there is nothing to limit.
fn bounded<F>(call: F) -> F {
    call
}

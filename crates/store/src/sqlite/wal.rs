//! The write-ahead log next to the file. SQLite moves it into the file now and then, and starts it over when nothing
//! reads it; during a long read, such as an audit, it would grow with everything that is written meanwhile.
//!
//! Guarantee: once it is larger than a bound, a writer waits a few seconds for readers before each of its
//! transactions; so the log grows slowly, and shrinks to a quarter of the bound as soon as they end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqliteConnection;
use tracing::{debug, warn};

use super::pool::Pool;
use crate::StoreError;

/// Size above which a writer waits for readers: several times what a checkpoint of [`super::CHECKPOINT_PAGES`]
/// leaves.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Longest wait for readers.
const WAIT: Duration = Duration::from_secs(5);
/// Its size after it starts over.
pub(super) const KEPT_BYTES: &str = "67108864";

/// A log, and its bound.
#[derive(Debug)]
pub(super) struct WriteAheadLog {
    path: PathBuf,
    most_bytes: u64,
    wait: Duration,
}

impl WriteAheadLog {
    /// The log of a database.
    pub(super) fn of(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        Self { path: path.into(), most_bytes: MOST_BYTES, wait: WAIT }
    }

    /// Starts the log over if it is too large. Readers may prevent that; then the next call tries again.
    pub(super) async fn keep_small(&self, writer: &Pool) -> Result<(), StoreError> {
        let bytes = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if bytes <= self.most_bytes {
            return Ok(());
        }
        let mut connection = writer.acquire().await?;
        set_wait(&mut connection, self.wait).await?;
        let emptied: Result<(i64, i64, i64), _> =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
        set_wait(&mut connection, super::BUSY_TIMEOUT).await?;
        match emptied {
            Ok((0, ..)) => debug!("{} is emptied: it had {bytes} bytes", self.path.display()),
            Ok(_) => warn!(
                "{} has {bytes} bytes, because of a long read: writes are slow until it ends",
                self.path.display()
            ),
            Err(error) => debug!("{} is emptied later: {error}", self.path.display()),
        }
        Ok(())
    }
}

/// Sets how long a connection waits for others.
async fn set_wait(connection: &mut SqliteConnection, wait: Duration) -> Result<(), StoreError> {
    let set = sqlx::AssertSqlSafe(format!("PRAGMA busy_timeout = {}", wait.as_millis()));
    sqlx::query(set).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Sqlite;
    use super::*;
    use sqlx::Connection as _;

    const WRITE: &str =
        "INSERT INTO operations (operator, action, reason) VALUES ('test', 'test', hex(randomblob(200000)))";

    async fn write(database: &Sqlite) {
        let mut writer = database.writing().acquire().await.unwrap();
        sqlx::query(WRITE).execute(&mut *writer).await.unwrap();
    }

    #[tokio::test]
    async fn the_log_is_emptied_once_it_has_no_reader() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("assay.db");
        let address = format!("sqlite://{}", file.display());
        super::super::migrate(&address).await.unwrap();
        let database = Sqlite::connect(&address).await.unwrap();
        let log = WriteAheadLog { most_bytes: 300_000, wait: Duration::from_millis(20), ..WriteAheadLog::of(&file) };
        let bytes = || std::fs::metadata(&log.path).unwrap().len();
        write(&database).await;
        log.keep_small(database.writing()).await.unwrap();
        assert_eq!(bytes(), 0, "there is no reader");

        let mut reader = database.reading().acquire().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM operations").fetch_one(&mut *reading).await.unwrap();
        assert_eq!(seen, 1);
        write(&database).await;
        let before = bytes();
        log.keep_small(database.writing()).await.unwrap();
        assert_eq!(bytes(), before, "a reader needs it");
        write(&database).await;
        assert!(bytes() > before, "a writer does not wait forever");
        reading.commit().await.unwrap();

        log.keep_small(database.writing()).await.unwrap();
        assert_eq!(bytes(), 0);
        let mut writer = database.writing().acquire().await.unwrap();
        let timeout: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *writer).await.unwrap();
        assert_eq!(timeout, 30_000, "as it was");
    }
}

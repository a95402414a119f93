//! What `assay doctor` asks of the database.

use std::path::PathBuf;
use std::time::Duration;

use assay_connect::{ExposeSecret as _, Finding, Role};
use assay_transaction::ScoredChunk;

use crate::connect::DatabaseAddress;
use crate::postgres::PostgresServer;
use crate::{DatabaseOptions, StoreError, postgres, sqlite};

/// The name of PostgreSQL as a dependency, in `/health/ready` and in `assay doctor`.
pub const POSTGRESQL: &str = "postgresql";
/// The same for SQLite.
pub const SQLITE: &str = "sqlite";

/// Tells whether the database takes writes; the transaction is rolled back.
pub(crate) const BOOK: &str =
    "INSERT INTO operations (operator, action, reason) VALUES ('assay doctor', 'doctor', 'rolled back')";

/// What [`measure_copy`] measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRate {
    /// Rows that were copied.
    pub rows: u64,
    /// How long that took.
    pub took: Duration,
}

impl DatabaseOptions {
    /// The name of the database as a dependency.
    pub fn dependency(&self) -> &'static str {
        if self.is_file() { SQLITE } else { POSTGRESQL }
    }

    /// The file of SQLite, if the address names one.
    pub fn file(&self) -> Option<PathBuf> {
        match DatabaseAddress::of(self).ok()? {
            DatabaseAddress::Sqlite(address) => sqlite::file(address.expose_secret()),
            DatabaseAddress::Postgres(_) => None,
        }
    }
}

/// Checks the database of the settings, for one program or for all. What is written is rolled back. Each step takes at most `limit`.
pub async fn diagnose(options: &DatabaseOptions, role: Option<Role>, limit: Duration) -> Vec<Finding> {
    let server = match DatabaseAddress::of(options) {
        Ok(DatabaseAddress::Sqlite(address)) => {
            return sqlite::diagnose::diagnose(address.expose_secret(), limit).await;
        }
        Ok(DatabaseAddress::Postgres(address)) => PostgresServer::new(address.expose_secret(), options, "doctor"),
        Err(error) => Err(error),
    };
    match server {
        Ok(server) => postgres::diagnose(&server, options.db_connections, role, limit).await,
        Err(error) => {
            let mut diagnosis = assay_connect::Diagnosis::new(&postgres::CHECKS, limit);
            diagnosis.add(Finding::refused("connection", &error));
            diagnosis.finish()
        }
    }
}

/// Copies scored rows into temporary tables of PostgreSQL for that long, and rolls everything back. To connect may take `limit`.
pub async fn measure_copy(
    options: &DatabaseOptions,
    chunks: &[ScoredChunk],
    time: Duration,
    limit: Duration,
) -> Result<CopyRate, StoreError> {
    match DatabaseAddress::of(options)? {
        DatabaseAddress::Postgres(address) => {
            let server = PostgresServer::new(address.expose_secret(), options, "doctor")?;
            postgres::measure_copy(&server, chunks, time, limit).await
        }
        DatabaseAddress::Sqlite(_) => Err(StoreError::configuration(
            "SQLite is not measured: it serves one process, whose progress shows its rate",
        )),
    }
}

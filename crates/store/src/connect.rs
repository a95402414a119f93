//! From the settings to a usable database, or to one clear line that says why not.

use std::sync::Arc;
use std::time::Duration;

use assay_connect::{ExposeSecret as _, SecretString};
use assay_transaction::IdScheme;
use serde::Serialize;

use crate::options::SQLITE;
use crate::postgres::{Postgres, PostgresServer};
use crate::sqlite::Sqlite;
use crate::{DatabaseOptions, Store, StoreError, postgres, sqlite};

/// The result of [`migrate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MigrationReport {
    /// How many migrations were missing and are applied now.
    pub applied: usize,
    /// The version of the database.
    pub version: i64,
    /// The scheme of its ids.
    pub ids: IdScheme,
}

/// The database that an address names.
pub(crate) enum DatabaseAddress {
    Postgres(SecretString),
    Sqlite(SecretString),
}

impl DatabaseAddress {
    pub(crate) fn of(options: &DatabaseOptions) -> Result<Self, StoreError> {
        let address = options.address()?;
        let text = address.expose_secret();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self::Postgres(address))
        } else if text.starts_with(SQLITE) {
            Ok(Self::Sqlite(address))
        } else {
            // Without the address, which may hold a password.
            Err(StoreError::configuration("DATABASE_URL must begin with postgres://, postgresql:// or sqlite://"))
        }
    }
}

/// Connects to the database as `assay-<stage>` and checks its tables. Waits for an unreachable server during
/// `startup`.
pub async fn connect(options: &DatabaseOptions, stage: &str, startup: Duration) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match DatabaseAddress::of(options)? {
        DatabaseAddress::Postgres(address) => {
            let server = PostgresServer::new(address.expose_secret(), options, stage)?;
            Arc::new(Postgres::connect(server, options.db_connections, startup).await?)
        }
        DatabaseAddress::Sqlite(address) => Arc::new(Sqlite::connect(address.expose_secret()).await?),
    })
}

/// Applies the missing migrations; safe to repeat and to run concurrently. Creates the file of a SQLite database.
/// Waits for an unreachable server during `startup`.
pub async fn migrate(options: &DatabaseOptions, startup: Duration) -> Result<MigrationReport, StoreError> {
    match DatabaseAddress::of(options)? {
        DatabaseAddress::Postgres(address) => {
            postgres::migrate(&PostgresServer::new(address.expose_secret(), options, "migrate")?, startup).await
        }
        DatabaseAddress::Sqlite(address) => sqlite::migrate(address.expose_secret()).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseEndpoint;

    #[test]
    fn another_kind_of_database_is_refused_without_its_password() {
        let options =
            DatabaseOptions { endpoint: DatabaseEndpoint::at("mysql://u:secret@host/a"), ..DatabaseOptions::default() };
        let error = DatabaseAddress::of(&options).err().unwrap().to_string();
        assert!(error.contains("DATABASE_URL") && !error.contains("secret"), "{error}");
    }
}

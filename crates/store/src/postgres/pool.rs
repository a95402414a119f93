//! The connections of a store. Nothing is done on them outside of transactions, which begin as `transaction` says.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Row as _, Transaction};

use super::begin::{Begin, Opening, READING};
use crate::StoreError;
use crate::ledger::first_gap::FirstGaps;

/// How long a method waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Those of the settings that are off.
const HAZARDS: &str =
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name";

/// Whether a connection is outside of any transaction: within one, a statement begins later than the transaction. Where the
/// beginning of one is given up or fails, the driver knows of no transaction that it would have to take back, and whoever got the
/// connection next would be in the middle of it. Such a connection is closed.
const OUTSIDE: &str = "SELECT now() = statement_timestamp()";

/// So many connections, opened when they are needed.
pub(super) struct Pool {
    connections: PgPool,
    opening: Opening,
    /// Where runs that are sealed have their first gap.
    pub(super) gaps: FirstGaps,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, opening: Opening, connections: u32) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // In place of the ping that there is otherwise.
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move { sqlx::raw_sql(OUTSIDE).fetch_one(connection).await?.try_get(0) })
            })
            .connect_lazy_with(options);
        Self { connections, opening, gaps: FirstGaps::default() }
    }

    /// Begins a transaction of this kind. Dropping it takes it back.
    pub(super) async fn begin_with(&self, kind: Begin) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.connections.begin_with(self.opening.statement(kind)).await?)
    }

    /// Settings that let a crash of the machine spoil what is stored.
    pub(super) async fn hazards(&self) -> Result<Vec<String>, StoreError> {
        let mut reading = self.begin_with(READING).await?;
        let found = sqlx::query_scalar(HAZARDS).fetch_all(&mut *reading).await?;
        reading.commit().await?;
        Ok(found)
    }

    /// Whether the server answers. The one statement outside of a transaction, as it needs no setting and leaves none.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::raw_sql("SELECT 1").execute(&self.connections).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

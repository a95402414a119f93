//! The connections of a store. Everything on them runs in transactions, which begin as `begin` says.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Row as _, Transaction};

use super::begin::{Begin, Opening, READING};
use crate::StoreError;
use crate::ledger::first_gap::FirstGaps;

/// Longest wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings that are off.
pub(super) const HAZARDS: &str =
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name";

/// Whether a connection is outside of any transaction: within one, a statement begins later than the transaction. If
/// beginning a transaction is given up or fails, the driver does not know that it has to roll one back, and the next
/// user of the connection would be inside it. Such a connection is closed.
const OUTSIDE: &str = "SELECT now() = statement_timestamp()";

/// Connections that are opened when they are needed.
pub(super) struct Pool {
    connections: PgPool,
    opening: Opening,
    /// The first gaps of sealed runs.
    pub(super) gaps: FirstGaps,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, opening: Opening, connections: u32) -> Self {
        let connections = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Replaces the driver's ping.
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move { sqlx::raw_sql(OUTSIDE).fetch_one(connection).await?.try_get(0) })
            })
            .connect_lazy_with(options);
        Self { connections, opening, gaps: FirstGaps::default() }
    }

    /// Begins a transaction of this kind. Dropping it rolls it back.
    pub(super) async fn begin_with(&self, kind: Begin) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.connections.begin_with(self.opening.statement(kind)).await?)
    }

    /// Settings with which a crash of the machine may damage stored data.
    pub(super) async fn hazards(&self) -> Result<Vec<String>, StoreError> {
        let mut reading = self.begin_with(READING).await?;
        let found = sqlx::query_scalar(HAZARDS).fetch_all(&mut *reading).await?;
        reading.commit().await?;
        Ok(found)
    }

    /// Checks that the server answers. The only statement outside of a transaction: it needs no setting and leaves
    /// none.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::raw_sql("SELECT 1").execute(&self.connections).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

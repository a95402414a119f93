//! Connections to the file, and how transactions begin on them.

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{Sqlite, Transaction};

use crate::StoreError;
use crate::ledger::first_gap::FirstGaps;

/// Connections that are opened when they are needed.
pub(super) struct Pool {
    connections: SqlitePool,
    /// The first gaps of sealed runs.
    pub(super) gaps: FirstGaps,
}

impl Pool {
    pub(super) fn new(options: SqliteConnectOptions, connections: u32) -> Self {
        let connections = SqlitePoolOptions::new().max_connections(connections).connect_lazy_with(options);
        Self { connections, gaps: FirstGaps::default() }
    }

    /// Begins a transaction by this statement. Dropping it rolls it back.
    pub(super) async fn begin_with(&self, statement: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.connections.begin_with(statement).await?)
    }

    /// A connection without a transaction, for what SQLite only does outside of one.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.connections.acquire().await?)
    }

    /// None: each connection is set to write what it commits.
    pub(super) async fn hazards(&self) -> Result<Vec<String>, StoreError> {
        std::future::ready(Ok(Vec::new())).await
    }

    /// Checks that the file answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::raw_sql("SELECT 1").execute(&self.connections).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

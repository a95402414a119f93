//! PostgreSQL.
//!
//! - `server`: the first connection, and what its failure means
//! - `ledger`: runs and chunks; `counts`: what became of rows
//! - `session`: the transaction that writes chunks; `rows`: the columns of their rows

mod counts;
mod ledger;
mod operations;
mod rows;
mod server;
mod session;

use std::pin::Pin;
use std::time::Duration;

use assay_transaction::{Checkpoint, Run, RunId, RunState, ScoredChunk, Sealed, Tally};
use async_trait::async_trait;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection as _, PgConnection};

use self::server::Server;
use self::session::PostgresSession;
use crate::schema::{self, APPLIED, OLDEST_VERSION};
use crate::screening::Screened;
use crate::write::{Refusal, write};
use crate::{
    Begun, ErrorClass, IdConflict, Migrated, NewRun, PredictionCount, Progress, RecordedChunk, Store, StoreError,
    Written,
};

/// How long a method waits for one of the pool's connections.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// What every connection is set to. Far above what a statement of ours takes; a server or a lock that hangs is transient.
const SESSION: &str =
    "SET statement_timeout = '120s'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'";
/// When a call is given up, the server having become silent: after the server itself would have given it up.
const CALL_TIMEOUT: Duration = Duration::from_secs(150);
/// Counting the rows of a large run may take longer than any other statement.
const PATIENCE: &str = "SET LOCAL statement_timeout = '30min'";

/// A PostgreSQL database with the tables of Assay.
pub(crate) struct Postgres {
    pool: PgPool,
}

/// Applies the migrations that the database lacks.
pub(crate) async fn migrate(address: &str, startup: Duration) -> Result<Migrated, StoreError> {
    let server = Server::new(address, "migrate")?;
    let mut connection = server.connect(startup).await?;
    let before = applied(&mut connection).await?.len();
    let migrator = schema::postgres();
    migrator.run(&mut connection).await.map_err(|error| schema::migrate_error(&server.database(), error))?;
    let after = applied(&mut connection).await?;
    // What is done is done, whether or not the server hears the goodbye.
    let _ = connection.close().await;
    Ok(Migrated { applied: after.len() - before, version: after.last().copied().unwrap_or_default() })
}

/// The migrations that a database has; none where it has no table of them.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !there {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(APPLIED).fetch_all(connection).await?)
}

impl Postgres {
    pub(crate) async fn connect(
        address: &str,
        connections: u32,
        stage: &str,
        startup: Duration,
    ) -> Result<Self, StoreError> {
        let server = Server::new(address, stage)?;
        let mut connection = server.connect(startup).await?;
        let applied = applied(&mut connection).await?.last().copied();
        let oldest = match applied {
            Some(_) => sqlx::query_scalar(OLDEST_VERSION).fetch_one(&mut connection).await?,
            None => 0,
        };
        // The pool opens its own.
        let _ = connection.close().await;
        schema::check(&server.database(), schema::newest(&schema::postgres()), applied, oldest)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(server.into_options());
        Ok(Self { pool })
    }

    async fn attempt(
        &self,
        screened: &Screened<'_>,
        on_conflict: IdConflict,
        refusal: Refusal,
    ) -> Result<(Vec<crate::ChunkOutcome>, u64), StoreError> {
        let transaction = self.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        write(PostgresSession::new(transaction), screened, on_conflict, refusal).await
    }
}

/// Bounds a call, for the case that the server falls silent.
fn bounded<'a, T: Send + 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>> {
    Box::pin(async move {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::transient(format!("the database did not answer within {CALL_TIMEOUT:?}"))),
        }
    })
}

#[async_trait]
impl Store for Postgres {
    async fn begin_run(&self, run: &NewRun) -> Result<Begun, StoreError> {
        bounded(ledger::begin_run(&self.pool, run)).await
    }

    async fn checkpoint(&self, run_id: &RunId, at: Checkpoint) -> Result<(), StoreError> {
        bounded(ledger::checkpoint(&self.pool, run_id, at)).await
    }

    async fn seal(&self, run_id: &RunId, sealed: Sealed, error: Option<&str>) -> Result<(), StoreError> {
        bounded(ledger::seal(&self.pool, run_id, sealed, error)).await
    }

    async fn close_run(&self, run_id: &RunId) -> Result<RunState, StoreError> {
        bounded(ledger::close_run(&self.pool, run_id)).await
    }

    async fn write(&self, chunks: &[ScoredChunk], on_conflict: IdConflict) -> Result<Written, StoreError> {
        let screened = Screened::new(chunks);
        if screened.chunks.is_empty() {
            return Ok(screened.written(&[], 0));
        }
        let (outcomes, transactions) = match bounded(self.attempt(&screened, on_conflict, Refusal::Abort)).await {
            Err(error) if error.class() == ErrorClass::Data => {
                bounded(self.attempt(&screened, on_conflict, Refusal::Bisect)).await?
            }
            result => result?,
        };
        Ok(screened.written(&outcomes, transactions))
    }

    async fn run(&self, run_id: &RunId) -> Result<Option<Run>, StoreError> {
        bounded(ledger::run(&self.pool, run_id)).await
    }

    async fn progress(&self, run_id: &RunId) -> Result<Progress, StoreError> {
        bounded(ledger::progress(&self.pool, run_id)).await
    }

    async fn recorded_from(&self, run_id: &RunId, chunk: u64, limit: u32) -> Result<Vec<RecordedChunk>, StoreError> {
        bounded(ledger::recorded_from(&self.pool, run_id, chunk, limit)).await
    }

    async fn tally(&self, run_id: &RunId) -> Result<Tally, StoreError> {
        counts::tally(&self.pool, run_id).await
    }

    async fn prediction_counts(&self, run_id: &RunId) -> Result<Vec<PredictionCount>, StoreError> {
        counts::predictions(&self.pool, run_id).await
    }

    async fn invalid_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        counts::by_code(&self.pool, run_id, counts::INVALID).await
    }

    async fn failed_counts(&self, run_id: &RunId) -> Result<Vec<(String, u64)>, StoreError> {
        counts::by_code(&self.pool, run_id, counts::FAILED).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(async { Ok(sqlx::query("SELECT 1").execute(&self.pool).await.map(drop)?) }).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

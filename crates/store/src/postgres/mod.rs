//! PostgreSQL.
//!
//! - `address`: what `DATABASE_URL` means; `server`: the first connection
//! - `begin`: how each transaction begins, with its settings; `pool`: the connections
//! - `write`: the transaction that writes chunks, with the COPY encoder
//! - `diagnose`: what `assay doctor` finds
//! - `counts`: how the rows of a run are counted; `row_summaries`: how a row is found
//! - `sql`: all other statements, which SQLite shares; `dialect`: what they need where the databases differ

mod address;
mod begin;
mod counts;
mod diagnose;
mod dialect;
mod pool;
mod row_summaries;
mod server;
#[expect(clippy::duplicate_mod, reason = "what both databases say in the same words is compiled for each")]
#[path = "../sql/mod.rs"]
mod sql;
mod write;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use assay_transaction::IdScheme;
use sqlx::Connection as _;

use self::begin::MIGRATING;
pub(crate) use self::diagnose::{CHECKS, copy_rate::measure as measure_copy, diagnose};
use self::dialect::{READING, WRITING};
use self::pool::Pool;
pub(crate) use self::server::PostgresServer;
use self::sql::migrations::{applied, check, ids};
use self::write::{CopyMode, PostgresTransaction};
use crate::schema;
use crate::write::Attempt;
use crate::{MigrationReport, StoreError};

/// Longest time of a call, for a server that falls silent: longer than the server's own limits.
const CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// A PostgreSQL database with the tables of Assay.
pub(crate) struct Postgres {
    pool: Pool,
    ids: IdScheme,
    copy_mode: Arc<CopyMode>,
}

/// Which of these names are taken in the schema that new tables would be created in.
const TAKEN: &str = "
    SELECT relname::text FROM pg_catalog.pg_class
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p', 'v', 'm', 'f')
        AND relname = ANY($1) ORDER BY relname";

/// Lets one program migrate at a time. Run ids have no spaces, so no other lock has this name.
const MIGRATING_ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended('assay migrate', 0))";

/// Applies the missing migrations, all or none. Changes nothing if others have tables by our names.
pub(crate) async fn migrate(server: &PostgresServer, startup: Duration) -> Result<MigrationReport, StoreError> {
    let mut connection = server.connect(startup).await?;
    server.check_pooler(&mut connection).await?;
    let mut transaction = connection.begin_with(server.opening().statement(MIGRATING)).await?;
    sqlx::query(MIGRATING_ALONE).execute(&mut *transaction).await?;
    server.create_schema(&mut transaction).await?;
    server.check_schema(&mut transaction).await?;
    let taken: Vec<String> = sqlx::query_scalar(TAKEN).bind(schema::tables()).fetch_all(&mut *transaction).await?;
    let before = applied(&mut transaction).await?.len();
    if before == 0 && !taken.is_empty() {
        return Err(schema::foreign(&server.database(), &taken));
    }
    let migrator = schema::postgres();
    migrator.run(&mut *transaction).await.map_err(|error| schema::migrate_error(&server.database(), error))?;
    let (after, ids) = (applied(&mut transaction).await?, ids(&mut transaction).await?);
    transaction.commit().await?;
    // It is committed, whatever becomes of the connection.
    let _ = connection.close().await;
    Ok(MigrationReport { applied: after.len() - before, version: after.last().copied().unwrap_or_default(), ids })
}

impl Postgres {
    pub(crate) async fn connect(
        server: PostgresServer,
        connections: u32,
        startup: Duration,
    ) -> Result<Self, StoreError> {
        let mut connection = server.connect(startup).await?;
        server.check_pooler(&mut connection).await?;
        let mut reading = connection.begin_with(server.opening().statement(READING)).await?;
        server.check_schema(&mut reading).await?;
        let ids = check(&mut reading, &server.database(), &schema::postgres()).await?;
        reading.commit().await?;
        // The pool opens its own.
        let _ = connection.close().await;
        let opening = server.opening();
        Ok(Self { pool: Pool::new(server.into_options(), opening, connections), ids, copy_mode: Arc::default() })
    }

    fn reading(&self) -> &Pool {
        &self.pool
    }

    fn writing(&self) -> &Pool {
        &self.pool
    }

    async fn begin_write(&self, attempt: Attempt) -> Result<PostgresTransaction, StoreError> {
        let transaction = self.pool.begin_with(WRITING).await?;
        let copy_mode = (attempt == Attempt::Copy).then(|| Arc::clone(&self.copy_mode));
        Ok(PostgresTransaction::new(transaction, copy_mode))
    }

    async fn end(&self) {
        self.pool.close().await;
    }
}

/// Limits the time of a call.
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

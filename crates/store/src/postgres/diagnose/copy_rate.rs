//! How many rows a second the server takes by COPY: into temporary copies of the tables, with their indexes, in a transaction that
//! is rolled back. Temporary tables are not logged: the real ones take fewer, by what the log costs.

use std::time::{Duration, Instant};

use assay_transaction::ScoredChunk;
use sqlx::Connection as _;

use super::super::PostgresServer;
use super::super::begin::WRITING;
use super::super::write::copy;
use crate::write::transaction::StagedRow;
use crate::write::validate::ValidatedChunks;
use crate::{CopyRate, StoreError};

/// Under the names of the real ones, which they hide from this session until it is rolled back.
const HIDE_TABLES: &str = "
    CREATE TEMPORARY TABLE transactions (LIKE transactions INCLUDING ALL);
    CREATE TEMPORARY TABLE predictions (LIKE predictions INCLUDING ALL)";
const EMPTY_TABLES: &str = "TRUNCATE pg_temp.transactions, pg_temp.predictions";

/// Copies the scored rows of these chunks, whose ids differ, again and again for that long.
pub(crate) async fn measure(
    server: &PostgresServer,
    chunks: &[ScoredChunk],
    time: Duration,
    limit: Duration,
) -> Result<CopyRate, StoreError> {
    let validated = ValidatedChunks::new(chunks);
    let rows: Vec<&StagedRow<'_>> = validated.rows.iter().collect();
    let mut connection = server.connect_once(limit).await?;
    let mut transaction = connection.begin_with(server.opening().statement(WRITING)).await?;
    sqlx::raw_sql(HIDE_TABLES).execute(&mut *transaction).await.map_err(|error| {
        StoreError::from(error)
            .prefixed("cannot make temporary tables, which takes the right TEMPORARY on the database: ")
    })?;
    let (mut copied, began) = (0_u64, Instant::now());
    while began.elapsed() < time && !rows.is_empty() {
        copy(&mut transaction, &rows).await?;
        copied += rows.len() as u64;
        sqlx::raw_sql(EMPTY_TABLES).execute(&mut *transaction).await?;
    }
    let took = began.elapsed();
    transaction.rollback().await?;
    // Nothing is open.
    let _ = connection.close().await;
    Ok(CopyRate { rows: copied, took })
}

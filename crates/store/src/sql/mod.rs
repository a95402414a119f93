//! What PostgreSQL and SQLite are asked in the same words. These modules are compiled twice, as `postgres::sql` and as
//! `sqlite::sql`; where the databases differ, they use the `dialect` next to them.
//!
//! - `ledger`, `write`, `operations`: the traits of the same rooms, each method one call
//! - `fragments`: parts of statements that several rooms share; `migrations`: which of them a database has
//!
//! Statements name each column, cast ids and JSON to text, and bind everything.

pub(crate) mod fragments;
mod ledger;
pub(crate) mod migrations;
mod operations;
mod write;

use assay_transaction::IdScheme;
use async_trait::async_trait;

use self::dialect::{Begin, Connection, Database, Pool, Query, Row};
use super::{bounded, dialect};
use crate::{Store, StoreError};

#[async_trait]
impl Store for Database {
    fn ids(&self) -> IdScheme {
        self.ids
    }

    async fn hazards(&self) -> Result<Vec<String>, StoreError> {
        bounded(self.reading().hazards()).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(self.reading().ping()).await
    }

    async fn close(&self) {
        self.end().await;
    }
}

/// Asks in a transaction of this kind, and so at one point in time.
async fn ask<T, E>(
    pool: &Pool,
    kind: Begin,
    question: impl AsyncFnOnce(&mut Connection) -> Result<T, E>,
) -> Result<T, StoreError>
where
    StoreError: From<E>,
{
    let mut transaction = pool.begin_with(kind).await?;
    let answer = question(&mut transaction).await?;
    transaction.commit().await?;
    Ok(answer)
}

/// The rows of one query.
async fn rows(pool: &Pool, kind: Begin, query: Query<'_>) -> Result<Vec<Row>, StoreError> {
    ask(pool, kind, async |connection| query.fetch_all(connection).await).await
}

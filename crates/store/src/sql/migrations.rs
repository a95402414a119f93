//! Which migrations a database has, and whether this program works with them.

use assay_transaction::IdScheme;
use sqlx::migrate::Migrator;

use super::dialect::{Connection, HAS_MIGRATIONS};
use crate::StoreError;
use crate::schema::{self, APPLIED, IDS, OLDEST_VERSION};

/// The versions of the applied migrations, in ascending order; none if the table of them is missing.
pub(crate) async fn applied(connection: &mut Connection) -> Result<Vec<i64>, StoreError> {
    let is_there: bool = sqlx::query_scalar(HAS_MIGRATIONS).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(APPLIED).fetch_all(connection).await?)
}

/// Refuses a database whose tables this program does not know, or that has none. Returns the scheme of its ids.
pub(crate) async fn check(connection: &mut Connection, place: &str, ours: &Migrator) -> Result<IdScheme, StoreError> {
    let version = applied(connection).await?.last().copied();
    let oldest = match version {
        Some(_) => sqlx::query_scalar(OLDEST_VERSION).fetch_one(&mut *connection).await?,
        None => 0,
    };
    schema::check(place, schema::newest(ours), version, oldest)?;
    ids(connection).await
}

/// The scheme of the ids in a database, which never changes.
pub(crate) async fn ids(connection: &mut Connection) -> Result<IdScheme, StoreError> {
    schema::id_scheme(sqlx::query_scalar(IDS).fetch_one(connection).await?)
}

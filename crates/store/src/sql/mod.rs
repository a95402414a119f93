//! What PostgreSQL and SQLite are asked in the same words. These modules are compiled twice, as `postgres::sql` and as
//! `sqlite::sql`; where the databases differ, they take what they need from `dialect` beside them.
//!
//! - `store`, `operations`: the traits, each method one call
//! - `beginning`: how a run begins; `ledger`: runs and chunks; `leases`: who loads a run; `stopping`: orders to end a run early
//! - `overview`: how far runs are; `counts`: what became of rows, by number; `audit`: the same for those who do not believe it;
//!   `strays`: rows of no run
//! - `records`: single rows; `journal`: who did what; `known`: sources that runs have read
//! - `removal`: taking a run back; `succession`: who inherits its transactions
//! - `live`: runs of live transactions; `dead_letters`, `replays`
//!
//! Statements name each column, cast ids and JSON to text, and bind everything.

mod ledger;
mod operations;
mod store;

use self::dialect::{Begin, Connection, Pool};
use super::{bounded, dialect};
use crate::StoreError;

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

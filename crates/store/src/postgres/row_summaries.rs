//! Summaries of the pages that hold the rows of files, by which counts and removals find the rows of a run. Writers have them made
//! when nothing was written for a while, or many rows wait: PostgreSQL itself summarises only when it vacuums, and what has no
//! summary is read each time.

use super::Postgres;
use super::begin::WRITING;
use super::bounded;
use crate::{ErrorClass, StoreError};

/// Summaries that are made in one transaction, which keeps a vacuum of the table from beginning: some 20 ms.
const MOST: i32 = 32;
/// Owned by the role that migrates, as only an owner may summarise.
const SUMMARISE: &str = "SELECT summarise_rows($1)";

impl Postgres {
    /// Summarises what was written since the last call, by any process. Skips what is being vacuumed, or summarised by another.
    pub(super) async fn summarise(&self) -> Result<(), StoreError> {
        loop {
            let is_all = bounded(async {
                let mut transaction = self.pool.begin_with(WRITING).await?;
                let is_all: bool = sqlx::query_scalar(SUMMARISE).bind(MOST).fetch_one(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(is_all)
            });
            match is_all.await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.class() == ErrorClass::Configuration => {
                    return Err(
                        error.prefixed("run deploy/postgres/roles.sql again, or grant EXECUTE on summarise_rows: ")
                    );
                }
                Err(error) => return Err(error),
            }
        }
    }
}

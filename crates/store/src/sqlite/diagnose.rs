//! What `assay doctor` finds of a SQLite file. What it writes is rolled back.

use std::time::Duration;

use assay_connect::{Diagnosis, Finding};
use sqlx::{Connection as _, SqliteConnection};

use super::dialect::WRITING;
use super::sql::migrations::check;
use super::{open, options, place};
use crate::StoreError;
use crate::diagnose::BOOK;
use crate::schema;

/// The checks, in their order.
const CHECKS: [&str; 4] = ["connection", "version", "tables", "write"];

/// Checks the file of an address. Each step takes at most `limit`.
pub(crate) async fn diagnose(address: &str, limit: Duration) -> Vec<Finding> {
    let mut diagnosis = Diagnosis::new(&CHECKS, limit);
    if let Some((place, mut connection)) = diagnosis.step("connection", connect(address)).await {
        diagnosis.add(Finding::ok("connection", format!("{place} can be opened")));
        let version = async { version(&mut connection).await };
        if let Some(version) = diagnosis.step("version", version).await {
            diagnosis.add(Finding::ok("version", format!("SQLite {version}")));
        }
        let migrator = schema::sqlite();
        let tables = async { check(&mut connection, &place, &migrator).await };
        if let Some(ids) = diagnosis.step("tables", tables).await {
            let newest = schema::newest(&migrator);
            diagnosis
                .add(Finding::ok("tables", format!("migrated to version {newest} or later; ids follow scheme {ids}")));
            let written = async { write(&mut connection).await };
            if diagnosis.step("write", written).await.is_some() {
                diagnosis.add(Finding::ok("write", "an entry of `operations` was written, and rolled back"));
            }
        }
        // Nothing is open.
        let _ = connection.close().await;
    }
    diagnosis.finish()
}

async fn connect(address: &str) -> Result<(String, SqliteConnection), StoreError> {
    let options = options(address)?.create_if_missing(false);
    let place = place(options.get_filename());
    super::require_file(&options)?;
    Ok((place, open(&options).await?))
}

async fn version(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar("SELECT sqlite_version()").fetch_one(connection).await?)
}

async fn write(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with(WRITING).await?;
    sqlx::query(BOOK).execute(&mut *transaction).await?;
    transaction.rollback().await?;
    Ok(())
}

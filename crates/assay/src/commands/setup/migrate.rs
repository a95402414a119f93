//! `assay migrate`.

use assay_transaction::Exit;
use tracing::info;

use crate::arguments::MigrateArguments;
use crate::error::CommandError;

/// Applies the migrations that a database lacks.
pub(crate) async fn migrate(arguments: &MigrateArguments) -> Result<Exit, CommandError> {
    let migrated = assay_store::migrate(&arguments.database, arguments.startup.startup_timeout).await?;
    match migrated.applied {
        0 => info!("the database is up to date, at version {}", migrated.version),
        applied => info!("applied {applied} migrations; the database is at version {}", migrated.version),
    }
    Ok(Exit::Done)
}

//! `assay migrate`: creates or updates the tables.

use assay_store::{DatabaseOptions, MigrationReport};
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use tracing::info;

use crate::error::CommandError;

/// Create or update the tables of a database; safe to repeat
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    startup: StartupOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Applies the missing migrations.
pub(crate) async fn migrate(arguments: &MigrateArguments) -> Result<Exit, CommandError> {
    let migrated = assay_store::migrate(&arguments.database, arguments.startup.startup_timeout).await?;
    let MigrationReport { applied, version, ids } = migrated;
    match applied {
        0 => info!("the database is up to date, at version {version}; its ids follow scheme {ids}"),
        applied => {
            info!("applied {applied} migrations; the database is at version {version}; its ids follow scheme {ids}");
        }
    }
    Ok(Exit::Done)
}

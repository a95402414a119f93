//! `assay migrate`: creates or updates the tables.

use assay_store::{DatabaseOptions, MigrationReport};
use assay_telemetry::{LogOptions, StartupOptions};
use assay_transaction::Exit;
use clap::Args;
use tracing::info;

use crate::error::CommandError;
use crate::output::print_json;

/// Create or update the tables of a database; safe to repeat
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Print the result as JSON, on stdout
    #[arg(long)]
    json: bool,
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
    if arguments.json {
        print_json(&migrated)?;
        return Ok(Exit::Done);
    }
    match applied {
        0 => info!("the database is up to date, at version {version}; its ids follow scheme {ids}"),
        applied => {
            info!("applied {applied} migrations; the database is at version {version}; its ids follow scheme {ids}");
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use assay_transaction::IdScheme;

    use super::*;

    #[test]
    fn its_json_is_pinned() {
        crate::output::pin_json("migrate", &MigrationReport { applied: 2, version: 9, ids: IdScheme::V8 });
    }
}

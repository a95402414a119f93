//! The migrations, embedded from `/migrations`, and whether a database has those that this program needs.

use assay_transaction::IdScheme;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::StoreError;

/// Version, name and SQL of each migration of one database.
type Embedded = &'static [(i64, &'static str, &'static str)];

const POSTGRES: Embedded = &[
    (1, "tables", include_str!("../../../migrations/postgres/0001_tables.sql")),
    (2, "operations", include_str!("../../../migrations/postgres/0002_operations.sql")),
    (3, "leases_and_totals", include_str!("../../../migrations/postgres/0003_leases_and_totals.sql")),
    (4, "live", include_str!("../../../migrations/postgres/0004_live.sql")),
    (5, "reading", include_str!("../../../migrations/postgres/0005_reading.sql")),
    (6, "again", include_str!("../../../migrations/postgres/0006_again.sql")),
    (7, "removal", include_str!("../../../migrations/postgres/0007_removal.sql")),
    (8, "identities", include_str!("../../../migrations/postgres/0008_identities.sql")),
    (9, "rows", include_str!("../../../migrations/postgres/0009_rows.sql")),
    (10, "models", include_str!("../../../migrations/postgres/0010_models.sql")),
    (11, "privacy", include_str!("../../../migrations/postgres/0011_privacy.sql")),
    (12, "statistics", include_str!("../../../migrations/postgres/0012_statistics.sql")),
];
const SQLITE: Embedded = &[
    (1, "tables", include_str!("../../../migrations/sqlite/0001_tables.sql")),
    (2, "operations", include_str!("../../../migrations/sqlite/0002_operations.sql")),
    (3, "leases_and_totals", include_str!("../../../migrations/sqlite/0003_leases_and_totals.sql")),
    (4, "live", include_str!("../../../migrations/sqlite/0004_live.sql")),
    (5, "reading", include_str!("../../../migrations/sqlite/0005_reading.sql")),
    (6, "again", include_str!("../../../migrations/sqlite/0006_again.sql")),
    (7, "removal", include_str!("../../../migrations/sqlite/0007_removal.sql")),
    (8, "identities", include_str!("../../../migrations/sqlite/0008_identities.sql")),
    (9, "predictions", include_str!("../../../migrations/sqlite/0009_predictions.sql")),
    (10, "models", include_str!("../../../migrations/sqlite/0010_models.sql")),
    (11, "privacy", include_str!("../../../migrations/sqlite/0011_privacy.sql")),
    (12, "statistics", include_str!("../../../migrations/sqlite/0012_statistics.sql")),
];

/// The versions of the applied migrations, in ascending order.
pub(crate) const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
/// The oldest version of a program that works with this schema.
pub(crate) const OLDEST_VERSION: &str = "SELECT oldest_version FROM schema_compatibility";

/// The scheme of the ids in this database.
pub(crate) const IDS: &str = "SELECT CAST(ids AS bigint) FROM schema_compatibility";

/// The migrations of PostgreSQL. sqlx would take a session lock, and a pooler in transaction mode has no sessions:
/// the transaction around them takes a lock instead.
pub(crate) fn postgres() -> Migrator {
    let mut migrator = migrator(POSTGRES);
    migrator.set_locking(false);
    migrator
}

/// The migrations of SQLite.
pub(crate) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

fn migrator(embedded: Embedded) -> Migrator {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(embedded.iter().map(migration).collect())
}

/// The tables that PostgreSQL's migrations create.
pub(crate) fn tables() -> Vec<&'static str> {
    let created =
        |sql: &'static str| sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split(' ').next());
    POSTGRES.iter().flat_map(|(_, _, sql)| created(sql)).collect()
}

/// The error for a schema in which others have tables by these names.
pub(crate) fn foreign(place: &str, names: &[String]) -> StoreError {
    StoreError::configuration(format!(
        "{place} has tables that are not Assay's under names that it needs ({}): nothing was changed; set DATABASE_SCHEMA to \
         the name of a schema for Assay's own, such as assay, for every program and for `assay migrate`, which creates it; \
         docs/from-the-old-job.md says how to copy what is stored",
        names.join(", ")
    ))
}

/// The newest version that this program knows.
pub(crate) fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Checks that a program that knows `newest` works with a database: one at that version, or a newer one that allows
/// it.
pub(crate) fn check(place: &str, newest: i64, applied: Option<i64>, oldest: i64) -> Result<(), StoreError> {
    match applied {
        None => Err(StoreError::configuration(format!("{place} has no tables of Assay: run `assay migrate`"))),
        Some(version) if version < newest => Err(StoreError::configuration(format!(
            "the tables in {place} are at version {version} and this program needs {newest}: run `assay migrate`"
        ))),
        Some(version) if newest < oldest => Err(StoreError::configuration(format!(
            "the tables in {place} are at version {version}, and this program only knows {newest}: update it"
        ))),
        Some(_) => Ok(()),
    }
}

/// The scheme of ids that a database names.
pub(crate) fn id_scheme(number: i64) -> Result<IdScheme, StoreError> {
    let scheme = u8::try_from(number).ok().and_then(|number| IdScheme::try_from(number).ok());
    scheme.ok_or_else(|| {
        StoreError::configuration(format!(
            "the ids of the database follow scheme {number}, which this program does not know: update it"
        ))
    })
}

/// The error of a migration.
pub(crate) fn migrate_error(place: &str, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::ExecuteMigration(error, version) => {
            let error = StoreError::from(error);
            error.prefixed(&format!("migration {version} of {place} failed: "))
        }
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => StoreError::configuration(
            format!("{place} has migration {version}, which this program does not know: update it"),
        ),
        MigrateError::VersionMismatch(version) => StoreError::configuration(format!(
            "migration {version} of {place} is not the one that this program has: it is another program's database, or was \
             made by a development version"
        )),
        MigrateError::Dirty(version) => StoreError::configuration(format!(
            "migration {version} of {place} was left half done: repair the database, or restore it"
        )),
        error => StoreError::transient(format!("cannot migrate {place} ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorClass;

    #[test]
    fn every_migration_file_is_embedded() {
        for (folder, embedded) in [("postgres", POSTGRES), ("sqlite", SQLITE)] {
            let folder = format!("{}/../../migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let names: Vec<_> = embedded.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
            assert_eq!(files, names);
        }
    }

    #[test]
    fn the_tables_are_known_by_name() {
        let tables = tables();
        assert!(["runs", "transactions", "predictions", "live_runs"].iter().all(|name| tables.contains(name)));
        assert!(
            tables.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')),
            "{tables:?}"
        );
    }

    #[test]
    fn an_unknown_scheme_of_ids_is_refused() {
        assert_eq!(id_scheme(8).unwrap(), IdScheme::V8);
        for number in [-1, 4, 7, 9, 261] {
            let error = id_scheme(number).unwrap_err();
            assert_eq!((error.class(), error.to_string().contains("update it")), (ErrorClass::Configuration, true));
        }
    }

    #[test]
    fn a_schema_fits_or_says_what_to_do() {
        let cases = [
            (None, 1, "the database has no tables of Assay: run `assay migrate`"),
            (Some(1), 1, "are at version 1 and this program needs 2: run `assay migrate`"),
            (Some(4), 3, "are at version 4, and this program only knows 2: update it"),
        ];
        for (applied, oldest, expected) in cases {
            let error = check("the database", 2, applied, oldest).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(check("the database", 2, Some(2), 1).is_ok());
        assert!(check("the database", 2, Some(3), 2).is_ok(), "the version before works on during an update");
    }
}

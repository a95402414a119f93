//! Connecting to a database, and the one clear line if there is none.

use std::time::Duration;

use assay_store::{DatabaseOptions, MigrationReport, connect, migrate};
use assay_testkit::ClosedPort;
use assay_transaction::{Exit, IdScheme};

use crate::database::{
    Database, STARTUP, address, empty_postgres, empty_sqlite, options, postgres_url, server, unique_name,
};

const MIGRATED: MigrationReport = MigrationReport { applied: 12, version: 12, ids: IdScheme::V8 };

/// The exit code and the one line of a failed connection.
async fn refusal(url: &str, startup: Duration) -> (Exit, String) {
    let error = connect(&options(url), "test", startup).await.err().unwrap();
    let text = error.to_string();
    assert!(!text.contains('\n') && std::error::Error::source(&error).is_none(), "{text}");
    assert!(!text.contains(server().password().unwrap()), "{text}");
    (error.exit(), text)
}

#[tokio::test]
async fn tables_are_created_once() {
    for (options, _place) in [empty_postgres().await, empty_sqlite()] {
        assert_eq!(migrate(&options, STARTUP).await.unwrap(), MIGRATED);
        assert_eq!(migrate(&options, STARTUP).await.unwrap(), MigrationReport { applied: 0, ..MIGRATED });
        connect(&options, "test", STARTUP).await.unwrap().ping().await.unwrap();
    }
}

#[tokio::test]
async fn concurrent_migrations_succeed() {
    let (options, _place) = empty_postgres().await;
    let all = futures_util::future::join_all((0..4).map(|_| migrate(&options, STARTUP))).await;
    assert!(all.iter().all(|migrated| migrated.as_ref().unwrap().version == MIGRATED.version));
}

#[tokio::test]
async fn missing_tables_ask_for_migrate() {
    let (postgres, _place) = empty_postgres().await;
    let (exit, error) = refusal(address(&postgres), STARTUP).await;
    assert_eq!(exit, Exit::Usage);
    assert!(
        error.starts_with("database `assay_store_") && error.ends_with("has no tables of Assay: run `assay migrate`"),
        "{error}"
    );

    let (sqlite, _place) = empty_sqlite();
    let (exit, error) = refusal(address(&sqlite), STARTUP).await;
    assert_eq!(exit, Exit::Usage);
    assert!(error.ends_with("assay.db of DATABASE_URL does not exist: run `assay migrate`"), "{error}");
}

#[tokio::test]
async fn tables_of_others_are_left_alone() {
    let (options, place) = empty_postgres().await;
    let pool = sqlx::PgPool::connect_lazy(address(&options)).unwrap();
    let theirs = "CREATE TABLE transactions (id text PRIMARY KEY); INSERT INTO transactions VALUES ('A-1');
        CREATE TABLE predictions (id bigserial PRIMARY KEY); CREATE TABLE flyway_schema_history (version text)";
    sqlx::raw_sql(theirs).execute(&pool).await.unwrap();
    let tables = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY 1) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let tables = || async { sqlx::query_scalar::<_, String>(tables).fetch_one(&pool).await.unwrap() };
    let before = tables().await;

    let error = migrate(&options, STARTUP).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    let text = error.to_string();
    assert!(text.contains("(predictions, transactions): nothing was changed; set DATABASE_SCHEMA"), "{text}");
    assert_eq!(tables().await, before, "not even the table of migrations");

    let in_schema = DatabaseOptions { database_schema: Some("assay".to_owned()), ..options };
    let error = connect(&in_schema, "test", STARTUP).await.err().unwrap().to_string();
    assert!(error.starts_with("schema `assay` of database `") && error.ends_with("run `assay migrate`"), "{error}");
    let all = futures_util::future::join_all((0..4).map(|_| migrate(&in_schema, STARTUP))).await;
    assert!(all.iter().all(|migrated| migrated.as_ref().unwrap().version == MIGRATED.version), "{all:?}");
    assert_eq!(migrate(&in_schema, STARTUP).await.unwrap(), MigrationReport { applied: 0, ..MIGRATED });
    let store = connect(&in_schema, "test", STARTUP).await.unwrap();
    store.ping().await.unwrap();
    let count = |query: &'static str| sqlx::query_scalar::<_, i64>(query).fetch_one(&pool);
    assert_eq!(count("SELECT count(*) FROM public.transactions").await.unwrap(), 1);
    assert_eq!(count("SELECT count(*) FROM assay.transactions").await.unwrap(), 0);
    drop((store, place));
}

mod versions {
    use super::*;

    on_both! { a_newer_schema_tells_which_programs_may_use_it, }

    async fn a_newer_schema_tells_which_programs_may_use_it(database: &Database) {
        let (ours, newer) = (MIGRATED.version, MIGRATED.version + 1);
        database
            .execute(&format!("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) SELECT {newer}, 'newer', success, checksum, 0 FROM _sqlx_migrations WHERE version = {ours}"))
            .await;
        connect(&database.options, "test", STARTUP).await.unwrap();
        database.execute(&format!("UPDATE schema_compatibility SET oldest_version = {newer}")).await;
        let (exit, error) = refusal(address(&database.options), STARTUP).await;
        assert_eq!(exit, Exit::Usage);
        let expected = format!("are at version {newer}, and this program only knows {ours}: update it");
        assert!(error.ends_with(&expected), "{error}");
        let error = migrate(&database.options, STARTUP).await.unwrap_err().to_string();
        let expected = format!("has migration {newer}, which this program does not know: update it");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_not_retried() {
    let mut url = server();
    url.set_password(Some("not-the-password")).unwrap();
    let (exit, error) = refusal(url.as_str(), STARTUP).await;
    assert_eq!(exit, Exit::Usage);
    let user = url.username();
    assert!(error.contains(&format!("refuses user `{user}` (password authentication failed")), "{error}");
    assert!(error.ends_with("check DATABASE_URL") && !error.contains("not-the-password"), "{error}");
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let name = unique_name();
    let (exit, error) = refusal(&postgres_url(&name), STARTUP).await;
    assert_eq!(exit, Exit::Usage);
    assert!(error.ends_with(&format!("has no database `{name}`: create it, or check DATABASE_URL")), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_is_waited_for() {
    let closed = ClosedPort::new();
    let address = closed.address();
    let url = format!("postgres://u:secret@{address}/a");
    let (exit, error) = refusal(&url, Duration::from_secs(1)).await;
    assert_eq!(exit, Exit::DependencyUnavailable);
    assert_eq!(
        error,
        format!("cannot reach PostgreSQL at {address} within 1 s (connection refused): check DATABASE_URL")
    );
}

#[tokio::test]
async fn an_address_of_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "this is no database, but a text that is long enough to be looked at as one".repeat(10))
        .unwrap();
    let text = format!("sqlite://{}", text.display());
    let cases = [
        ("sqlite::memory:", "DATABASE_URL must name a file"),
        ("mysql://u:p@host/a", "DATABASE_URL must begin with postgres://"),
        ("postgres://u:p@host:port/a", "its port is not a number"),
        (text.as_str(), "check the file of DATABASE_URL"),
    ];
    for (url, expected) in cases {
        let (exit, error) = refusal(url, Duration::ZERO).await;
        assert_eq!(exit, Exit::Usage, "{url}: {error}");
        assert!(error.contains(expected), "{url}: {error}");
    }
    let nowhere = options(&format!("sqlite://{}/no/folder/assay.db", directory.path().display()));
    let error = migrate(&nowhere, STARTUP).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage, "{error}");
}

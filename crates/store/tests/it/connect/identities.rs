//! The scheme of ids: it belongs to the database, is decided once, and no program that does not know it gets in.

use assay_store::{DatabaseOptions, RunStart, connect, migrate};
use assay_transaction::{IdScheme, LiveId, Namespace, RunSettings};
use chrono::Utc;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr as _};

use crate::chunks::{new_run, run_id};
use crate::database::{Database, STARTUP, address, empty_postgres, empty_sqlite, server};
use crate::postgres::server::wait_for_blocked_connections;

/// The version whose programs know no scheme.
const BEFORE: usize = 7;

/// The migrations of a kind of database before there were schemes.
fn before(kind: &str) -> Migrator {
    let folder = format!("{}/../../migrations/{kind}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let migration = |(version, path): (i64, &std::path::PathBuf)| {
        let sql = AssertSqlSafe(std::fs::read_to_string(path).unwrap()).into_sql_str();
        Migration::new(version, "before".into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations((1..).zip(files.iter().take(BEFORE)).map(migration).collect())
}

/// What a program of that version writes.
fn run_before(name: &str) -> String {
    let settings = serde_json::to_string(&RunSettings::example()).unwrap();
    format!(
        "INSERT INTO runs (run_id, source_location, source_version, settings) VALUES ('{name}', 'a', 'e', '{settings}')"
    )
}

const TRANSACTION: &str = "INSERT INTO transactions (id, description, amount, \"timestamp\", operation_type, side, run_id, \
     row_number, processing_type) VALUES ('00000000-0000-0000-0000-000000000001', 'x', '1', '2026-01-11T10:00:00Z', 'x', 'debit', \
     'a', 1, 'batch')";

/// Migrates twice, and returns what both say.
async fn scheme(options: &DatabaseOptions) -> IdScheme {
    let first = migrate(options, STARTUP).await.unwrap().ids;
    assert_eq!(migrate(options, STARTUP).await.unwrap().ids, first);
    assert_eq!(connect(options, "test", STARTUP).await.unwrap().ids(), first);
    first
}

#[tokio::test]
async fn only_a_database_without_rows_gets_the_newer_scheme() {
    for (content, expected) in [
        (String::new(), IdScheme::V8),
        (run_before("a"), IdScheme::V5),
        // As a dump without its runs leaves it.
        (TRANSACTION.to_owned(), IdScheme::V5),
    ] {
        let (options, _place) = empty_postgres().await;
        let mut connection = PgConnection::connect(address(&options)).await.unwrap();
        before("postgres").run(&mut connection).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(content.clone())).execute(&mut connection).await.unwrap();
        assert_eq!(scheme(&options).await, expected, "{content}");

        let (options, _place) = empty_sqlite();
        let file: SqliteConnectOptions = address(&options).parse().unwrap();
        let mut connection = SqliteConnection::connect_with(&file.create_if_missing(true)).await.unwrap();
        before("sqlite").run(&mut connection).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(content.clone())).execute(&mut connection).await.unwrap();
        assert_eq!(scheme(&options).await, expected, "{content}");
    }
}

#[tokio::test]
async fn a_run_that_begins_meanwhile_decides() {
    let (options, _place) = empty_postgres().await;
    let mut older = PgConnection::connect(address(&options)).await.unwrap();
    before("postgres").run(&mut older).await.unwrap();
    let mut transaction = older.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(run_before("a"))).execute(&mut *transaction).await.unwrap();
    let pool = sqlx::PgPool::connect_lazy(address(&options)).unwrap();
    let commit = async {
        wait_for_blocked_connections(&pool, "assay-migrate", 1).await;
        transaction.commit().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(migrate(&options, STARTUP), commit);
    assert_eq!(migrated.unwrap().ids, IdScheme::V5);
}

/// `deploy/from-the-old-job/copy.sql` makes identities in SQL.
#[tokio::test]
async fn the_script_for_the_old_job_makes_the_same_identities() {
    let script = include_str!("../../../../../deploy/from-the-old-job/copy.sql");
    let start = script.find("CREATE OR REPLACE FUNCTION pg_temp.ordered_id").expect("it has a function");
    let function = script[start..].split_inclusive("$ordered$").take(2).collect::<String>();
    let mut connection = PgConnection::connect(server().as_str()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(function)).execute(&mut connection).await.unwrap();
    let namespace = Namespace::new("s3://transactions/a.csv");
    for vector in include_str!("../../../../transaction/src/run/ordered_id_vectors.txt").lines() {
        let (id, expected) = vector.rsplit_once(' ').unwrap();
        let made: Option<String> = sqlx::query_scalar("SELECT pg_temp.ordered_id(CAST($1 AS uuid), $2)::text")
            .bind(namespace.to_string())
            .bind(id)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(namespace.identify(IdScheme::V8, id).0.to_string(), expected, "{id}");
        // The others become UUIDv5 by the extension uuid-ossp.
        let is_ordered = expected.as_bytes()[14] == b'8';
        assert_eq!(made.as_deref(), is_ordered.then_some(expected), "{id}");
    }
}

mod follow {
    use super::*;

    on_both! {
        a_run_follows_the_database_whatever_it_asks_for,
        an_older_program_is_refused,
    }

    async fn a_run_follows_the_database_whatever_it_asks_for(database: &Database) {
        let new = new_run("a", "s3://bank/a.csv");
        assert_eq!(new.settings.ids, IdScheme::V5);
        let RunStart::Started(run, _) = database.store.begin_run(&new).await.unwrap() else { panic!("it begins") };
        assert_eq!(run.settings, RunSettings { ids: IdScheme::V8, ..new.settings });
        assert_eq!(database.store.run(&run_id("a")).await.unwrap().unwrap().settings, run.settings);

        let id =
            LiveId::new("shop".parse().unwrap(), assay_transaction::Day::of(Utc::now()), String::new(), b"x", true);
        let arrival = assay_store::UnnumberedMessage { id: &id, rows: 1 };
        database.store.number(&[arrival], Utc::now()).await.unwrap();
        assert_eq!(database.store.run(&id.run_id()).await.unwrap().unwrap().settings.ids, IdScheme::V8);
    }

    async fn an_older_program_is_refused(database: &Database) {
        // When it connects, by the version that it knows.
        let oldest = database.count("SELECT oldest_version FROM schema_compatibility").await;
        assert!(usize::try_from(oldest).unwrap() > BEFORE);
        // When it was connected before, and when rows of an old dump come in.
        let error = database.try_execute(&run_before("old")).await.unwrap_err();
        assert!(error.contains("follow") && error.contains("scheme"), "{error}");
        let error = database.try_execute("INSERT INTO schema_compatibility VALUES (1, 5)").await.unwrap_err();
        assert!(error.to_lowercase().contains("unique"), "{error}");
        assert_eq!(database.count("SELECT count(*) FROM runs").await, 0);
    }
}

//! From the first version of the tables to the newest, with data in them.

use assay_store::{DeadLetterOutcome, IdConflict, MigrationReport, RowOutcome, Store, connect, migrate};
use assay_transaction::{IdScheme, RunSettings, RunState};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, SqlSafeStr as _};

use crate::chunks::{chunk_of_ids, part, run_id, scored};
use crate::database::{STARTUP, address, empty_postgres, empty_sqlite};

const POSTGRES: &str = include_str!("../../../../../migrations/postgres/0001_tables.sql");
const SQLITE: &str = include_str!("../../../../../migrations/sqlite/0001_tables.sql");

fn first_version(sql: &'static str) -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "tables".into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    )])
}

/// What a program of the first version writes: a sealed run, a loading one, and rows with every outcome. `now` and
/// `blob` are in the syntax of the database.
fn rows(now: &str, blob: impl Fn(&str) -> String) -> String {
    let settings = serde_json::to_string(&RunSettings::example()).unwrap();
    let id = |number: u32| format!("00000000-0000-0000-0000-{number:012}");
    let entry = format!(
        r#"{{"row":2,"external_id":"id 2","transaction":{}}}"#,
        assay_transaction::EncodedTransaction::new(&crate::chunks::transaction(2, "1")).unwrap().as_json()
    );
    let (one, two, raw, payload) = (id(1), id(2), blob("raw"), blob(&entry));
    format!(
        "INSERT INTO runs (run_id, source_location, source_version, settings, state, rows_read, chunks_total)
            VALUES ('a', 's3://bank/a.csv', 'etag-1', '{settings}', 'sealed', 4, 2);
        INSERT INTO runs (run_id, source_location, source_version, settings) VALUES ('b', 's3://bank/b.csv', 'e', '{settings}');
        INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, duplicate_rows)
            VALUES ('a', 0, 1, 3, 1, '[[3,\"{one}\"]]');
        INSERT INTO transactions (id, description, amount, \"timestamp\", operation_type, side, run_id, row_number, processing_type)
            VALUES ('{one}', 'Café', '-12.50', {now}, 'refund', 'debit', 'a', 1, 'batch');
        INSERT INTO predictions VALUES ('{one}', 'fraud', 0.5, NULL, 'a', {now});
        INSERT INTO failed_transactions VALUES ('a', 2, '{two}', 'suspect', 'HTTP status 500', 4, {payload});
        INSERT INTO invalid_transactions VALUES ('b', 1, 2, 'id_empty', '`id` is empty', {raw});
        INSERT INTO dead_letters (queue, run_id, reason, attempt, body) VALUES ('q', 'b', 'unreadable', 0, {raw});
        INSERT INTO operations (operator, action, run_id) VALUES ('ada', 'force', 'a');"
    )
}

/// What the newest version reads of it.
async fn works_on(store: &dyn Store) {
    let a = run_id("a");
    let run = store.run(&a).await.unwrap().unwrap();
    assert_eq!((run.state, &run.stop, run.source_bytes), (RunState::Sealed, &None, None));
    assert_eq!(store.open_runs().await.unwrap().len(), 2);
    assert!(matches!(store.row(&a, 1).await.unwrap(), RowOutcome::Predicted(_)));
    assert!(matches!(store.row(&a, 3).await.unwrap(), RowOutcome::Duplicate { of: Some(_), .. }));
    let letters = store.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].letter.outcome), (1, DeadLetterOutcome::Unreadable));
    assert_eq!(store.operations(None, 10).await.unwrap()[0].action, "force");
    store.write(&[chunk_of_ids("a", 1, 4, &[4])], IdConflict::Fail).await.unwrap();
    assert_eq!(store.close_run(&a).await.unwrap(), RunState::Complete);
    assert_eq!(store.audit(&a).await.unwrap().unwrap().breaches(), []);
    let exchanged = store.write_replay(&part("a", 1, 0, &[(2, scored(2, "1"))]), IdConflict::Fail).await.unwrap();
    assert_eq!(exchanged.stored, 1);
    assert_eq!(store.audit(&a).await.unwrap().unwrap().breaches(), []);
}

/// Statements of a program of the first version that is still running.
const OLDER: [&str; 4] = [
    "INSERT INTO runs (run_id, source_location, source_version, settings) SELECT 'c', 'x', 'y', settings FROM runs LIMIT 1",
    "UPDATE runs SET state = 'sealed', rows_read = 0, chunks_total = 0, error = NULL WHERE run_id = 'c'",
    "INSERT INTO dead_letters (queue, reason, attempt, body) SELECT queue, reason, attempt, body FROM dead_letters",
    "INSERT INTO chunks (run_id, chunk, first_row, rows, predicted) VALUES ('d', 0, 1, 1, 0) ON CONFLICT (run_id, chunk) DO NOTHING",
];
const NEWEST: MigrationReport = MigrationReport { applied: 11, version: 12, ids: IdScheme::V5 };

#[tokio::test]
async fn postgres_is_migrated_with_its_data() {
    let (options, _place) = empty_postgres().await;
    let mut connection = PgConnection::connect(address(&options)).await.unwrap();
    first_version(POSTGRES).run(&mut connection).await.unwrap();
    let blob = |text: &str| format!("convert_to('{}', 'UTF8')", text.replace('\'', "''"));
    sqlx::raw_sql(AssertSqlSafe(rows("now()", blob))).execute(&mut connection).await.unwrap();
    let error = connect(&options, "test", STARTUP).await.err().unwrap().to_string();
    let expected = format!("are at version 1 and this program needs {}: run `assay migrate`", NEWEST.version);
    assert!(error.ends_with(&expected), "{error}");
    assert_eq!(migrate(&options, STARTUP).await.unwrap(), NEWEST);
    let store = connect(&options, "test", STARTUP).await.unwrap();
    works_on(&*store).await;
    for statement in OLDER {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM runs WHERE state = 'sealed'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let oldest: i64 =
        sqlx::query_scalar("SELECT oldest_version FROM schema_compatibility").fetch_one(&mut connection).await.unwrap();
    assert_eq!((open, oldest), (1, 1), "a program of the first version works on");
}

#[tokio::test]
async fn sqlite_is_migrated_with_its_data() {
    let (options, _place) = empty_sqlite();
    let file: SqliteConnectOptions = address(&options).parse().unwrap();
    let mut connection = SqliteConnection::connect_with(&file.create_if_missing(true)).await.unwrap();
    first_version(SQLITE).run(&mut connection).await.unwrap();
    let blob = |text: &str| format!("CAST('{}' AS blob)", text.replace('\'', "''"));
    let now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
    sqlx::raw_sql(AssertSqlSafe(rows(now, blob))).execute(&mut connection).await.unwrap();
    let view = "CREATE VIEW scores AS SELECT fraud_score FROM predictions";
    sqlx::raw_sql(view).execute(&mut connection).await.unwrap();
    assert_eq!(migrate(&options, STARTUP).await.unwrap(), NEWEST);
    let scores: Vec<f64> =
        sqlx::query_scalar("SELECT fraud_score FROM scores").fetch_all(&mut connection).await.unwrap();
    assert_eq!(scores, [0.5], "what others made over the tables works on");
    let store = connect(&options, "test", STARTUP).await.unwrap();
    works_on(&*store).await;
    for statement in OLDER {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    let oldest: i64 =
        sqlx::query_scalar("SELECT oldest_version FROM schema_compatibility").fetch_one(&mut connection).await.unwrap();
    assert_eq!(oldest, 1);
}

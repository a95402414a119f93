//! Tables of the job before Assay: they are left unchanged, and `deploy/from-the-old-job/copy.sql` copies their rows as a run that
//! obeys the law.

use assay_tests::{Database, Program, Script, Stack, law};
use assay_transaction::{IdScheme, Namespace, Tally};
use sqlx::{Connection as _, PgConnection};

const COPY: &str = include_str!("../../../deploy/from-the-old-job/copy.sql");

/// As Flyway made them: 2,500 rows, of which row 7 was never scored, and three are nothing that a loader would take.
const OLD: &str = "
    CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY, version text);
    CREATE TABLE transactions (id varchar(64) PRIMARY KEY, description varchar(255), amount double precision,
        timestamp timestamp, merchant varchar(255), operation_type varchar(50), side varchar(10), country text,
        created_at timestamp DEFAULT now());
    CREATE TABLE predictions (id bigserial PRIMARY KEY, transaction_id varchar(64), prediction varchar(50),
        fraud_score double precision, created_at timestamp DEFAULT now());
    INSERT INTO transactions
        SELECT lpad(to_hex(n), 8, '0') || '-10b1-426f-9247-bb680e5fe0c8', 'Card payment ' || n, n * 0.1, '2026-01-11 10:00:00',
            CASE WHEN n % 2 = 0 THEN 'EDF' END, 'card_payment', 'debit', 'FR', '2026-01-11 12:00:00'
        FROM generate_series(1, 2500) AS n;
    INSERT INTO predictions (transaction_id, prediction, fraud_score)
        SELECT id, 'legitimate', 0.25 FROM transactions WHERE id NOT LIKE '00000007-%';
    INSERT INTO predictions (transaction_id, prediction, fraud_score, created_at)
        SELECT id, 'fraud', 0.75, now() + interval '1 day' FROM transactions WHERE id LIKE '00000009-%';
    UPDATE transactions SET amount = 'NaN' WHERE id LIKE '0000000a-%';
    UPDATE transactions SET amount = 0.12345 WHERE id LIKE '0000000b-%';
    UPDATE transactions SET description = '' WHERE id LIKE '0000000c-%';";

const COPIED: Tally = Tally { predicted: 2496, invalid: 3, failed: 1, duplicate: 0 };

/// Runs the script, as `psql` would, with these settings.
async fn copy(database: &Database, settings: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let script = format!("{settings}; {COPY}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut connection).await.map(drop)
}

/// The message and the hint of a database's refusal.
fn refusal(result: Result<(), sqlx::Error>) -> String {
    let error = result.expect_err("it refuses");
    let error = error.as_database_error().expect("the database says so");
    let hint = error.downcast_ref::<sqlx::postgres::PgDatabaseError>().hint().unwrap_or_default();
    format!("{}: {hint}", error.message())
}

/// A program that has its tables in a schema of their own.
fn assay<const N: usize>(database: &Database, arguments: [&str; N]) -> Program {
    Program::new("assay").args(arguments).env("DATABASE_URL", database.url()).env("DATABASE_SCHEMA", "beside")
}

#[tokio::test]
async fn tables_of_the_old_job_are_left_unchanged_and_copied() {
    let database = Database::empty().await;
    database.execute(OLD).await;

    let migrate = Program::new("assay").arg("migrate").env("DATABASE_URL", database.url()).run().await;
    migrate.expect_exit(2).expect_says("(predictions, transactions): nothing was changed; set DATABASE_SCHEMA");
    assert!(
        refusal(copy(&database, "SET assay.schema = 'beside'").await)
            .contains("run DATABASE_SCHEMA=beside assay migrate")
    );
    assay(&database, ["migrate"]).run().await.expect_exit(0);

    copy(&database, "SET assay.schema = 'beside'").await.unwrap();
    assay(&database, ["audit", "old_job"]).run().await.expect_exit(0).expect_says("audit passed");
    copy(&database, "SET assay.schema = 'beside'").await.unwrap();
    assay(&database, ["audit", "--all"]).run().await.expect_exit(0).expect_says("1 run: audit passed");
    assay(&database, ["status", "old_job"]).run().await.expect_exit(0);
    assay(&database, ["failures", "old_job"]).run().await.expect_exit(0).expect_says("no prediction for it");

    // Once more under another name: all that is stored is a duplicate, as for a loader.
    copy(&database, "SET assay.schema = 'beside'; SET assay.run_id = 'again'").await.unwrap();
    assay(&database, ["audit", "again"]).run().await.expect_exit(0).expect_says("2496 duplicate");

    let stored =
        "SELECT concat_ws('|', t.amount, t.\"timestamp\" AT TIME ZONE 'UTC', t.merchant, t.attributes ->> 'country',
            t.created_at::date, p.prediction, p.fraud_score)
        FROM beside.transactions t JOIN beside.predictions p ON p.transaction_id = t.id
        WHERE t.id IN ('00000008-10b1-426f-9247-bb680e5fe0c8', '00000009-10b1-426f-9247-bb680e5fe0c8') ORDER BY t.id";
    let expected = [
        "0.8000|2026-01-11 10:00:00|EDF|FR|2026-01-11|legitimate|0.25",
        "0.9000|2026-01-11 10:00:00|FR|2026-01-11|fraud|0.75",
    ];
    assert_eq!(database.texts(stored).await, expected);
    assert_eq!(database.count("SELECT count(*) FROM public.transactions").await, 2500, "and the old ones are there");
}

#[tokio::test]
async fn its_unscored_rows_are_scored_by_a_replay() {
    let stack = Stack::new(Script::Score).await;
    stack.database.execute(&format!("CREATE SCHEMA old; SET search_path TO old; {OLD}; RESET search_path")).await;
    copy(&stack.database, "SET assay.schema = 'public'; SET assay.old_schema = 'old'").await.unwrap();
    assert_eq!(law::holds_for_one_run(&stack.database).await, COPIED);

    let _stages = stack.start_stages();
    stack.assay(["replay", "old_job", "--wait"]).run().await.expect_exit(0).expect_says("stored            1");
    let scored = Tally { predicted: 2497, failed: 0, ..COPIED };
    assert_eq!(law::holds_for_one_run(&stack.database).await, scored);
    assert!(stack.ml_api.bodies()[0].contains("\"country\":\"FR\""), "with its attributes");
}

#[tokio::test]
async fn an_unexpected_table_is_named_and_nothing_is_changed() {
    let database = Database::empty().await;
    assay(&database, ["migrate"]).run().await.expect_exit(0);
    let settings = "SET assay.schema = 'beside'";

    let none = refusal(copy(&database, settings).await);
    assert!(none.contains("it lacks transactions.id, transactions.description"), "{none}");

    database.execute(OLD).await;
    database.execute("ALTER TABLE predictions RENAME prediction TO label").await;
    let renamed = refusal(copy(&database, settings).await);
    assert!(renamed.contains("it lacks predictions.prediction: set assay.old_schema, or make views"), "{renamed}");
    database.execute("ALTER TABLE predictions RENAME label TO prediction").await;

    database.execute("UPDATE predictions SET fraud_score = 75 WHERE transaction_id LIKE '00000008-%'").await;
    let percent = refusal(copy(&database, settings).await);
    assert!(percent.contains("1 scores in public.predictions are not between 0 and 1"), "{percent}");
    database.execute("UPDATE predictions SET fraud_score = 0.75 WHERE transaction_id LIKE '00000008-%'").await;

    database.execute("UPDATE transactions SET id = '4711' WHERE id LIKE '00000007-%'").await;
    let numbered = refusal(copy(&database, settings).await);
    assert!(numbered.contains("no UUIDs, such as 4711: set assay.id_namespace"), "{numbered}");
    database.execute("UPDATE transactions SET id = 'x' WHERE id = '4711'").await;
    let space = "SET assay.id_namespace = '67e55044-10b1-426f-9247-bb680e5fe0c8'";
    let hashed = refusal(copy(&database, &format!("{settings}; {space}")).await);
    assert!(hashed.contains("by the extension uuid-ossp, such as x: CREATE EXTENSION"), "{hashed}");
    database.execute("UPDATE transactions SET id = '4711' WHERE id = 'x'").await;

    assert_eq!(database.count("SELECT count(*) FROM beside.runs").await, 0);
    assert_eq!(database.count("SELECT count(*) FROM beside.transactions").await, 0);

    // With a namespace an id becomes what a loader makes of it, if the server has the extension at all.
    if database.count("SELECT count(*) FROM pg_available_extensions WHERE name = 'uuid-ossp'").await == 1 {
        database
            .execute("CREATE EXTENSION \"uuid-ossp\"; DELETE FROM predictions WHERE transaction_id LIKE '00000007-%'")
            .await;
        database.execute("INSERT INTO predictions (transaction_id, prediction) VALUES ('4711', 'fraud')").await;
        copy(&database, "SET assay.schema = 'beside'; SET assay.id_namespace = 'transactions/a.csv'").await.unwrap();
        let (id, _) = Namespace::new("transactions/a.csv").identify(IdScheme::V8, "4711");
        let stored = database.texts("SELECT id::text FROM beside.transactions WHERE external_id = '4711'").await;
        assert_eq!(stored, [id.to_string()]);
        assay(&database, ["audit", "old_job"]).run().await.expect_exit(0);
    }
}

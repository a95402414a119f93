//! A pooler between the programs and PostgreSQL: what works, what is refused and why, and that no setting stays in
//! it.

use assay_store::{ChunkOutcome, DatabaseEndpoint, DatabaseOptions, IdConflict, connect, migrate};
use assay_testkit::servers::PgBouncer;
use assay_transaction::{Exit, RunState, SealedTotals};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::chunks::{begin, chunk_of_ids, lease, run_id};
use crate::database::{STARTUP, address, empty_postgres};
use crate::postgres::pgbouncer::{Pooler, program};

const SETTINGS: [&str; 5] =
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit", "search_path"];

/// The settings of this many clients in concurrent transactions, each on a server connection of its own.
async fn settings(options: &DatabaseOptions, clients: usize) -> Vec<Vec<String>> {
    let address: PgConnectOptions = address(options).parse().unwrap();
    let address = address.extra_float_digits(None);
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for _ in 0..clients {
        let mut client = address.connect().await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut client).await.unwrap();
        let mut settings = Vec::new();
        for setting in SETTINGS {
            let row = sqlx::raw_sql(AssertSqlSafe(format!("SHOW {setting}"))).fetch_one(&mut client).await.unwrap();
            settings.push(row.get(0));
        }
        found.push(settings);
        open.push(client);
    }
    for mut client in open {
        sqlx::raw_sql("ROLLBACK").execute(&mut client).await.unwrap();
        client.close().await.unwrap();
    }
    found
}

/// A load from its beginning to its end.
async fn loads(options: &DatabaseOptions, run: &str, id: u128) {
    let stores = [connect(options, "test", STARTUP).await.unwrap(), connect(options, "test", STARTUP).await.unwrap()];
    begin(&*stores[0], run).await;
    let write = async |number: u64| {
        let store = &stores[usize::try_from(number % 2).unwrap()];
        let chunk =
            chunk_of_ids(run, number, number * 2 + 1, &[id + u128::from(number * 2), id + u128::from(number * 2) + 1]);
        let written = store.write(&[chunk], IdConflict::Fail).await.unwrap();
        assert_eq!(written.outcomes, [ChunkOutcome::Recorded]);
        store.close_run(&run_id(run)).await.unwrap();
    };
    join_all((0..20).map(write)).await;
    stores[1].seal(&lease(run), SealedTotals { rows_read: 40, chunks_total: 20, amount: None }, None).await.unwrap();
    assert_eq!(stores[0].close_run(&run_id(run)).await.unwrap(), RunState::Complete);
    assert_eq!(stores[1].audit(&run_id(run)).await.unwrap().unwrap().breaches(), []);
    for store in stores {
        store.close().await;
    }
}

#[tokio::test]
async fn a_pooler_that_loses_prepared_statements_is_refused() {
    let Some(program) = program("poolers") else { return };
    let (direct, _place) = empty_postgres().await;
    migrate(&direct, STARTUP).await.unwrap();
    let none = if PgBouncer::version(&program) < Some(PgBouncer::KEEPS_STATEMENTS) {
        ""
    } else {
        "max_prepared_statements = 0"
    };
    for size in [1, 5] {
        let pooler =
            Pooler::start(&program, &format!("pool_mode = transaction\ndefault_pool_size = {size}\n{none}")).await;
        let options = pooler.before(&direct);
        let errors =
            [connect(&options, "test", STARTUP).await.err().unwrap(), migrate(&options, STARTUP).await.unwrap_err()];
        for error in errors {
            assert_eq!(error.exit(), Exit::Usage, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("a pooler in transaction mode keeps no prepared statements; use PgBouncer 1.21"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_pooler_in_statement_mode_is_refused() {
    let Some(program) = program("poolers") else { return };
    let (direct, _place) = empty_postgres().await;
    let pooler = Pooler::start(&program, "pool_mode = statement").await;
    let error = migrate(&pooler.before(&direct), STARTUP).await.unwrap_err();
    assert!(error.exit() == Exit::Usage && error.to_string().contains("statement mode"), "{error}");
}

#[tokio::test]
async fn a_refused_startup_parameter_is_named() {
    let Some(program) = program("poolers") else { return };
    let (direct, _place) = empty_postgres().await;
    let pooler = Pooler::start(&program, "pool_mode = session").await;
    let mut options = pooler.before(&direct);
    options.endpoint = DatabaseEndpoint::at(format!("{}?options=-c%20geqo=off", address(&options)));
    let error = migrate(&options, STARTUP).await.unwrap_err();
    assert!(error.exit() == Exit::Usage && error.to_string().contains("take options out of DATABASE_URL"), "{error}");
}

#[tokio::test]
async fn sessions_keep_no_settings_and_use_the_named_schema() {
    let Some(program) = program("poolers") else { return };
    let (direct, _place) = empty_postgres().await;
    // Between two clients, a server connection loses its prepared statements, but not its settings.
    let pooler = Pooler::start(
        &program,
        "pool_mode = session\nserver_reset_query = DEALLOCATE ALL\nignore_startup_parameters = options",
    )
    .await;
    let before = settings(&pooler.before(&direct), 2).await;
    let mut reports = Vec::new();
    for (number, schema) in (0..).zip(["team_a", "team_b"]) {
        let options = DatabaseOptions { database_schema: Some(schema.to_owned()), ..pooler.before(&direct) };
        let migrated = migrate(&options, STARTUP).await.unwrap();
        reports.push(migrated);
        assert_eq!(reports[0], migrated, "each gets all tables, as none has any");
        loads(&options, schema, number * 1_000).await;
    }
    assert_eq!(settings(&pooler.before(&direct), 2).await, before);
    let pool = PgPool::connect_lazy(address(&direct)).unwrap();
    let public: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&pool)
        .await
        .unwrap();
    let each: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM team_a.transactions UNION ALL SELECT count(*) FROM team_b.transactions",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!((public, each), (0, vec![40, 40]));
}

#[tokio::test]
async fn transaction_mode_works_with_prepared_statements() {
    let Some(program) = program("poolers") else { return };
    if PgBouncer::version(&program) < Some(PgBouncer::KEEPS_STATEMENTS) {
        return;
    }
    let (direct, _place) = empty_postgres().await;
    let pooler = Pooler::start(
        &program,
        "pool_mode = transaction\ndefault_pool_size = 3\nmax_prepared_statements = 200\nignore_startup_parameters = options",
    ).await;
    let before = settings(&pooler.before(&direct), 3).await;
    let public = pooler.before(&direct);
    let team_b = DatabaseOptions { database_schema: Some("team_b".to_owned()), ..pooler.before(&direct) };
    for options in [&public, &team_b] {
        let all = join_all((0..5).map(|_| migrate(options, STARTUP))).await;
        let applied: usize = all.into_iter().map(|migrated| migrated.unwrap().applied).sum();
        assert_eq!(applied, 6, "by one of them");
    }
    // At the same time, on the same server connections.
    tokio::join!(loads(&public, "one", 0), loads(&team_b, "two", 1_000));
    assert_eq!(settings(&pooler.before(&direct), 3).await, before);
    let pool = PgPool::connect_lazy(address(&direct)).unwrap();
    let runs: Vec<String> = sqlx::query_scalar(
        "SELECT 'public ' || run_id FROM public.runs UNION ALL SELECT 'team_b ' || run_id FROM team_b.runs ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(runs, ["public one", "team_b two"]);
}

#[tokio::test]
async fn the_doctor_sees_a_pooler() {
    let Some(program) = program("the_doctor_sees_a_pooler") else { return };
    let (direct, _storage) = empty_postgres().await;
    migrate(&direct, STARTUP).await.unwrap();
    let found = async |options: &DatabaseOptions| {
        let findings = assay_store::diagnose(options, None, STARTUP).await;
        findings.iter().find(|finding| finding.check == "pooler").unwrap().found.clone()
    };
    assert!(found(&direct).await.starts_with("none, or one that opens"));
    let pooler = Pooler::start(&program, "pool_mode = session").await;
    let session = found(&pooler.before(&direct)).await;
    assert!(session.starts_with("a pooler in session mode"), "{session}");
    // An older one keeps no prepared statements, which is found instead.
    let (setting, expected) = if PgBouncer::version(&program) < Some(PgBouncer::KEEPS_STATEMENTS) {
        ("", "the database refuses: prepared statement")
    } else {
        ("max_prepared_statements = 100", "a pooler in transaction mode")
    };
    let pooler = Pooler::start(&program, &format!("pool_mode = transaction\n{setting}")).await;
    let transaction = found(&pooler.before(&direct)).await;
    assert!(transaction.starts_with(expected), "{transaction}");
}

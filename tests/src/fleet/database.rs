//! A database for one test, dropped with it.

use std::time::Duration;

use assay_testkit::{DEADLINE, on_drop, service_url, unique_name};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use url::Url;

use crate::Program;

/// Between two times that the database is asked whether something is so.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// A PostgreSQL database of its own.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: Url,
    pool: PgPool,
}

impl Database {
    /// A database without any table.
    pub async fn empty() -> Self {
        Self::empty_on(service_url("TEST_DATABASE_URL")).await
    }

    /// The same, on the server at this URL.
    pub async fn empty_on(server: String) -> Self {
        let name = unique_name();
        let mut connection = PgConnection::connect(&server)
            .await
            .unwrap_or_else(|error| panic!("PostgreSQL cannot be reached: {error}; run ./scripts/test"));
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        let mut url = Url::parse(&server).expect("the address of PostgreSQL is a URL");
        url.set_path(&name);
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy(url.as_str()).unwrap();
        Self { server, name, url, pool }
    }

    /// The URL of a database that does not exist on a server that does.
    pub fn nowhere() -> String {
        let mut url = Url::parse(&service_url("TEST_DATABASE_URL")).expect("TEST_DATABASE_URL is a URL");
        url.set_path(&unique_name());
        url.into()
    }

    /// A database as `assay migrate` leaves it.
    pub async fn migrated() -> Self {
        Self::migrated_on(service_url("TEST_DATABASE_URL")).await
    }

    /// The same, on the server at this URL.
    pub async fn migrated_on(server: String) -> Self {
        let database = Self::empty_on(server).await;
        Program::new("assay").arg("migrate").env("DATABASE_URL", database.url()).run().await.expect_exit(0);
        database
    }

    /// Makes it one that existed before there were schemes of ids, and so follows the first. No program may be connected.
    pub async fn follow_first_id_scheme(&self) {
        self.execute(
            "UPDATE schema_compatibility SET ids = 5, oldest_version = 1;
            ALTER TABLE runs DROP CONSTRAINT runs_follow_id_scheme_8",
        )
        .await;
    }

    /// For `DATABASE_URL`.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// For `DATABASE_URL` of a program that connects as this role, whose password is that of the tests' own; through a pooler at a
    /// port where one is given.
    pub(crate) fn url_as(&self, role: &str, pooler: Option<u16>) -> String {
        let mut url = self.url.clone();
        url.set_username(role).expect("it is a URL with a host");
        if pooler.is_some() {
            url.set_port(pooler).expect("it is a URL with a host");
        }
        url.into()
    }

    /// For what the tests ask themselves.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Carries out a statement, or several.
    pub async fn execute(&self, statement: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// The one number that a query answers with.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The texts that a query answers with: each row's one column.
    pub async fn texts(&self, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Waits until a query that answers yes or no answers yes.
    pub async fn until(&self, question: &str) {
        self.until_within(question, DEADLINE).await;
    }

    /// The same for what may take longer than the tests usually wait.
    pub async fn until_within(&self, question: &str, deadline: Duration) {
        let yes = async {
            loop {
                let answer: bool = sqlx::query_scalar(AssertSqlSafe(question))
                    .fetch_one(&self.pool)
                    .await
                    .unwrap_or_else(|error| panic!("{question}: {error}"));
                if answer {
                    return;
                }
                // No one tells when the answer changes, so it is asked again.
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let answered = tokio::time::timeout(deadline, yes).await;
        assert!(answered.is_ok(), "after {deadline:?}, still not: {question}");
    }

    /// Waits until every run that began is finished.
    pub async fn until_finished(&self) {
        self.until("SELECT count(*) > 0 AND bool_and(state IN ('complete', 'failed', 'cancelled')) FROM runs").await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        on_drop(async move {
            if let Ok(mut connection) = PgConnection::connect(&server).await {
                let _ = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
            }
        });
    }
}

//! A user of PostgreSQL for one test, who may do what the test lets him.

use assay_testkit::{on_drop, service_url, unique_name};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

use crate::Database;

const PASSWORD: &str = "a-role-of-one-test";

/// A user, dropped with it. It must outlive the databases that it may use.
#[derive(Debug)]
pub struct Role {
    name: String,
}

impl Role {
    /// A user who may log in, and nothing else.
    pub async fn new() -> Self {
        let role = Self { name: unique_name() };
        run(&service_url("TEST_DATABASE_URL"), &format!("CREATE ROLE {} LOGIN PASSWORD '{PASSWORD}'", role.name)).await;
        role
    }

    /// Lets the user read and write the tables of a database, and returns its `DATABASE_URL`.
    pub async fn may_use(&self, database: &Database) -> String {
        database.execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}", self.name)).await;
        let mut url = Url::parse(database.url()).expect("DATABASE_URL is a URL");
        url.set_username(&self.name).expect("a URL of a server takes a user");
        url.set_password(Some(PASSWORD)).expect("a URL of a server takes a password");
        url.into()
    }

    /// For statements.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let statement = format!("DROP ROLE IF EXISTS {}", self.name);
        on_drop(async move { run(&service_url("TEST_DATABASE_URL"), &statement).await });
    }
}

async fn run(server: &str, statement: &str) {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL is there");
    let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

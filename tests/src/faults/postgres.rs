//! A private PostgreSQL that can be crashed and started again. What was committed is still there then.
//!
//! The programs connect as roles of their own, one for the loader and one for each writer, so that their connections can be
//! told apart, counted and refused.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use super::daemon::{Account, Daemon, LOOK_AGAIN, command, free_port, give, private_directory};
use super::plan::MAX_WRITERS;
use crate::{DEADLINE, Database};

/// The role of the loader.
pub(super) const LOADER: &str = "assay_loader";

/// The role of a writer.
pub(super) fn writer(number: usize) -> String {
    format!("assay_writer_{number}")
}

/// What all roles of programs are members of, and what holds their rights.
const PROGRAMS: &str = "assay_programs";

/// What PostgreSQL logs for each connection that it refuses for want of room.
const REFUSED: &str = "too many connections for role";

pub(super) struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    account: Option<Account>,
    port: u16,
    password: String,
    process: Option<Daemon>,
}

impl Postgres {
    /// Makes one in this directory, with the programs of `TEST_POSTGRES_BIN`, and waits until it is there.
    pub(super) async fn start(within: &TempDir, programs: PathBuf) -> Self {
        let account = Account::without_privileges("postgres");
        let directory = private_directory(within.path().join("postgres"), account);
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = directory.join("password");
        std::fs::write(&password_file, &password).expect("the password is written");
        give(&password_file, account);
        let made = command(programs.join("initdb"), &directory, account)
            .args(["--pgdata=data", "--username=assay", "--pwfile=password", "--encoding=UTF8", "--locale=C"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Self { programs, directory, account, port: free_port(), password, process: None };
        postgres.revive();
        let mut server = postgres.until_ready().await;
        let roles = std::iter::once(LOADER.to_owned()).chain((0..MAX_WRITERS).map(writer));
        let mut statements = vec![format!("CREATE ROLE {PROGRAMS}")];
        statements.extend(
            roles.map(|role| format!("CREATE ROLE {role} LOGIN PASSWORD '{}' IN ROLE {PROGRAMS}", postgres.password)),
        );
        for statement in statements {
            execute(&mut server, statement).await;
        }
        postgres
    }

    /// Starts it again, where it does not run.
    pub(super) fn revive(&mut self) {
        if self.process.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        let mut command = command(self.programs.join("postgres"), &self.directory, self.account);
        // No fsync: its processes may be killed without losing a commit; only the machine may not.
        let settings = ["listen_addresses=127.0.0.1", "max_connections=200", "fsync=off", "full_page_writes=off"]
            .map(|setting| ["-c", setting]);
        command
            .args(["-D", "data", "-p", &self.port.to_string(), "-k"])
            .arg(&self.directory)
            .args(settings.as_flattened());
        self.process = Some(Daemon::start("PostgreSQL", command, &self.log(), "QUIT"));
    }

    /// Waits until it takes connections.
    pub(super) async fn until_ready(&mut self) -> PgConnection {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let why = match PgConnection::connect(self.url().as_str()).await {
                Ok(connection) => return connection,
                Err(error) => error,
            };
            let is_running = self.process.as_mut().is_some_and(Daemon::is_running);
            assert!(is_running && Instant::now() < deadline, "PostgreSQL takes no connections: {why}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends it as if it had crashed: every process at once, without a checkpoint.
    pub(super) async fn crash(&mut self) {
        self.process.take().expect("it runs").end("QUIT").await;
    }

    /// Where the superuser finds the server.
    pub(super) fn url(&self) -> Url {
        let Self { password, port, .. } = self;
        format!("postgres://assay:{password}@127.0.0.1:{port}/postgres").parse().expect("a URL")
    }

    /// Lets the programs use a database that was migrated.
    pub(super) async fn admit(&mut self, database: &Database) {
        let mut connection = PgConnection::connect(database.url()).await.expect("the database is there");
        execute(&mut connection, format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {PROGRAMS}")).await;
        execute(&mut connection, format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {PROGRAMS}")).await;
    }

    /// Refuses further connections of the programs, or takes them again.
    pub(super) async fn refuse_connections(&mut self, refuse: bool) {
        let mut server = self.until_ready().await;
        let limit = if refuse { 0 } else { -1 };
        for role in std::iter::once(LOADER.to_owned()).chain((0..MAX_WRITERS).map(writer)) {
            execute(&mut server, format!("ALTER ROLE {role} CONNECTION LIMIT {limit}")).await;
        }
    }

    /// How many connections were refused since it was made.
    pub(super) fn refusals(&self) -> usize {
        std::fs::read_to_string(self.log()).unwrap_or_default().matches(REFUSED).count()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }
}

async fn execute(connection: &mut PgConnection, statement: String) {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.expect("a superuser may");
}

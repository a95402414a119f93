//! A private PostgreSQL that can be crashed and started again, with all commits kept.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use url::Url;

use super::daemon::{Account, Daemon, POLL_INTERVAL, command, private_directory};
use super::{Extras, put_file};
use crate::{DEADLINE, free_port};

/// A server.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    account: Option<Account>,
    port: u16,
    password: String,
    settings: Vec<String>,
    process: Option<Daemon>,
}

impl Postgres {
    /// Creates one in this directory, with the programs of `TEST_POSTGRES_BIN`, and waits until it is ready.
    pub async fn start(within: &TempDir, programs: PathBuf, extras: &Extras) -> Self {
        let account = Account::without_privileges("postgres");
        let directory = private_directory(within.path().join("postgres"), account);
        let password = uuid::Uuid::new_v4().simple().to_string();
        put_file(&directory.join("password"), &password, account);
        let made = command(programs.join("initdb"), &directory, account)
            .args(["--pgdata=data", "--username=assay", "--pwfile=password", "--encoding=UTF8", "--locale=C"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        extras.put_files(&directory, account);
        if let Some(access) = &extras.access {
            put_file(&directory.join("data/pg_hba.conf"), access, account);
        }
        let settings = extras.settings_in(&directory);
        let mut postgres = Self { programs, directory, account, port: free_port(), password, settings, process: None };
        postgres.revive();
        postgres.until_ready().await;
        postgres
    }

    /// Starts it again if it does not run.
    pub fn revive(&mut self) {
        if self.process.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        let mut command = command(self.programs.join("postgres"), &self.directory, self.account);
        // No fsync: its processes may be killed without losing a commit; only the machine may not.
        let settings = ["listen_addresses=127.0.0.1", "max_connections=200", "fsync=off", "full_page_writes=off"];
        command.args(["-D", "data", "-p", &self.port.to_string(), "-k"]).arg(&self.directory);
        for setting in settings.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        self.process = Some(Daemon::start("PostgreSQL", command, &self.log(), "QUIT"));
    }

    /// Waits until it accepts connections.
    pub async fn until_ready(&mut self) -> PgConnection {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let why = match PgConnection::connect(self.url().as_str()).await {
                Ok(connection) => return connection,
                Err(error) => error,
            };
            let is_running = self.process.as_mut().is_some_and(Daemon::is_running);
            assert!(is_running && Instant::now() < deadline, "PostgreSQL accepts no connections: {why}");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends it like a crash: every process at once, without a checkpoint.
    pub async fn crash(&mut self) {
        self.process.take().expect("it runs").end("QUIT").await;
    }

    /// The URL of the superuser.
    pub fn url(&self) -> Url {
        let Self { password, port, .. } = self;
        format!("postgres://assay:{password}@127.0.0.1:{port}/postgres").parse().expect("a URL")
    }

    /// Executes one or more statements as the superuser.
    pub async fn execute(&mut self, statements: &str) {
        let mut server = self.until_ready().await;
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut server).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The password of the superuser.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The file of its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }
}

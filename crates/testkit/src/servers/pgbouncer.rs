//! A private PgBouncer in transaction mode before a PostgreSQL, which can be killed and started again.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::daemon::{Account, Daemon, POLL_INTERVAL, command, private_directory};
use super::put_file;
use crate::{DEADLINE, free_port};

/// The first version that keeps prepared statements in transaction mode.
const OLDEST: (u32, u32) = (1, 21);

/// A pooler.
#[derive(Debug)]
pub struct PgBouncer {
    program: PathBuf,
    directory: PathBuf,
    account: Option<Account>,
    port: u16,
    process: Option<Daemon>,
}

impl PgBouncer {
    /// The program that `TEST_PGBOUNCER` names, where it is of a version that Assay works with.
    pub fn program() -> Option<PathBuf> {
        let program = std::env::var_os("TEST_PGBOUNCER").map(PathBuf::from)?;
        (version(&program)? >= OLDEST).then_some(program)
    }

    /// Makes one in this directory, before the PostgreSQL at this port, for users who all have the same password.
    pub async fn start(within: &TempDir, program: PathBuf, postgres: u16, users: &[String], password: &str) -> Self {
        let account = Account::without_privileges("postgres");
        let directory = private_directory(within.path().join("pgbouncer"), account);
        let port = free_port();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={postgres}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = users.txt\npool_mode = transaction\n\
             max_prepared_statements = 200\nserver_login_retry = 0.1\ndefault_pool_size = 50\n"
        );
        put_file(&directory.join("pgbouncer.ini"), &settings, account);
        let known: Vec<String> = users.iter().map(|user| format!("\"{user}\" \"{password}\"\n")).collect();
        put_file(&directory.join("users.txt"), &known.concat(), account);
        let mut pooler = Self { program, directory, account, port, process: None };
        pooler.revive().await;
        pooler
    }

    /// Starts it again, where it does not run, and waits until it takes connections.
    pub async fn revive(&mut self) {
        if self.process.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        let mut command = command(&self.program, &self.directory, self.account);
        command.arg("pgbouncer.ini");
        self.process = Some(Daemon::start("PgBouncer", command, &self.directory.join("pgbouncer.log"), "INT"));
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let is_running = self.process.as_mut().is_some_and(Daemon::is_running);
            assert!(is_running && Instant::now() < deadline, "PgBouncer takes no connections");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends it as if it had crashed, with all connections through it.
    pub async fn crash(&mut self) {
        self.process.take().expect("it runs").end("KILL").await;
    }

    /// Its port at loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn version(program: &Path) -> Option<(u32, u32)> {
    let said = std::process::Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let mut numbers = said.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

//! A private PgBouncer before a PostgreSQL, which can be killed and started again.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::daemon::{Account, Daemon, POLL_INTERVAL, command, private_directory};
use super::{Extras, put_file};
use crate::{DEADLINE, free_port};

/// A pooler. Dropped, it ends.
#[derive(Debug)]
pub struct PgBouncer {
    program: PathBuf,
    directory: PathBuf,
    account: Option<Account>,
    port: u16,
    process: Option<Daemon>,
}

impl PgBouncer {
    /// The first version that keeps prepared statements in transaction mode.
    pub const KEEPS_STATEMENTS: (u32, u32) = (1, 21);

    /// The program that `TEST_PGBOUNCER` names, if Assay supports its version.
    pub fn program() -> Option<PathBuf> {
        let program = std::env::var_os("TEST_PGBOUNCER").map(PathBuf::from)?;
        (Self::version(&program)? >= Self::KEEPS_STATEMENTS).then_some(program)
    }

    /// The version of a program, such as (1, 24).
    pub fn version(program: &Path) -> Option<(u32, u32)> {
        let output = std::process::Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let mut numbers = text.split_whitespace().nth(1)?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Starts one in this directory, before the server of these connection parameters; its other settings are the extras'.
    pub async fn start(within: &TempDir, program: PathBuf, server: &str, extras: &Extras) -> Self {
        let account = Account::without_privileges("postgres");
        let directory = private_directory(within.path().join("pgbouncer"), account);
        let port = free_port();
        let settings = format!(
            "[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n{}\n",
            extras.settings_in(&directory).join("\n")
        );
        put_file(&directory.join("pgbouncer.ini"), &settings, account);
        extras.put_files(&directory, account);
        let mut pooler = Self { program, directory, account, port, process: None };
        pooler.revive().await;
        pooler
    }

    /// Starts it again if it does not run, and waits until it accepts connections.
    pub async fn revive(&mut self) {
        if self.process.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        let mut command = command(&self.program, &self.directory, self.account);
        command.arg("pgbouncer.ini");
        self.process = Some(Daemon::start("PgBouncer", command, &self.directory.join("pgbouncer.log"), "KILL"));
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let is_running = self.process.as_mut().is_some_and(Daemon::is_running);
            assert!(is_running && Instant::now() < deadline, "PgBouncer accepts no connections");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends it like a crash, with all its connections.
    pub async fn crash(&mut self) {
        self.process.take().expect("it runs").end("KILL").await;
    }

    /// Its port at loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

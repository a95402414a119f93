//! A PgBouncer for one test, between a store and the tests' server.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assay_store::DatabaseOptions;
use url::Url;

use crate::database::{address, options, server};

/// Longest wait for its first answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running pooler, ended with the test.
pub(crate) struct PgBouncer {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

/// Where the program is, as `scripts/lib/services.sh` found it. If there is none, a line says what is not tested.
pub(crate) fn program(test: &str) -> Option<PathBuf> {
    let program = std::env::var_os("TEST_PGBOUNCER").map(PathBuf::from);
    if program.is_none() {
        // Not by the test library's macro, whose output is hidden for a passing test.
        let words = format!("{test}: NOT RUN, as there is no PgBouncer: run scripts/test once, which brings it\n");
        std::io::stderr().write_all(words.as_bytes()).unwrap();
    }
    program
}

/// Its version, such as (1, 24).
pub(crate) fn version(program: &Path) -> (u32, u32) {
    let output = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().nth(1).unwrap().split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

impl PgBouncer {
    /// Starts one with these settings in addition to those that every test needs.
    pub(crate) fn start(program: &Path, settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let server = server();
        let (host, user, password) = (server.host_str().unwrap(), server.username(), server.password().unwrap());
        let server_port = server.port().unwrap_or(5432);
        // It does not run as root, but reads its settings before it switches.
        let account = if id() == "0" { "user = nobody" } else { "" };
        let text = format!(
            "[databases]\n* = host={host} port={server_port} user={user} password={password}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n{account}\n{settings}\n"
        );
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        let process = Command::new(program).arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut pooler = Self { process, port, _directory: directory };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(
                pooler.process.try_wait().unwrap().is_none() && began.elapsed() < DEADLINE,
                "PgBouncer does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// The same database, through the pooler.
    pub(crate) fn before(&self, database: &DatabaseOptions) -> DatabaseOptions {
        let mut url = Url::parse(address(database)).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        DatabaseOptions { database_schema: database.database_schema.clone(), ..options(url.as_str()) }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn id() -> String {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// A port below the range of the system's own, which no reconnecting client can take.
fn free_port() -> u16 {
    let any = || u16::try_from(uuid::Uuid::new_v4().as_u128() % 12_000).unwrap() + 20_000;
    (0..100).map(|_| any()).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

//! A PgBouncer for one test, between a store and the tests' server.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use assay_store::DatabaseOptions;
use assay_testkit::servers::{Extras, PgBouncer};
use url::Url;

use crate::database::{address, options, server};

/// A running pooler, ended with the test.
pub(crate) struct Pooler {
    process: PgBouncer,
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

impl Pooler {
    /// Starts one with these settings in addition to those that every test needs.
    pub(crate) async fn start(program: &Path, settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = server();
        let (host, port) = (url.host_str().unwrap(), url.port().unwrap_or(5432));
        let (user, password) = (url.username(), url.password().unwrap());
        let server = format!("host={host} port={port} user={user} password={password}");
        let extras = Extras { settings: vec!["auth_type = any".to_owned(), settings.to_owned()], ..Extras::default() };
        let process = PgBouncer::start(&directory, program.to_owned(), &server, &extras).await;
        Self { process, _directory: directory }
    }

    /// The same database, through the pooler.
    pub(crate) fn before(&self, database: &DatabaseOptions) -> DatabaseOptions {
        let mut url = Url::parse(address(database)).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.process.port())).unwrap();
        DatabaseOptions { database_schema: database.database_schema.clone(), ..options(url.as_str()) }
    }
}

//! The PostgreSQL of the drills. The programs connect as roles of their own, one for the loader and one for each writer, so
//! that their connections can be distinguished, counted and refused.

use std::path::PathBuf;

use assay_testkit::servers::{self, Extras, PgBouncer};
use tempfile::TempDir;
use url::Url;

use super::plan::MAX_WRITERS;
use crate::Database;

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

pub(super) struct Postgres(servers::Postgres);

impl Postgres {
    /// Makes one in this directory, with the programs of `TEST_POSTGRES_BIN`, and waits until it is there.
    pub(super) async fn start(within: &TempDir, programs: PathBuf) -> Self {
        let mut server = servers::Postgres::start(within, programs, &Extras::default()).await;
        let password = server.password();
        let login = |role| format!("CREATE ROLE {role} LOGIN PASSWORD '{password}' IN ROLE {PROGRAMS};");
        let statements = format!("CREATE ROLE {PROGRAMS};{}", roles().map(login).collect::<String>());
        server.execute(&statements).await;
        Self(server)
    }

    /// A pooler before it, for the programs.
    pub(super) async fn pooler(&self, within: &TempDir, program: PathBuf) -> PgBouncer {
        let server = format!("host=127.0.0.1 port={}", self.url().port().expect("it has one of its own"));
        let password = self.0.password();
        let users: Vec<_> = roles().map(|role| format!("\"{role}\" \"{password}\"")).collect();
        let users = users.join("\n");
        let settings = [
            "auth_type = plain",
            "auth_file = users.txt",
            "pool_mode = transaction",
            "max_prepared_statements = 200",
            "server_login_retry = 0.1",
            "default_pool_size = 50",
        ];
        let settings = settings.map(str::to_owned).to_vec();
        let extras = Extras { settings, files: vec![("users.txt", users)], ..Extras::default() };
        PgBouncer::start(within, program, &server, &extras).await
    }

    /// Starts it again, where it does not run.
    pub(super) fn revive(&mut self) {
        self.0.revive();
    }

    /// Waits until it takes connections.
    pub(super) async fn until_ready(&mut self) {
        self.0.until_ready().await;
    }

    /// Ends it as if it had crashed: every process at once, without a checkpoint.
    pub(super) async fn crash(&mut self) {
        self.0.crash().await;
    }

    /// Where the superuser finds the server.
    pub(super) fn url(&self) -> Url {
        self.0.url()
    }

    /// Lets the programs use a database that was migrated.
    pub(super) async fn admit(&self, database: &Database) {
        for objects in ["TABLES", "SEQUENCES"] {
            database.execute(&format!("GRANT ALL ON ALL {objects} IN SCHEMA public TO {PROGRAMS}")).await;
        }
    }

    /// Makes commits that are not waited for the default, and holds their log back for as long as can be; or neither again.
    pub(super) async fn commit_later(&mut self, later: bool) {
        let settings = [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("wal_writer_flush_after", "2GB")];
        for (name, value) in settings {
            // One statement each, as none may stand in a transaction with others.
            let to = if later { format!("= '{value}'") } else { "= DEFAULT".to_owned() };
            self.0.execute(&format!("ALTER SYSTEM SET {name} {to}")).await;
        }
        self.0.execute("SELECT pg_reload_conf()").await;
    }

    /// Refuses further connections of the programs, or takes them again.
    pub(super) async fn refuse_connections(&mut self, refuse: bool) {
        let limit = if refuse { 0 } else { -1 };
        let statements = roles().map(|role| format!("ALTER ROLE {role} CONNECTION LIMIT {limit};"));
        self.0.execute(&statements.collect::<String>()).await;
    }

    /// How many connections were refused since it was made.
    pub(super) fn refusals(&self) -> usize {
        std::fs::read_to_string(self.log()).unwrap_or_default().matches(REFUSED).count()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.log()
    }
}

fn roles() -> impl Iterator<Item = String> {
    std::iter::once(LOADER.to_owned()).chain((0..MAX_WRITERS).map(writer))
}

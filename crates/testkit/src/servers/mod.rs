//! Private servers of a test: processes of installed programs, with settings and files that the common servers of the tests lack.
//! Tests may kill them, and they end with their owner.

mod daemon;
mod pgbouncer;
mod postgres;
mod rabbitmq;

use std::path::{Path, PathBuf};

pub use daemon::POLL_INTERVAL;
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;

use self::daemon::{Account, give};

/// The programs of the servers.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The directory of `initdb` and `postgres`.
    pub postgres: PathBuf,
    /// The script `rabbitmq-server`.
    pub rabbitmq: PathBuf,
    /// The program `pgbouncer`, if present and new enough.
    pub pgbouncer: Option<PathBuf>,
}

impl Tools {
    /// As `scripts/lib/services.sh` names them; `None` if it found no installed ones.
    pub fn from_environment() -> Option<Self> {
        let path = |variable| std::env::var_os(variable).map(PathBuf::from);
        Some(Self {
            postgres: path("TEST_POSTGRES_BIN")?,
            rabbitmq: path("TEST_RABBITMQ_SERVER")?,
            pgbouncer: PgBouncer::program(),
        })
    }
}

/// Settings and files in addition to those that a server needs.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Lines of its configuration. `{directory}` stands for the directory of its files.
    pub settings: Vec<String>,
    /// Private files in that directory, by name and content.
    pub files: Vec<(&'static str, String)>,
    /// Lines of PostgreSQL's `pg_hba.conf`, instead of the default ones.
    pub access: Option<String>,
}

impl Extras {
    fn settings_in(&self, directory: &Path) -> Vec<String> {
        let directory = directory.display().to_string();
        self.settings.iter().map(|setting| setting.replace("{directory}", &directory)).collect()
    }

    fn put_files(&self, directory: &Path, account: Option<Account>) {
        for (name, content) in &self.files {
            put_file(&directory.join(name), content, account);
        }
    }
}

/// Writes a file that only the account may read.
fn put_file(path: &Path, content: &str, account: Option<Account>) {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::write(path, content).expect("a file of a server is written");
    give(path, account);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
}

//! The settings of the database.

use std::fmt;
use std::path::PathBuf;

use assay_connect::{Secret, TlsFiles};

use crate::StoreError;

/// Which database to use, and how. Its `Debug` shows no password.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// Address of the database: `postgres://user:password@host:5432/name`, or `sqlite://file` for `assay run` alone.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// File that holds the address of the database, such as a mounted secret; instead of `DATABASE_URL`.
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "PATH")]
    pub database_url_file: Option<PathBuf>,
    /// PostgreSQL schema for the tables of Assay; `assay migrate` creates it [default: the first of the user's search_path,
    /// mostly public]
    #[arg(long, env = "DATABASE_SCHEMA", value_name = "NAME")]
    pub database_schema: Option<String>,
    /// File with the certificates (PEM) of authorities to trust beside the system's. With it, PostgreSQL has to use TLS and
    /// show a certificate of such an authority and for its host name, unless DATABASE_URL says sslmode=verify-ca.
    #[arg(long, env = "DATABASE_CA_FILE", value_name = "PATH")]
    pub database_ca_file: Option<PathBuf>,
    /// File with the certificate (PEM) to show to a PostgreSQL that asks for one, and those between it and its authority.
    #[arg(long, env = "DATABASE_CERT_FILE", value_name = "PATH")]
    pub database_cert_file: Option<PathBuf>,
    /// File with the key (PEM, without a passphrase) of that certificate.
    #[arg(long, env = "DATABASE_KEY_FILE", value_name = "PATH")]
    pub database_key_file: Option<PathBuf>,
    /// Most connections of one process to PostgreSQL.
    #[arg(long, env = "DB_CONNECTIONS", value_name = "CONNECTIONS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub db_connections: u32,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            database_url: None,
            database_url_file: None,
            database_schema: None,
            database_ca_file: None,
            database_cert_file: None,
            database_key_file: None,
            db_connections: 5,
        }
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            database_url,
            database_url_file,
            database_schema,
            database_ca_file,
            database_cert_file,
            database_key_file,
            db_connections,
        } = self;
        formatter
            .debug_struct("DatabaseOptions")
            .field("database_url", &database_url.as_ref().map(|_| "…"))
            .field("database_url_file", database_url_file)
            .field("database_schema", database_schema)
            .field("database_ca_file", database_ca_file)
            .field("database_cert_file", database_cert_file)
            .field("database_key_file", database_key_file)
            .field("db_connections", db_connections)
            .finish()
    }
}

impl DatabaseOptions {
    /// Whether an address is given. An empty one is none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.url().is_set()
    }

    /// Whether the database is a SQLite file, which `assay run` creates if it is missing.
    pub fn is_file(&self) -> bool {
        self.address().is_ok_and(|address| address.starts_with(SQLITE))
    }

    /// These settings, with a default address.
    #[must_use]
    pub fn or_default(self, url: &str) -> Self {
        if self.is_set() { self } else { Self { database_url: Some(url.to_owned()), ..self } }
    }

    fn url(&self) -> Secret<'_> {
        Secret { name: "DATABASE_URL", value: self.database_url.as_deref(), file: self.database_url_file.as_deref() }
    }

    /// The schema, if one is named: only names that mean the same with and without quotes.
    pub(crate) fn schema(&self) -> Result<Option<&str>, StoreError> {
        let Some(name) = self.database_schema.as_deref().map(str::trim).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let is_plain = name.len() <= 63
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if is_plain && !name.starts_with("pg_") {
            return Ok(Some(name));
        }
        Err(StoreError::configuration(format!(
            "invalid value {name:?} for DATABASE_SCHEMA: use 1 to 63 lower-case letters, digits and `_`, and begin with neither \
             a digit nor `pg_`"
        )))
    }

    /// The address, from the setting or the file.
    pub(crate) fn address(&self) -> Result<String, StoreError> {
        self.url().read()?.ok_or_else(|| {
            StoreError::configuration(
                "DATABASE_URL is not set: give the address of PostgreSQL, such as postgres://user:password@host:5432/name",
            )
        })
    }

    /// The files of certificates and keys, which a file of SQLite has no use for.
    pub(crate) fn tls(&self) -> TlsFiles<'_> {
        TlsFiles {
            prefix: TLS_PREFIX,
            ca: self.database_ca_file.as_deref(),
            cert: self.database_cert_file.as_deref(),
            key: self.database_key_file.as_deref(),
        }
    }
}

/// What the names of the settings of TLS begin with.
pub(crate) const TLS_PREFIX: &str = "DATABASE";

/// The scheme of a SQLite address.
pub(crate) const SQLITE: &str = "sqlite:";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        database: DatabaseOptions,
    }

    #[test]
    fn an_address_comes_from_one_place() {
        let unset = DatabaseOptions::default();
        assert!(!unset.is_set() && !unset.is_file());
        assert!(unset.address().unwrap_err().to_string().starts_with("DATABASE_URL is not set"));

        let empty = DatabaseOptions { database_url: Some(" ".to_owned()), ..unset.clone() };
        assert!(!empty.is_set());
        assert_eq!(empty.or_default("sqlite://assay.db").address().unwrap(), "sqlite://assay.db");

        let missing = DatabaseOptions { database_url_file: Some("/nowhere/at/all".into()), ..unset.clone() };
        assert!(missing.is_set());
        assert!(missing.address().unwrap_err().to_string().ends_with("check DATABASE_URL_FILE"));

        let given = DatabaseOptions { database_url: Some("postgres://host/a".to_owned()), ..unset };
        assert_eq!(given.or_default("sqlite://assay.db").address().unwrap(), "postgres://host/a");
    }

    #[test]
    fn a_schema_has_a_plain_name() {
        let named = |name: &str| DatabaseOptions { database_schema: Some(name.into()), ..DatabaseOptions::default() };
        assert_eq!(DatabaseOptions::default().schema().unwrap(), None);
        assert_eq!(named(" ").schema().unwrap(), None);
        assert_eq!(named("assay_2").schema().unwrap(), Some("assay_2"));
        for name in ["Assay", "a,b", "a b", "\"a\"", "pg_temp", "2a", "é", &"a".repeat(64)] {
            let error = named(name).schema().unwrap_err().to_string();
            assert!(error.contains("for DATABASE_SCHEMA: "), "{error}");
        }
    }

    #[test]
    fn zero_connections_are_refused() {
        let error = Program::try_parse_from(["program", "--db-connections", "0"]).map(|program| program.database);
        assert!(error.unwrap_err().to_string().contains("0 is not in 1..=1000"));
    }

    #[test]
    fn debug_shows_no_password() {
        let options =
            DatabaseOptions { database_url: Some("postgres://u:secret@host".to_owned()), ..DatabaseOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}

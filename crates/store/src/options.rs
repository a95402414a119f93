//! The settings of the database.

use assay_connect::{ExposeSecret as _, SecretString, endpoint_options};

use crate::StoreError;

endpoint_options!(
    /// Where the database is. Its `Debug` shows no password.
    DatabaseEndpoint, prefix: "DATABASE", flag: "database",
    url: "Address of the database: `postgres://user:password@host:5432/name`, or `sqlite://file` for `assay run` alone",
    tls: "; implies sslmode=verify-full"
);

/// Which database to use, and how. Its `Debug` shows no password.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// Where the database is.
    #[command(flatten)]
    pub endpoint: DatabaseEndpoint,
    /// PostgreSQL schema for the tables of Assay; `assay migrate` creates it [default: the first of the user's search_path,
    /// mostly public]
    #[arg(long, env = "DATABASE_SCHEMA", value_name = "NAME")]
    pub database_schema: Option<String>,
    /// Most connections of one process to PostgreSQL.
    #[arg(long, env = "DB_CONNECTIONS", value_name = "CONNECTIONS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub db_connections: u32,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self { endpoint: DatabaseEndpoint::default(), database_schema: None, db_connections: 5 }
    }
}

impl DatabaseOptions {
    /// Whether an address is given. An empty one is none, as compose files pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.endpoint.address().is_set()
    }

    /// Whether the database is a SQLite file, which `assay run` creates if it is missing.
    pub fn is_file(&self) -> bool {
        self.address().is_ok_and(|address| address.expose_secret().starts_with(SQLITE))
    }

    /// These settings, with a default address.
    #[must_use]
    pub fn or_default(self, url: &str) -> Self {
        if self.is_set() { self } else { Self { endpoint: DatabaseEndpoint::at(url), ..self } }
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

    /// The address, from the setting or its file.
    pub(crate) fn address(&self) -> Result<SecretString, StoreError> {
        self.endpoint.address().read()?.ok_or_else(|| {
            StoreError::configuration(
                "DATABASE_URL is not set: give the address of PostgreSQL, such as postgres://user:password@host:5432/name",
            )
        })
    }
}

/// What the names of the settings of TLS begin with.
pub(crate) const TLS_PREFIX: &str = DatabaseEndpoint::PREFIX;

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

        let address = |options: DatabaseOptions| options.address().unwrap().expose_secret().to_owned();
        let empty = DatabaseOptions { endpoint: DatabaseEndpoint::at(" "), ..unset.clone() };
        assert!(!empty.is_set());
        assert_eq!(address(empty.or_default("sqlite://assay.db")), "sqlite://assay.db");

        let given = DatabaseOptions { endpoint: DatabaseEndpoint::at("postgres://host/a"), ..unset };
        assert_eq!(address(given.or_default("sqlite://assay.db")), "postgres://host/a");
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
}

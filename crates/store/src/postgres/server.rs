//! The first connection to a server: waits while the server may be starting, and returns one clear line if waiting
//! does not help.

use std::time::Duration;

use assay_connect::{Host, RetryPolicy, TlsFailure, TlsFiles, retry};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tracing::debug;

use super::address;
use super::begin::{Opening, READING};
use crate::DatabaseOptions;
use crate::StoreError;
use crate::options::TLS_PREFIX;

/// Longest time of one attempt to connect.
const ATTEMPT: Duration = Duration::from_secs(10);
const CONNECT: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(2));

/// A server, with our database and, if named, our schema.
pub(crate) struct PostgresServer {
    options: PgConnectOptions,
    schema: Option<String>,
    /// Whether this program presents a certificate.
    shows_certificate: bool,
}

/// How PgBouncer's error about a setting at the start of a connection begins.
const REFUSED_PARAMETER: &str = "unsupported startup parameter";

/// Executes a prepared statement in a transaction of its own.
async fn prepared(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut reading = connection.begin_with(Opening::new(None).statement(READING)).await?;
    sqlx::query("SELECT 1").execute(&mut *reading).await?;
    reading.commit().await?;
    Ok(())
}

/// The search path among the options of an address: `-c search_path=…` or `--search_path=…`.
fn search_path(options: &str) -> Option<&str> {
    let words = options.split_whitespace().map(|word| word.trim_start_matches("-c").trim_start_matches('-'));
    words.filter_map(|word| word.strip_prefix("search_path=")).next_back()
}

/// A search path without insignificant characters.
fn plain_path(path: &str) -> String {
    path.chars().filter(|char| !char.is_whitespace() && !matches!(char, '"' | '\\')).collect()
}

/// Why an attempt to connect failed.
enum ConnectFailure {
    /// The server may be starting.
    Unreachable(String),
    /// All of its connections are in use, in its words.
    Full(String),
    /// It fails until an operator acts.
    Lasting(StoreError),
}

impl PostgresServer {
    /// The server at this address, for a stage. Statements name no schema: each transaction sets the search path.
    pub(crate) fn new(address: &str, database: &DatabaseOptions, stage: &str) -> Result<Self, StoreError> {
        let options = address::read(address)?;
        // The driver logs SQL over many lines; this log has one line per event.
        let options = options.disable_statement_logging();
        // Only what poolers accept: each transaction makes the other settings.
        let options = options.application_name(&format!("assay-{stage}")).extra_float_digits(None);
        let schema = database.schema()?;
        let files = database.endpoint.tls();
        let shows_certificate = files.read()?.identity.is_some();
        Ok(Self { options: with_tls(options, files)?, schema: schema.map(str::to_owned), shows_certificate })
    }

    /// How its transactions begin.
    pub(super) fn opening(&self) -> Opening {
        Opening::new(self.schema.as_deref())
    }

    pub(crate) fn into_options(self) -> PgConnectOptions {
        self.options
    }

    /// Its address, for a person.
    fn place(&self) -> String {
        if let Some(socket) = self.options.get_socket() {
            return format!("PostgreSQL at {}", socket.display());
        }
        let (host, port) = (self.options.get_host(), self.options.get_port());
        format!("PostgreSQL at {}:{port}", Host::read(host).as_ref().map_or(host.to_owned(), Host::to_string))
    }

    /// The user that it knows us as.
    pub(super) fn user(&self) -> &str {
        self.options.get_username()
    }

    fn database_name(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.options.get_username())
    }

    /// Its database, for a person.
    pub(crate) fn database(&self) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("schema `{schema}` of ")).unwrap_or_default();
        format!("{schema}database `{}` of {}", self.database_name(), self.place())
    }

    /// Creates the named schema if it is missing. That takes a permission, so it looks first.
    pub(crate) async fn create_schema(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
            .bind(schema)
            .fetch_one(&mut *connection)
            .await?;
        if !there {
            // `DatabaseOptions::schema` only allows names that need no escape.
            let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""));
            let mut part = connection.begin().await?;
            let created = sqlx::raw_sql(create).execute(&mut *part).await;
            // Another program may create it at the same time: then it exists, as wanted.
            let is_there = |error: &sqlx::Error| {
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                code.is_some_and(|code| code == "42P06" || code == "23505")
            };
            match created {
                Err(error) if !is_there(&error) => {
                    return Err(StoreError::from(error).prefixed(&format!("cannot create schema `{schema}`: ")));
                }
                Err(_) => part.rollback().await?,
                Ok(_) => part.commit().await?,
            }
        }
        Ok(())
    }

    /// Refuses a server that does not use the named schema: rows must not end up in tables of others. A missing
    /// schema is reported by its missing tables.
    pub(super) async fn check_schema(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let Some(schema) = &self.schema else { return self.check_options(connection).await };
        let (current, exists): (Option<String>, bool) =
            sqlx::query_as("SELECT current_schema()::text, to_regnamespace($1) IS NOT NULL")
                .bind(schema)
                .fetch_one(connection)
                .await?;
        if exists && current.as_ref() != Some(schema) {
            let instead = current.map_or_else(|| "none".to_owned(), |current| format!("schema `{current}`"));
            return Err(StoreError::configuration(format!(
                "{} gives user `{}` {instead} instead of schema `{schema}`: check DATABASE_SCHEMA, and grant USAGE on it",
                self.place(),
                self.options.get_username()
            )));
        }
        Ok(())
    }

    /// The same for a search path in the address, which a pooler may drop.
    async fn check_options(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let Some(wanted) = self.options.get_options().and_then(search_path) else { return Ok(()) };
        let found: String = sqlx::query_scalar("SELECT current_setting('search_path')").fetch_one(connection).await?;
        if plain_path(&found) == plain_path(wanted) {
            return Ok(());
        }
        Err(StoreError::configuration(format!(
            "{} looks for tables in `{found}` and not in `{wanted}`, as options in DATABASE_URL say: a pooler leaves them out; \
             set DATABASE_SCHEMA instead",
            self.place()
        )))
    }

    /// Refuses a pooler that spreads the transactions of one connection over several of the server without tracking
    /// prepared statements: a statement prepared on one is missing on the next, or in the way there. A pooler without
    /// other users shows it at once; otherwise it shows later, with the same error.
    pub(super) async fn check_pooler(&self, first: &mut PgConnection) -> Result<(), StoreError> {
        prepared(first).await?;
        // A server without room for a second connection is waited for later.
        let Ok(Ok(mut second)) = tokio::time::timeout(ATTEMPT, self.options.connect()).await else { return Ok(()) };
        for _ in 0..2 {
            prepared(&mut second).await?;
            prepared(first).await?;
        }
        let _ = second.close().await;
        Ok(())
    }

    /// Connects, with retries during `startup`.
    pub(crate) async fn connect(&self, startup: Duration) -> Result<PgConnection, StoreError> {
        let is_retryable = |failure: &ConnectFailure| match failure {
            ConnectFailure::Unreachable(cause) | ConnectFailure::Full(cause) => {
                debug!("{} cannot be reached yet: {cause}", self.place());
                true
            }
            ConnectFailure::Lasting(_) => false,
        };
        let attempt = |time| self.attempt(time);
        let connected = retry::at_startup(CONNECT, startup, ATTEMPT, attempt, is_retryable).await;
        connected.map_err(|failure| self.error(failure, startup))
    }

    /// Connects by one attempt.
    pub(super) async fn connect_once(&self, limit: Duration) -> Result<PgConnection, StoreError> {
        self.attempt(limit).await.map_err(|failure| self.error(failure, limit))
    }

    async fn attempt(&self, time: Duration) -> Result<PgConnection, ConnectFailure> {
        match tokio::time::timeout(time, self.options.connect()).await {
            Ok(connected) => connected.map_err(|error| self.failure(error)),
            Err(_) => Err(ConnectFailure::Unreachable("it does not answer".to_owned())),
        }
    }

    /// The error of a failure after so long.
    fn error(&self, failure: ConnectFailure, waited: Duration) -> StoreError {
        let (place, seconds) = (self.place(), waited.as_secs());
        match failure {
            ConnectFailure::Lasting(error) => error,
            ConnectFailure::Full(cause) => StoreError::transient(format!(
                "{place} had no free connection within {seconds} s ({cause}): raise max_connections, or the limit of the user or \
                 the database; or lower DB_CONNECTIONS"
            )),
            ConnectFailure::Unreachable(cause) => {
                StoreError::transient(format!("cannot reach {place} within {seconds} s ({cause}): check DATABASE_URL"))
            }
        }
    }

    /// The settings to check after a refusal.
    fn what_to_check(&self, refusal: &str) -> &'static str {
        if !self.shows_certificate && refusal.contains("client certificate") {
            "DATABASE_CERT_FILE and DATABASE_KEY_FILE"
        } else {
            "DATABASE_URL"
        }
    }

    fn failure(&self, error: sqlx::Error) -> ConnectFailure {
        let lasting = |message| ConnectFailure::Lasting(StoreError::configuration(message));
        match error {
            sqlx::Error::Io(error) => match TlsFailure::from_error(&error) {
                Some(trouble) => lasting(format!(
                    "cannot connect to {} by TLS ({}): {}",
                    self.place(),
                    trouble.cause(),
                    trouble.remedy(TLS_PREFIX)
                )),
                None => ConnectFailure::Unreachable(plain(&error)),
            },
            sqlx::Error::Tls(error) => lasting(format!(
                "{} and this program cannot agree on TLS ({error}): check DATABASE_CA_FILE, and sslmode in DATABASE_URL",
                self.place()
            )),
            sqlx::Error::Configuration(error) => lasting(format!("DATABASE_URL cannot be used ({error})")),
            sqlx::Error::Database(error) if error.message().starts_with(REFUSED_PARAMETER) => lasting(format!(
                "{} is a pooler that refuses this ({}): take options out of DATABASE_URL (a schema is named by \
                 DATABASE_SCHEMA), add it to ignore_startup_parameters, or give the address of PostgreSQL itself",
                self.place(),
                error.message()
            )),
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                match code.get(..2).unwrap_or_default() {
                    "28" => lasting(format!(
                        "{} refuses user `{}` ({}): check {}",
                        self.place(),
                        self.options.get_username(),
                        error.message(),
                        self.what_to_check(error.message())
                    )),
                    "3D" => lasting(format!(
                        "{} has no database `{}`: create it, or check DATABASE_URL",
                        self.place(),
                        self.database_name()
                    )),
                    // Too many connections, or 53300 of PgBouncer's own.
                    "53" => ConnectFailure::Full(error.message().to_owned()),
                    "42" => lasting(format!("{} refuses: {}: check DATABASE_URL", self.place(), error.message())),
                    _ => ConnectFailure::Unreachable(error.message().to_owned()),
                }
            }
            error => ConnectFailure::Unreachable(error.to_string()),
        }
    }
}

/// Adds the certificate and key files. The driver reads them anew for each connection.
fn with_tls(mut options: PgConnectOptions, files: TlsFiles<'_>) -> Result<PgConnectOptions, StoreError> {
    let named = |path: &&std::path::Path| !path.as_os_str().is_empty();
    if let Some(path) = files.ca.filter(named) {
        let mode = match options.get_ssl_mode() {
            // The default mode.
            PgSslMode::Prefer => PgSslMode::VerifyFull,
            mode @ (PgSslMode::VerifyCa | PgSslMode::VerifyFull) => mode,
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Require => {
                return Err(StoreError::configuration(
                    "DATABASE_CA_FILE is set, but sslmode in DATABASE_URL checks no certificate: write \
                     sslmode=verify-full, or leave it out",
                ));
            }
        };
        options = options.ssl_mode(mode).ssl_root_cert(path);
    }
    if let (Some(cert), Some(key)) = (files.cert.filter(named), files.key.filter(named)) {
        if matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow) {
            return Err(StoreError::configuration(
                "DATABASE_CERT_FILE is set, but sslmode in DATABASE_URL rules TLS out: write sslmode=verify-full",
            ));
        }
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

/// Without the error number of the operating system.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    const NO_FILES: TlsFiles<'_> = TlsFiles { prefix: TLS_PREFIX, ca: None, cert: None, key: None };

    #[test]
    fn an_authority_has_the_certificate_checked() {
        let files = TlsFiles { ca: Some(std::path::Path::new("ca.pem")), ..NO_FILES };
        let mode = |address: &str| {
            let options = PgConnectOptions::from_str(address).unwrap();
            with_tls(options, files).map(|options| options.get_ssl_mode()).map_err(|error| error.to_string())
        };
        assert!(matches!(mode("postgres://u@host/a"), Ok(PgSslMode::VerifyFull)));
        assert!(matches!(mode("postgres://u@host/a?sslmode=verify-ca"), Ok(PgSslMode::VerifyCa)));
        for weak in ["disable", "require"] {
            let error = mode(&format!("postgres://u@host/a?sslmode={weak}")).unwrap_err();
            assert!(error.contains("DATABASE_CA_FILE") && error.contains("verify-full"), "{error}");
        }
    }

    #[test]
    fn a_search_path_is_found_among_options() {
        let cases = [
            ("-c search_path=a,b -c geqo=off", Some("a,b")),
            ("-csearch_path=a", Some("a")),
            ("--search_path=a", Some("a")),
            ("-c search_path=a --search_path=b", Some("b")),
            ("-c geqo=off", None),
            ("", None),
        ];
        for (options, expected) in cases {
            assert_eq!(search_path(options), expected, "{options}");
        }
        assert_eq!(plain_path("\"$user\", public"), plain_path("$user,public"));
    }

    #[test]
    fn an_unreadable_address_is_not_quoted() {
        let server = PostgresServer::new("postgres://u:sec/ret@host:port/a", &DatabaseOptions::default(), "writer");
        let error = server.err().unwrap().to_string();
        assert!(error.contains("DATABASE_URL") && !error.contains("sec"), "{error}");
    }
}

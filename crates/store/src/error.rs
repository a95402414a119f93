//! What can go wrong with a database, and who has to act. Decided once, where the driver's error comes in.

use std::borrow::Cow;
use std::fmt::Write as _;

use assay_connect::SettingError;
use assay_transaction::{Exit, shape};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// No one: the same call may succeed later. Unknown errors are transient.
    Transient,
    /// The source of the data.
    Data,
    /// The operator of the programs or the database; until then the same call fails again.
    Configuration,
    /// No one: another loader continues the run.
    LeaseLost,
}

impl ErrorClass {
    /// Its name in metrics and traces.
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Data => "data",
            Self::Configuration => "configuration",
            Self::LeaseLost => "lease_lost",
        }
    }
}

/// Why a call failed. One line, without passwords or row content.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    class: ErrorClass,
    message: String,
    is_duplicate_key: bool,
}

impl StoreError {
    fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), is_duplicate_key: false }
    }

    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, message)
    }

    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Data, message)
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Configuration, message)
    }

    pub(crate) fn lease_lost(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::LeaseLost, message)
    }

    /// The same with a prefix.
    pub(crate) fn prefixed(self, prefix: &str) -> Self {
        Self { message: format!("{prefix}{}", self.message), ..self }
    }

    /// Who has to act.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.class == ErrorClass::Transient
    }

    /// Whether a key that should be new exists: another transaction was faster, or the id was not looked up.
    pub(crate) fn is_duplicate_key(&self) -> bool {
        self.is_duplicate_key
    }

    /// Whether the loader has lost the run, so that nothing was changed.
    pub fn is_lease_lost(&self) -> bool {
        self.class == ErrorClass::LeaseLost
    }

    /// The exit code of a program that gives up because of this.
    pub fn exit(&self) -> Exit {
        match self.class {
            ErrorClass::Transient | ErrorClass::LeaseLost => Exit::DependencyUnavailable,
            ErrorClass::Data => Exit::FailedRows,
            ErrorClass::Configuration => Exit::Usage,
        }
    }
}

impl From<SettingError> for StoreError {
    fn from(error: SettingError) -> Self {
        Self::configuration(error.to_string())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::Database(error) => Self::from_database(&*error),
            // Their messages may quote the value.
            Error::Encode(_) | Error::InvalidArgument(_) => Self::data("a value does not fit the database"),
            Error::ColumnDecode { index, .. } => Self::configuration(format!(
                "column {index} of the database holds a value that this program cannot read"
            )),
            Error::Decode(_) => Self::configuration("the database holds a value that this program cannot read"),
            error @ (Error::Configuration(_)
            | Error::TypeNotFound { .. }
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::ColumnNotFound(_)) => {
                Self::configuration(format!("the database is not as this program expects ({error})"))
            }
            Error::PoolTimedOut => Self::transient(
                "no connection to the database: it is unreachable or busy, or DB_CONNECTIONS is too small",
            ),
            Error::Io(error) => Self::transient(format!("the connection to the database is lost ({error})")),
            error => Self::transient(format!("the database cannot be used now ({error})")),
        }
    }
}

impl StoreError {
    fn from_database(error: &dyn DatabaseError) -> Self {
        let code = error.code().unwrap_or_default();
        let postgres = error.try_downcast_ref::<PgDatabaseError>().is_some();
        let (class, hint, kind) = if postgres {
            let is_in_statements = error.message().contains("statement pooling mode");
            let (class, hint) =
                if is_in_statements { (ErrorClass::Configuration, STATEMENT_MODE) } else { of_sqlstate(&code) };
            (class, hint, "SQLSTATE")
        } else {
            let (class, hint) = of_sqlite(&code);
            (class, hint, "SQLite error")
        };
        let said = without_values(&code, error.message());
        let mut message = match class {
            ErrorClass::Transient => format!("the database cannot do this now: {said}"),
            ErrorClass::Data | ErrorClass::LeaseLost => said.into_owned(),
            ErrorClass::Configuration => format!("the database refuses: {said}"),
        };
        if !code.is_empty() {
            // A string takes all that is written.
            let _ = write!(message, " ({kind} {code})");
        }
        message.push_str(hint);
        Self { class, message, is_duplicate_key: error.is_unique_violation() }
    }
}

/// PostgreSQL's message without the values of rows. Its detail, which shows keys and rows, is never read; but
/// messages about wrong data (class 22) quote the value, and functions and triggers of others may say anything.
fn without_values<'a>(sqlstate: &str, message: &'a str) -> Cow<'a, str> {
    match sqlstate.get(..2).unwrap_or_default() {
        "22" => {
            let shown = |(index, part): (usize, &str)| if index % 2 == 1 { shape(part) } else { part.to_owned() };
            // A value with a quote in it: behind the first quote, the words may not be PostgreSQL's.
            let is_paired = message.matches('"').count() == 2;
            match message.split_once('"') {
                None => Cow::Borrowed(message),
                Some((words, _)) if !is_paired => Cow::Owned(format!("{words}…")),
                Some(_) => Cow::Owned(message.split('"').enumerate().map(shown).collect()),
            }
        }
        // Raised by a function, a trigger, or an extension.
        "P0" | "38" | "39" => {
            Cow::Borrowed("a function or a trigger of the database refuses: see the log of PostgreSQL")
        }
        _ => Cow::Borrowed(message),
    }
}

/// PgBouncer has no SQLSTATE of its own for this.
const STATEMENT_MODE: &str = ": a pooler in statement mode has no transactions; use its transaction or session mode";

/// The class of a SQLSTATE, and a hint for the operator.
fn of_sqlstate(code: &str) -> (ErrorClass, &'static str) {
    const GRANT: &str = ": grant the user of DATABASE_URL what it needs";
    const SCHEMA: &str = ": run `assay migrate`";
    const POOLER: &str = ": a pooler in transaction mode keeps no prepared statements; use PgBouncer 1.21 or later with \
         max_prepared_statements, its session mode, or the address of PostgreSQL itself in DATABASE_URL";
    match code {
        // A prepared statement is missing, or exists already: behind a pooler, other programs share the server's
        // connections.
        "26000" | "42P05" => (ErrorClass::Configuration, POOLER),
        // A duplicate key: another transaction was faster; the next attempt sees it.
        "23505" => (ErrorClass::Transient, ""),
        "54000" => (ErrorClass::Data, ""),
        "42501" => (ErrorClass::Configuration, GRANT),
        "42P01" | "42703" => (ErrorClass::Configuration, SCHEMA),
        code => match code.get(..2).unwrap_or_default() {
            "22" | "23" => (ErrorClass::Data, ""),
            "28" => (ErrorClass::Configuration, ": check the user and the password in DATABASE_URL"),
            "3D" => (ErrorClass::Configuration, ": create it, or check DATABASE_URL"),
            "3F" => (ErrorClass::Configuration, SCHEMA),
            "42" => (ErrorClass::Configuration, ""),
            _ => (ErrorClass::Transient, ""),
        },
    }
}

/// The same for SQLite's extended result codes.
fn of_sqlite(code: &str) -> (ErrorClass, &'static str) {
    const MIGRATE: &str = ": run `assay migrate`";
    const FILE: &str = ": check the file of DATABASE_URL and its permissions";
    let code: i32 = code.parse().unwrap_or_default();
    match (code, code & 0xff) {
        // Primary key, row id, unique.
        (1555 | 2579 | 2067, _) => (ErrorClass::Transient, ""),
        // Too big, constraint, mismatch, out of range.
        (_, 18 | 19 | 20 | 25) => (ErrorClass::Data, ""),
        // No such table, no such column.
        (_, 1) => (ErrorClass::Configuration, MIGRATE),
        // Permission, read-only, corrupt, cannot open, authorisation, not a database.
        (_, 3 | 8 | 11 | 14 | 23 | 26) => (ErrorClass::Configuration, FILE),
        // Busy, locked, full, I/O error, and whatever else there is.
        _ => (ErrorClass::Transient, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlstate_has_one_class() {
        use ErrorClass::{Configuration, Data, Transient};
        let cases = [
            ("08006", Transient),
            ("40001", Transient),
            ("40P01", Transient),
            ("53100", Transient),
            ("53300", Transient),
            ("55P03", Transient),
            ("57014", Transient),
            ("57P01", Transient),
            ("57P03", Transient),
            ("23505", Transient),
            ("XX000", Transient),
            ("", Transient),
            ("22021", Data),
            ("22003", Data),
            ("23502", Data),
            ("23514", Data),
            ("54000", Data),
            ("28P01", Configuration),
            ("28000", Configuration),
            ("3D000", Configuration),
            ("42P01", Configuration),
            ("42501", Configuration),
            ("26000", Configuration),
            ("42P05", Configuration),
        ];
        for (code, expected) in cases {
            assert_eq!(of_sqlstate(code).0, expected, "{code}");
        }
    }

    #[test]
    fn every_sqlite_code_has_one_class() {
        use ErrorClass::{Configuration, Data, Transient};
        let cases = [
            ("5", Transient),
            ("517", Transient),
            ("6", Transient),
            ("10", Transient),
            ("13", Transient),
            ("1555", Transient),
            ("2067", Transient),
            ("18", Data),
            ("275", Data),
            ("1299", Data),
            ("3091", Data),
            ("1", Configuration),
            ("8", Configuration),
            ("14", Configuration),
            ("26", Configuration),
        ];
        for (code, expected) in cases {
            assert_eq!(of_sqlite(code).0, expected, "{code}");
        }
    }

    #[test]
    fn what_is_said_of_data_quotes_no_value() {
        let cases = [
            (
                "22P02",
                "invalid input syntax for type uuid: \"4111 Jean\"",
                "invalid input syntax for type uuid: `NNNN AAAA`",
            ),
            ("22P02", "invalid input syntax for type json: \"a\"b Jean\"", "invalid input syntax for type json: …"),
            ("22001", "value too long for type character varying(9)", "value too long for type character varying(9)"),
            (
                "22021",
                "invalid byte sequence for encoding \"UTF8\": 0x00",
                "invalid byte sequence for encoding `AAAN`: 0x00",
            ),
            ("23514", "new row violates check constraint \"c\"", "new row violates check constraint \"c\""),
            ("P0001", "no Jean", "a function or a trigger of the database refuses: see the log of PostgreSQL"),
            ("53100", "could not extend file \"base/1\"", "could not extend file \"base/1\""),
        ];
        for (code, message, expected) in cases {
            assert_eq!(without_values(code, message), expected, "{code}");
        }
    }

    #[test]
    fn a_pool_without_connections_names_the_setting() {
        let error = StoreError::from(sqlx::Error::PoolTimedOut);
        assert!(error.is_transient() && error.to_string().contains("DB_CONNECTIONS"), "{error}");
        assert_eq!(error.exit(), Exit::DependencyUnavailable);
    }
}

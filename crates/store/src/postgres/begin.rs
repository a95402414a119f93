//! How each transaction begins. All settings are made here, and for one transaction each: a pooler in transaction mode gives
//! every transaction to any connection of the server, which other programs use before and after it.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// Far above what a statement of ours takes; a server or a lock that hangs is transient.
const LIMITS: &str = "SET LOCAL statement_timeout = '120s'; SET LOCAL lock_timeout = '30s'; \
     SET LOCAL idle_in_transaction_session_timeout = '60s'";
/// A commit lets a message be acknowledged, which nobody sends again: it is on disk then, whatever a role, a database or the
/// server has set. `local`, `remote_write` and `remote_apply` write it there too, and say more about standbys: they stay. And
/// numbers are kept as they are, also those in JSON.
const WRITE_SETTINGS: &str = "SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') = 'off'; SET LOCAL extra_float_digits = 1";

/// A kind of transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    begin: &'static str,
    settings: &'static str,
}

/// One that writes. Each of its statements sees what is committed when it begins.
pub(super) const WRITING: Begin = Begin { begin: "BEGIN ISOLATION LEVEL READ COMMITTED", settings: WRITE_SETTINGS };
/// One that reads, all of it at one point in time.
pub(super) const READING: Begin = Begin { begin: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings: "" };
/// The same for lists in row order, page by page: along the index, even where the planner does not know yet how many rows
/// there are, and would sort them all for each page.
pub(super) const LISTING: Begin =
    Begin { settings: "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off", ..READING };
/// The same for counting the rows of a large run, which may take longer than any other statement.
pub(super) const COUNTING: Begin =
    Begin { settings: "SET LOCAL statement_timeout = '30min'; SET LOCAL work_mem = '64MB'", ..READING };
/// One that changes tables: an index over many rows takes its time, and so does another that does the same.
pub(super) const MIGRATING: Begin = Begin {
    // The first commit of a row brings what was committed before it to disk as well.
    settings: "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
    ..WRITING
};

/// What is the same for all transactions of a program.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// The settings of each, the search path among them where a schema was named.
    settings: String,
}

impl Opening {
    /// For the tables in this schema, else for those that the server finds. Nothing is behind the schema: a table that is
    /// missing must not be found among those of others.
    pub(super) fn new(schema: Option<&str>) -> Self {
        let settings = match schema {
            // A name that `DatabaseOptions::schema` let pass needs no escape.
            Some(schema) => format!("{LIMITS}; SET LOCAL search_path = \"{schema}\""),
            None => LIMITS.to_owned(),
        };
        Self { settings }
    }

    /// The statements that begin such a transaction, which the server takes and answers at once.
    pub(super) fn statement(&self, Begin { begin, settings }: Begin) -> SqlStr {
        let separator = if settings.is_empty() { "" } else { "; " };
        AssertSqlSafe(format!("{begin}; {}{separator}{settings}", self.settings)).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_ends_with_its_transaction() {
        for opening in [Opening::new(None), Opening::new(Some("assay"))] {
            for kind in [WRITING, READING, LISTING, COUNTING, MIGRATING] {
                let statement = opening.statement(kind);
                let mut parts = statement.as_str().split("; ");
                assert!(parts.next().unwrap().starts_with("BEGIN ISOLATION LEVEL "));
                for part in parts {
                    assert!(
                        part.starts_with("SET LOCAL ")
                            || part.starts_with("SELECT set_config('synchronous_commit', 'on', true)"),
                        "{part}"
                    );
                }
            }
        }
        assert!(
            Opening::new(Some("assay")).statement(READING).as_str().ends_with("; SET LOCAL search_path = \"assay\"")
        );
    }
}

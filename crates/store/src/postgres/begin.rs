//! How each transaction begins. All settings are made here, for one transaction each: a pooler in transaction mode
//! gives every transaction any connection of the server, which other programs use before and after it.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// Far above what our statements take; a hanging server or lock is transient.
const LIMITS: &str = "SET LOCAL statement_timeout = '120s'; SET LOCAL lock_timeout = '30s'; \
     SET LOCAL idle_in_transaction_session_timeout = '60s'";
/// After a commit, a message is acknowledged and never sent again: the commit must be on disk, whatever a role, a
/// database or the server has set. `local`, `remote_write` and `remote_apply` write it there too and only differ
/// about standbys: they stay. Numbers keep all digits, also in JSON.
macro_rules! write_settings {
    () => {
        "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; \
         SET LOCAL extra_float_digits = 1"
    };
}
/// By an index, whatever the planner believes about tables of which nobody has collected statistics, and about summaries of which there
/// are none. Such a statement takes less time than starting a worker.
macro_rules! by_index {
    () => {
        "SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"
    };
}

/// A kind of transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    begin: &'static str,
    settings: &'static str,
}

/// Writes. Each of its statements sees what is committed when it begins.
pub(super) const WRITING: Begin = Begin { begin: "BEGIN ISOLATION LEVEL READ COMMITTED", settings: write_settings!() };
/// Reads, all of it at one point in time.
pub(super) const READING: Begin = Begin { begin: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings: "" };
/// Reads lists in row order, page by page: along the index, even if the planner does not know yet how many rows there
/// are and would sort them all for each page.
pub(super) const LISTING: Begin =
    Begin { settings: "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off", ..READING };
/// Finds few rows of a large table.
pub(super) const LOOKING_UP: Begin = Begin { settings: by_index!(), ..READING };
/// Writes to the rows of a part of a run.
pub(super) const REMOVING: Begin = Begin { settings: concat!(write_settings!(), "; ", by_index!()), ..WRITING };
/// Counts the rows of a large run, which may take longer than any other statement.
pub(super) const COUNTING: Begin = Begin {
    settings: "SET LOCAL statement_timeout = '30min'; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off",
    ..READING
};
/// Changes tables: an index over many rows takes its time, and so does a concurrent migration.
pub(super) const MIGRATING: Begin = Begin {
    // The first commit of rows brings earlier commits to disk as well.
    settings: "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
    ..WRITING
};

/// The settings that all transactions of a program share.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// Includes the search path, if a schema was named.
    settings: String,
}

impl Opening {
    /// For tables in this schema, or in those that the server searches. Only this schema is searched: a missing table
    /// must not be found among those of others.
    pub(super) fn new(schema: Option<&str>) -> Self {
        let settings = match schema {
            // `DatabaseOptions::schema` only allows names that need no escape.
            Some(schema) => format!("{LIMITS}; SET LOCAL search_path = \"{schema}\""),
            None => LIMITS.to_owned(),
        };
        Self { settings }
    }

    /// The statements that begin such a transaction, sent and answered as one.
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
            for kind in [WRITING, READING, LISTING, LOOKING_UP, REMOVING, COUNTING, MIGRATING] {
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

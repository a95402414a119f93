//! Many rows in one statement. SQLite has no arrays to take apart, so a statement has a list of values for each row; those
//! of full groups stay prepared.

use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};

/// How many rows one statement takes; a longer one is no faster.
pub(crate) const GROUP: usize = 64;

pub(crate) type Bound<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// A statement for any number of rows.
pub(crate) struct Insert {
    before: &'static str,
    columns: usize,
    after: &'static str,
    /// For a full group.
    full: Arc<str>,
}

impl Insert {
    pub(crate) fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, full: sql(before, columns, GROUP, after).into() }
    }

    /// The statement for at most [`GROUP`] rows.
    pub(crate) fn rows<'q>(&self, rows: usize) -> Bound<'q> {
        if rows == GROUP {
            sqlx::query(AssertSqlSafe(Arc::clone(&self.full)))
        } else {
            // Each number of rows is another statement; keeping them all would drive out the others.
            sqlx::query(AssertSqlSafe(sql(self.before, self.columns, rows, self.after))).persistent(false)
        }
    }
}

fn sql(before: &str, columns: usize, rows: usize, after: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    format!("{before} VALUES {} {after}", vec![row; rows].join(", "))
}

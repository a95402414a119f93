//! Many rows in one statement. SQLite has no arrays to unnest, so a statement has a list of values for each row; those of full
//! groups stay prepared.

use std::sync::Arc;

use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};

/// Rows of one statement; more are no faster.
pub(super) const GROUP: usize = 64;

pub(super) type Bound<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// A statement for any number of rows.
pub(super) struct Insert {
    before: &'static str,
    columns: usize,
    after: &'static str,
    /// For a full group.
    full: Arc<str>,
}

impl Insert {
    pub(super) fn new(before: &'static str, columns: usize, after: &'static str) -> Self {
        Self { before, columns, after, full: sql(before, columns, GROUP, after).into() }
    }

    /// The statement for at most [`GROUP`] rows.
    pub(super) fn rows<'q>(&self, rows: usize) -> Bound<'q> {
        if rows == GROUP {
            sqlx::query(AssertSqlSafe(Arc::clone(&self.full)))
        } else {
            // Each number of rows is another statement; caching them all would evict the others.
            sqlx::query(AssertSqlSafe(sql(self.before, self.columns, rows, self.after))).persistent(false)
        }
    }
}

fn sql(before: &str, columns: usize, rows: usize, after: &str) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    format!("{before} VALUES {} {after}", vec![row; rows].join(", "))
}

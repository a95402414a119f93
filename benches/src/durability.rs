//! Checks that PostgreSQL is durable: figures of a database that can lose commits are void.

use assay_tests::Database;
use sqlx::AssertSqlSafe;

/// Settings that make a commit durable; they must be on.
const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];
/// Settings that matter to a reader of the figures.
const OTHERS: [&str; 6] =
    ["server_version", "wal_level", "shared_buffers", "max_wal_size", "checkpoint_timeout", "wal_compression"];

/// Returns the settings of the server.
///
/// # Panics
///
/// If the server is not durable.
pub(crate) async fn check_durability() -> String {
    let database = Database::empty().await;
    let mut lines = Vec::new();
    for name in DURABLE.into_iter().chain(OTHERS) {
        let asked = sqlx::query_scalar(AssertSqlSafe(format!("SHOW {name}"))).fetch_one(database.pool()).await;
        let value: String = asked.expect("PostgreSQL knows its settings");
        let is_durable = !DURABLE.contains(&name) || value == "on";
        assert!(is_durable, "{name} is {value}: run scripts/bench, which starts a durable PostgreSQL");
        lines.push(format!("{name} = {value}"));
    }
    lines.join(", ")
}

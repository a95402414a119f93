//! Rows that belong to no run. No other count sees them, as each begins with a run.

use std::collections::BTreeSet;

use super::dialect::{Connection, if_rows_are_indexed, of_either_type};
use crate::values::unsigned;
use crate::{StoreError, StrayRun, Strays};

/// Most runs that are named.
const MAX_NAMED: usize = 100;

/// The run ids in a table that are not in the ledger. The query steps from one id to the next along the table's
/// index: one lookup for each run, not for each row.
macro_rules! unknown_runs {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE names (run_id) AS (SELECT min(run_id) FROM ",
            $table,
            " UNION ALL SELECT (SELECT min(following.run_id) FROM ",
            $table,
            " following WHERE following.run_id > names.run_id) FROM names WHERE names.run_id IS NOT NULL) ",
            "SELECT run_id FROM names WHERE run_id IS NOT NULL AND NOT EXISTS ",
            "(SELECT 1 FROM runs WHERE runs.run_id = names.run_id)"
        )
    };
}
const UNKNOWN_RUNS: [&str; 4] = [
    unknown_runs!("chunks"),
    if_rows_are_indexed!(
        unknown_runs!("transactions"),
        "SELECT DISTINCT run_id FROM transactions t WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = t.run_id)"
    ),
    unknown_runs!("invalid_transactions"),
    unknown_runs!("failed_transactions"),
];
const COUNT: &str = concat!(
    "SELECT (SELECT count(*) FROM chunks WHERE run_id = $1), (SELECT count(*) FROM transactions WHERE run_id = $1",
    of_either_type!(),
    "),
        (SELECT count(*) FROM invalid_transactions WHERE run_id = $1),
        (SELECT count(*) FROM failed_transactions WHERE run_id = $1)"
);
const PREDICTIONS: &str = "
    SELECT count(*) FROM predictions p WHERE NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = p.transaction_id)";

pub(crate) async fn find(connection: &mut Connection) -> Result<Strays, StoreError> {
    let mut unknown_runs: BTreeSet<String> = BTreeSet::new();
    for unknown in UNKNOWN_RUNS {
        unknown_runs.extend(sqlx::query_scalar::<_, String>(unknown).fetch_all(&mut *connection).await?);
    }
    let runs = unknown_runs.len() as u64;
    let mut named = Vec::new();
    for run_id in unknown_runs.into_iter().take(MAX_NAMED) {
        let (chunks, transactions, invalid, failed): (i64, i64, i64, i64) =
            sqlx::query_as(COUNT).bind(&run_id).fetch_one(&mut *connection).await?;
        named.push(StrayRun {
            run_id,
            chunks: unsigned(chunks),
            transactions: unsigned(transactions),
            invalid: unsigned(invalid),
            failed: unsigned(failed),
        });
    }
    let predictions: i64 = sqlx::query_scalar(PREDICTIONS).fetch_one(connection).await?;
    Ok(Strays { runs, named, predictions: unsigned(predictions) })
}

//! The outcomes of a run's rows, counted from the data rows. Each count is one statement, and so one snapshot.

use assay_transaction::{RunId, Tally};

use super::dialect::{Connection, json_length};
use crate::values::unsigned;
use crate::{PredictionCount, StoreError};

/// A transaction without a prediction does not count, so that the law notices.
pub(crate) const TALLY: &str = concat!(
    "SELECT
        (SELECT count(*) FROM transactions t JOIN predictions p ON p.transaction_id = t.id WHERE t.run_id = $1),
        (SELECT count(*) FROM invalid_transactions WHERE run_id = $1),
        (SELECT count(*) FROM failed_transactions WHERE run_id = $1),
        (SELECT CAST(coalesce(sum(",
    json_length!("duplicate_rows"),
    "), 0) AS bigint) FROM chunks WHERE run_id = $1 AND duplicate_rows IS NOT NULL)"
);
const PREDICTIONS: &str = "
    SELECT p.prediction, count(*), avg(p.fraud_score)
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id
    WHERE t.run_id = $1 GROUP BY p.prediction ORDER BY count(*) DESC, p.prediction";
pub(crate) const INVALID: &str = "
    SELECT reason, count(*) FROM invalid_transactions WHERE run_id = $1 GROUP BY reason ORDER BY count(*) DESC, reason";
pub(crate) const FAILED: &str = "
    SELECT class, count(*) FROM failed_transactions WHERE run_id = $1 GROUP BY class ORDER BY count(*) DESC, class";

/// The tally that a query counts: predicted, invalid, failed, duplicate.
pub(crate) async fn tally_by(
    connection: &mut Connection,
    run_id: &RunId,
    query: &'static str,
) -> Result<Tally, StoreError> {
    let (predicted, invalid, failed, duplicate): (i64, i64, i64, i64) =
        sqlx::query_as(query).bind(run_id.as_str()).fetch_one(connection).await?;
    Ok(Tally {
        predicted: unsigned(predicted),
        invalid: unsigned(invalid),
        failed: unsigned(failed),
        duplicate: unsigned(duplicate),
    })
}

pub(crate) async fn predictions(
    connection: &mut Connection,
    run_id: &RunId,
) -> Result<Vec<PredictionCount>, StoreError> {
    let counts: Vec<(String, i64, Option<f64>)> =
        sqlx::query_as(PREDICTIONS).bind(run_id.as_str()).fetch_all(connection).await?;
    let count = |(prediction, count, mean_score)| PredictionCount { prediction, count: unsigned(count), mean_score };
    Ok(counts.into_iter().map(count).collect())
}

pub(crate) async fn by_code(
    connection: &mut Connection,
    run_id: &RunId,
    query: &'static str,
) -> Result<Vec<(String, u64)>, StoreError> {
    let counts: Vec<(String, i64)> = sqlx::query_as(query).bind(run_id.as_str()).fetch_all(connection).await?;
    Ok(counts.into_iter().map(|(code, count)| (code, unsigned(count))).collect())
}

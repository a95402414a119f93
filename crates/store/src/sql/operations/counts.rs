//! The outcomes of a run's rows, counted from the data rows. Each count is one statement, and so one snapshot.

use assay_transaction::{RunId, Tally};

use super::dialect::{Connection, count_apart, fit_plans, json_length, of_either_type};
use crate::values::unsigned;
use crate::{PredictionCount, StoreError};

/// All outcomes but predictions, which are counted by label.
const OTHERS: &str = concat!(
    "SELECT CAST(0 AS bigint),
        (SELECT count(*) FROM invalid_transactions WHERE run_id = $1),
        (SELECT count(*) FROM failed_transactions WHERE run_id = $1),
        (SELECT CAST(coalesce(sum(",
    json_length!("duplicate_rows"),
    "), 0) AS bigint) FROM chunks WHERE run_id = $1 AND duplicate_rows IS NOT NULL)"
);
/// A transaction without a prediction does not count, so that the law notices.
const PREDICTIONS: &str = concat!(
    "SELECT p.prediction, count(*), avg(p.fraud_score)
    FROM transactions t JOIN predictions p ON p.transaction_id = t.id WHERE t.run_id = $1",
    of_either_type!(),
    " GROUP BY p.prediction"
);
pub(crate) const INVALID: &str = "
    SELECT reason, count(*) FROM invalid_transactions WHERE run_id = $1 GROUP BY reason ORDER BY count(*) DESC, reason";
pub(crate) const FAILED: &str = "
    SELECT class, count(*) FROM failed_transactions WHERE run_id = $1 GROUP BY class ORDER BY count(*) DESC, class";

/// The tally of a row: predicted, invalid, failed, duplicate.
pub(crate) fn tally((predicted, invalid, failed, duplicate): (i64, i64, i64, i64)) -> Tally {
    Tally {
        predicted: unsigned(predicted),
        invalid: unsigned(invalid),
        failed: unsigned(failed),
        duplicate: unsigned(duplicate),
    }
}

/// All outcomes, counted from the data rows, and the predictions by label, the most frequent first.
pub(crate) async fn recount(
    connection: &mut Connection,
    run_id: &RunId,
) -> Result<(Tally, Vec<PredictionCount>), StoreError> {
    let others = tally(sqlx::query_as(OTHERS).bind(run_id.as_str()).fetch_one(&mut *connection).await?);
    fit_plans(&mut *connection, run_id).await?;
    let counts = match count_apart(&mut *connection, run_id).await? {
        Some(counts) => counts,
        None => sqlx::query_as(PREDICTIONS).bind(run_id.as_str()).fetch_all(connection).await?,
    };
    let count = |(prediction, count, mean_score)| PredictionCount { prediction, count: unsigned(count), mean_score };
    let mut counts: Vec<PredictionCount> = counts.into_iter().map(count).collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.prediction.cmp(&b.prediction)));
    let predicted = counts.iter().map(|count| count.count).sum();
    Ok((Tally { predicted, ..others }, counts))
}

pub(crate) async fn by_code(
    connection: &mut Connection,
    run_id: &RunId,
    query: &'static str,
) -> Result<Vec<(String, u64)>, StoreError> {
    let counts: Vec<(String, i64)> = sqlx::query_as(query).bind(run_id.as_str()).fetch_all(connection).await?;
    Ok(counts.into_iter().map(|(code, count)| (code, unsigned(count))).collect())
}

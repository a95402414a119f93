//! How the rows of a run are counted: by indexes where the run is a small part of the tables, by reading the tables where it is not.
//!
//! The planner cannot tell. It has no statistics of rows that were just loaded, and then takes any run for a two-hundredth of the table.
//! But the ledger knows how many rows a run has.

use assay_transaction::RunId;

use super::dialect::{Connection, of_either_type};
use crate::StoreError;
use crate::values::LabelCounts;

/// Fits the plans of the next statements to the size of a run. Finding a row by its indexes takes as long as reading a fifth of a page.
const FIT_PLANS: &str = "
    SELECT set_config('enable_seqscan', CASE WHEN is_large THEN 'on' ELSE 'off' END, true),
        set_config('enable_nestloop', CASE WHEN is_large THEN 'off' ELSE 'on' END, true)
    FROM (SELECT coalesce((SELECT sum(predicted) FROM chunks WHERE run_id = $1), 0) >= 5 * coalesce((
        SELECT sum(pg_relation_size(relid)) FROM
            (SELECT relid FROM pg_partition_tree('predictions') UNION SELECT 'predictions'::regclass) AS parts), 0)
            / current_setting('block_size')::bigint AS is_large) AS size";
const IS_LARGE: &str = "SELECT current_setting('enable_seqscan') = 'on'";
/// How many transactions a run has, and a sum over hashes of their ids.
const TRANSACTIONS: &str = concat!(
    "SELECT count(*), CAST(coalesce(sum(uuid_hash_extended(id, 0)), 0) AS text) FROM transactions WHERE run_id = $1",
    of_either_type!()
);
/// The same of the predictions that a run asked for, by label.
const PREDICTIONS: &str = "
    SELECT prediction, count(*), avg(fraud_score), CAST(sum(uuid_hash_extended(transaction_id, 0)) AS text)
    FROM predictions WHERE run_id = $1 GROUP BY prediction";

/// Lets the next statements of this transaction find the rows of a run by indexes, or read the tables.
pub(super) async fn fit_plans(connection: &mut Connection, run_id: &RunId) -> Result<(), StoreError> {
    sqlx::query(FIT_PLANS).bind(run_id.as_str()).execute(connection).await?;
    Ok(())
}

/// Labels with their counts and mean scores, without joining the tables of a large run: if as many predictions name the run as it has
/// transactions, and hashes of their ids have the same sum, then each prediction is that of one of the transactions. They differ where a
/// row is missing, and where another run replaced a prediction: then there is no answer, and the tables must be joined.
pub(super) async fn count_apart(
    connection: &mut Connection,
    run_id: &RunId,
) -> Result<Option<LabelCounts>, StoreError> {
    let is_large: bool = sqlx::query_scalar(IS_LARGE).fetch_one(&mut *connection).await?;
    if !is_large {
        return Ok(None);
    }
    // The summaries say which pages have rows of the run.
    sqlx::raw_sql("SET LOCAL enable_seqscan = off").execute(&mut *connection).await?;
    let (transactions, sum): (i64, String) =
        sqlx::query_as(TRANSACTIONS).bind(run_id.as_str()).fetch_one(&mut *connection).await?;
    sqlx::raw_sql("SET LOCAL enable_seqscan = on").execute(&mut *connection).await?;
    let labels: Vec<(String, i64, Option<f64>, String)> =
        sqlx::query_as(PREDICTIONS).bind(run_id.as_str()).fetch_all(connection).await?;
    let predictions: i64 = labels.iter().map(|label| label.1).sum();
    // A sum of 64-bit numbers, one for each row of a table, has far fewer than 128 bits.
    let sums = labels.iter().try_fold(0_i128, |all, label| label.3.parse::<i128>().map(|one| all + one));
    if predictions != transactions || sums.ok() != sum.parse().ok() {
        return Ok(None);
    }
    Ok(Some(labels.into_iter().map(|(label, count, score, _)| (label, count, score)).collect()))
}

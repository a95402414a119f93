//! A run, recounted from its data rows and chunks at one point in time.

use assay_transaction::{RunId, Tally};

use super::dialect::{Connection, as_id, fit_plans, json_elements, of_either_type};
use super::runs;
use crate::ledger::sealing::beyond_end;
use crate::operations::audit::Gaps;
use crate::values::unsigned;
use crate::{Audit, StoreError};

/// Chunks that are read at a time.
const CHUNKS: u32 = 10_000;

/// One pass over the outcomes and the chunks in row order, where a chunk comes before the rows it covers. Kind 0 is
/// the first row of a chunk, 1 to 4 are outcomes, 5 is a transaction without a prediction, which is none.
const OUTCOMES: &str = concat!(
    "WITH marks (place, kind, reach) AS (
        SELECT first_row, 0, first_row + rows FROM chunks WHERE run_id = $1
        UNION ALL
        SELECT t.row_number, CASE WHEN p.transaction_id IS NOT NULL THEN 1 ELSE 5 END, 0
            FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.id WHERE t.run_id = $1",
    of_either_type!(),
    " UNION ALL SELECT row_number, 2, 0 FROM invalid_transactions WHERE run_id = $1
        UNION ALL SELECT row_number, 3, 0 FROM failed_transactions WHERE run_id = $1
        UNION ALL SELECT CAST(element.value->>0 AS bigint), 4, 0 FROM chunks, ",
    json_elements!("duplicate_rows"),
    " WHERE run_id = $1 AND duplicate_rows IS NOT NULL
    ), seen AS (
        SELECT kind,
            kind BETWEEN 1 AND 4 AS is_outcome,
            max(reach) OVER so_far > place AS is_covered,
            coalesce(lag(place) OVER so_far = place AND lag(kind) OVER so_far > 0, false) AS is_repeated
        FROM marks WINDOW so_far AS (ORDER BY place, kind ROWS UNBOUNDED PRECEDING)
    )
    SELECT count(*) FILTER (WHERE kind = 1), count(*) FILTER (WHERE kind = 2), count(*) FILTER (WHERE kind = 3),
        count(*) FILTER (WHERE kind = 4), count(*) FILTER (WHERE kind = 5),
        count(*) FILTER (WHERE is_outcome AND NOT is_repeated), count(*) FILTER (WHERE is_outcome AND NOT is_covered)
    FROM seen"
);

/// What the chunks claim about transactions.
const CLAIMS: &str = concat!(
    "SELECT (SELECT CAST(coalesce(sum(predicted), 0) AS bigint) FROM chunks WHERE run_id = $1), (SELECT count(*) FROM chunks, ",
    json_elements!("duplicate_rows"),
    " WHERE run_id = $1 AND duplicate_rows IS NOT NULL AND (SELECT t.id FROM transactions t WHERE t.id = ",
    as_id!("element.value->>1"),
    ") IS NULL)"
);

pub(crate) async fn audit(connection: &mut Connection, run_id: &RunId) -> Result<Option<Audit>, StoreError> {
    let Some(run) = runs::by_id(connection, run_id).await? else { return Ok(None) };
    fit_plans(&mut *connection, run_id).await?;
    let counts: (i64, i64, i64, i64, i64, i64, i64) =
        sqlx::query_as(OUTCOMES).bind(run_id.as_str()).fetch_one(&mut *connection).await?;
    let (predicted, invalid, failed, duplicate, unpredicted, distinct_rows, uncovered_rows) = counts;
    let (credited, unfounded): (i64, i64) =
        sqlx::query_as(CLAIMS).bind(run_id.as_str()).fetch_one(&mut *connection).await?;
    let mut audit = Audit {
        tally: Tally {
            predicted: unsigned(predicted),
            invalid: unsigned(invalid),
            failed: unsigned(failed),
            duplicate: unsigned(duplicate),
        },
        distinct_rows: unsigned(distinct_rows),
        uncovered_rows: unsigned(uncovered_rows),
        unpredicted: unsigned(unpredicted),
        unfounded_duplicates: unsigned(unfounded),
        credited: unsigned(credited),
        chunks_recorded: 0,
        rows_covered: 0,
        chunks_beyond: 0,
        missing: Vec::new(),
        chunks_missing: 0,
        run,
    };
    let mut gaps = Gaps::new(audit.run.sealed.map(|sealed| sealed.chunks_total));
    let mut next = 0;
    loop {
        let chunks = runs::recorded_from(connection, run_id, next, CHUNKS).await?;
        for chunk in &chunks {
            let end = audit.run.sealed;
            let is_beyond = end.is_some_and(|end| beyond_end(run_id, chunk.chunk, chunk.range, end).is_some());
            audit.chunks_recorded += 1;
            audit.rows_covered += chunk.range.rows;
            audit.chunks_beyond += u64::from(is_beyond);
            gaps.recorded(chunk.chunk);
        }
        match chunks.last() {
            Some(last) => next = last.chunk + 1,
            None => break,
        }
    }
    (audit.missing, audit.chunks_missing) = gaps.end(audit.run.checkpoint.chunk);
    Ok(Some(audit))
}

//! The law, counted from the tables alone: `rows_read = predicted + invalid + failed + duplicate`, for every run.
//!
//! It is checked row by row, which is more than the sums say: each row number from 1 to `rows_read` has exactly one outcome,
//! and the recorded chunks are those from 0 to the total, each of them once.

use std::collections::BTreeMap;
use std::path::Path;

use assay_transaction::Tally;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::Database;

/// A run: its name, its state, the rows and the chunks that were counted when it was sealed.
type RunRow = (String, String, Option<i64>, Option<i64>);
/// Its rows that have an outcome: run, row number, which.
type OutcomeRow = (String, i64, String);
/// Its recorded chunks: run, chunk.
type ChunkRow = (String, i64);

/// A live run is judged by what has a place in it, as it is open until its day is over.
const RUNS: &str = "
    SELECT run_id, CASE WHEN state = 'loading' AND next_row IS NOT NULL THEN 'complete' ELSE state END,
        coalesce(rows_read, next_row - 1), coalesce(chunks_total, next_chunk)
    FROM runs LEFT JOIN live_runs USING (run_id)";
const CHUNKS: &str = "SELECT run_id, chunk FROM chunks ORDER BY 1, 2";
/// Transactions without a prediction, and predictions without a transaction.
const HALVES: &str = "
    SELECT count(*) FROM transactions t FULL JOIN predictions p ON p.transaction_id = t.id
    WHERE t.id IS NULL OR p.transaction_id IS NULL";

/// The outcomes of all rows, with the words in which a database takes an array of pairs apart.
macro_rules! outcomes {
    ($row_of_pair:literal, $pairs:literal) => {
        concat!(
            "SELECT t.run_id, t.row_number, 'predicted' AS outcome FROM transactions t ",
            "JOIN predictions p ON p.transaction_id = t.id ",
            "UNION ALL SELECT run_id, row_number, 'invalid' FROM invalid_transactions ",
            "UNION ALL SELECT run_id, row_number, 'failed' FROM failed_transactions ",
            "UNION ALL SELECT run_id, ",
            $row_of_pair,
            ", 'duplicate' FROM chunks, ",
            $pairs,
            " AS pair ORDER BY 1, 2"
        )
    };
}

/// Demands that every run of the database is finished and that the law holds for each; returns the tally of each.
pub async fn holds(database: &Database) -> BTreeMap<String, Tally> {
    const OUTCOMES: &str = outcomes!("(pair ->> 0)::bigint", "jsonb_array_elements(duplicate_rows)");
    let pool = database.pool();
    let halves: i64 = sqlx::query_scalar(HALVES).fetch_one(pool).await.unwrap();
    assert_eq!(halves, 0, "transactions without a prediction, or the other way round");
    check(
        sqlx::query_as(RUNS).fetch_all(pool).await.unwrap(),
        sqlx::query_as(CHUNKS).fetch_all(pool).await.unwrap(),
        sqlx::query_as(OUTCOMES).fetch_all(pool).await.unwrap(),
    )
}

/// The same for a SQLite file.
pub async fn holds_in_file(path: &Path) -> BTreeMap<String, Tally> {
    const OUTCOMES: &str = outcomes!("json_extract(pair.value, '$[0]')", "json_each(duplicate_rows)");
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(path).read_only(true)).await.unwrap();
    let halves: i64 = sqlx::query_scalar(HALVES).fetch_one(&pool).await.unwrap();
    assert_eq!(halves, 0, "transactions without a prediction, or the other way round");
    let tallies = check(
        sqlx::query_as(RUNS).fetch_all(&pool).await.unwrap(),
        sqlx::query_as(CHUNKS).fetch_all(&pool).await.unwrap(),
        sqlx::query_as(OUTCOMES).fetch_all(&pool).await.unwrap(),
    );
    pool.close().await;
    tallies
}

/// Demands that there was one run, and that the law holds for it.
pub async fn holds_for_one_run(database: &Database) -> Tally {
    only(holds(database).await)
}

/// The tally of the one run that there is.
pub fn only(tallies: BTreeMap<String, Tally>) -> Tally {
    assert_eq!(tallies.len(), 1, "one run, not {tallies:?}");
    tallies.into_values().next().expect("there is one")
}

fn check(runs: Vec<RunRow>, chunks: Vec<ChunkRow>, outcomes: Vec<OutcomeRow>) -> BTreeMap<String, Tally> {
    let mut rows = by_run(outcomes.into_iter().map(|(run, row, outcome)| (run, (row, outcome))));
    let mut chunks = by_run(chunks);
    let mut tallies = BTreeMap::new();
    for (run_id, state, rows_read, chunks_total) in runs {
        assert!(["complete", "failed", "cancelled"].contains(&state.as_str()), "run {run_id} is {state}, not finished");
        let rows_read = rows_read.expect("a finished run knows its rows");
        let chunks_total = chunks_total.expect("a finished run knows its chunks");
        let rows = rows.remove(&run_id).unwrap_or_default();
        let numbers: Vec<i64> = rows.iter().map(|(number, _)| *number).collect();
        let expected: Vec<i64> = (1..=rows_read).collect();
        assert_eq!(numbers, expected, "row numbers of run {run_id} with an outcome, of {rows_read} rows read");
        let recorded = chunks.remove(&run_id).unwrap_or_default();
        let expected: Vec<i64> = (0..chunks_total).collect();
        assert_eq!(recorded, expected, "recorded chunks of run {run_id}, of {chunks_total}");
        let count = |wanted: &str| rows.iter().filter(|(_, outcome)| outcome == wanted).count() as u64;
        let tally = Tally {
            predicted: count("predicted"),
            invalid: count("invalid"),
            failed: count("failed"),
            duplicate: count("duplicate"),
        };
        tallies.insert(run_id, tally);
    }
    assert!(rows.is_empty(), "rows of runs that are not in `runs`: {rows:?}");
    assert!(chunks.is_empty(), "chunks of runs that are not in `runs`: {chunks:?}");
    tallies
}

fn by_run<T>(rows: impl IntoIterator<Item = (String, T)>) -> BTreeMap<String, Vec<T>> {
    let mut runs: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (run_id, row) in rows {
        runs.entry(run_id).or_default().push(row);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: i64, chunks: i64) -> Vec<RunRow> {
        vec![("a".into(), "complete".into(), Some(rows), Some(chunks))]
    }

    fn outcomes(rows: &[(i64, &str)]) -> Vec<OutcomeRow> {
        rows.iter().map(|(row, outcome)| ("a".into(), *row, (*outcome).into())).collect()
    }

    fn chunks(chunks: &[i64]) -> Vec<ChunkRow> {
        chunks.iter().map(|chunk| ("a".into(), *chunk)).collect()
    }

    #[test]
    fn counts_what_became_of_each_row() {
        let rows = outcomes(&[(1, "predicted"), (2, "invalid"), (3, "failed"), (4, "duplicate"), (5, "predicted")]);
        let tally = only(check(run(5, 2), chunks(&[0, 1]), rows));
        assert_eq!(tally, Tally { predicted: 2, invalid: 1, failed: 1, duplicate: 1 });
    }

    #[test]
    fn sees_every_breach() {
        let good = [(1, "predicted"), (2, "invalid")];
        let unsealed = vec![("a".into(), "loading".into(), None, None)];
        let cases = [
            ("a row without an outcome", run(3, 1), chunks(&[0]), outcomes(&good)),
            ("a row with two", run(2, 1), chunks(&[0]), outcomes(&[(1, "predicted"), (1, "failed"), (2, "invalid")])),
            ("a row too many", run(1, 1), chunks(&[0]), outcomes(&good)),
            ("a chunk that is missing", run(2, 2), chunks(&[1]), outcomes(&good)),
            ("a chunk too many", run(2, 1), chunks(&[0, 1]), outcomes(&good)),
            ("a run that is not finished", unsealed, chunks(&[0]), outcomes(&good)),
            ("an unknown run", Vec::new(), chunks(&[0]), outcomes(&good)),
        ];
        for (what, runs, chunks, rows) in cases {
            let seen = std::panic::catch_unwind(|| check(runs, chunks, rows));
            assert!(seen.is_err(), "{what} passed");
        }
    }
}

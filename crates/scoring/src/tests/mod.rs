//! The scorer against a scripted API, over a real socket.

mod broken_model;
mod forms;
mod load;
mod malformed_input;
mod no_health;
mod outages;
mod politeness;
mod protocols;
mod requests;
mod responses;
mod rows_at_fault;
#[cfg(feature = "sigv4")]
mod signatures;
mod start;
mod stub;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use assay_connect::RetryPolicy;
use assay_transaction::{Entry, FailedRow, Predicted};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::options::Policy;
use crate::{ApiOptions, ScoreError, Scorer};

/// Rows of a request: as many as the largest test has in a chunk.
const BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(100).unwrap();

/// What became of entries: each is in exactly one of the lists.
#[derive(Debug, PartialEq, Default)]
struct Scores {
    predicted: Vec<Predicted>,
    failed: Vec<FailedRow>,
}

/// Short waits, for quick tests.
fn quick() -> Policy {
    let backoff = |initial, maximum| RetryPolicy::new(Duration::from_millis(initial), Duration::from_millis(maximum));
    Policy {
        retry: backoff(1, 4),
        outage: backoff(2, 10),
        repair: backoff(2, 10),
        canary_delay: Duration::from_millis(5),
        health_timeout: Duration::from_millis(300),
        longest_retry_after: Duration::from_hours(1),
    }
}

fn options() -> ApiOptions {
    ApiOptions { api_timeout: Duration::from_secs(20), ..ApiOptions::default() }
}

fn scorer(url: &str) -> Scorer {
    Scorer::with_policy(url, &options(), quick()).unwrap()
}

fn scorer_with(url: &str, api_timeout: Duration, max_retries: u32) -> Scorer {
    let options = ApiOptions { max_retries, api_timeout, ..options() };
    Scorer::with_policy(url, &options, quick()).unwrap()
}

/// Scores chunks of nine good rows each, at the same time.
async fn score_chunks(scorer: &Scorer, chunks: u64) -> Vec<Scores> {
    join_all((0..chunks).map(|chunk| score(scorer, entries(chunk * 9..chunk * 9 + 9, "", &[])))).await
}

fn id(row: u64) -> Uuid {
    Uuid::from_u128(u128::from(row))
}

/// A transaction whose description is `kind`, for the stub's script.
fn entry(row: u64, kind: &str) -> Entry {
    let json = format!(
        r#"{{"id":"{}","description":"{kind}","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}}"#,
        id(row)
    );
    Entry { row, external_id: None, transaction: serde_json::from_str(&json).unwrap() }
}

/// Rows of a chunk; those in `bad` are of this kind, others are good.
fn entries(rows: std::ops::Range<u64>, kind: &str, bad: &[u64]) -> Vec<Entry> {
    rows.map(|row| entry(row, if bad.contains(&row) { kind } else { "good" })).collect()
}

async fn score(scorer: &Scorer, entries: Vec<Entry>) -> Scores {
    within(score_until(scorer, entries, &CancellationToken::new())).await.unwrap()
}

async fn score_until(scorer: &Scorer, entries: Vec<Entry>, stop: &CancellationToken) -> Result<Scores, ScoreError> {
    score_in_requests(scorer, entries, BATCH_SIZE, stop).await
}

async fn score_in_requests(
    scorer: &Scorer,
    entries: Vec<Entry>,
    batch_size: NonZeroUsize,
    stop: &CancellationToken,
) -> Result<Scores, ScoreError> {
    let transactions: Vec<_> = entries.iter().map(|entry| entry.transaction.clone()).collect();
    let outcomes = scorer.score(&transactions, batch_size, stop).await?;
    assert_eq!(outcomes.len(), entries.len());
    let mut found = Scores::default();
    for (entry, outcome) in entries.into_iter().zip(outcomes) {
        match outcome {
            Ok(prediction) => found.predicted.push(Predicted { entry, prediction }),
            Err(failure) => found.failed.push(FailedRow::new(entry, failure)),
        }
    }
    Ok(found)
}

/// Fails a test that hangs.
async fn within<T>(work: impl Future<Output = T>) -> T {
    // Without a global subscriber, a thread may cache that a log line is disabled while another test captures it.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    tokio::time::timeout(Duration::from_mins(1), work).await.expect("it hangs")
}

fn predicted(scores: &Scores) -> Vec<u64> {
    scores.predicted.iter().map(|predicted| predicted.entry.row).collect()
}

fn failed(scores: &Scores) -> Vec<u64> {
    scores.failed.iter().map(|failed| failed.entry.row).collect()
}

/// Whether each of the rows has exactly one outcome, these are the failed ones, and all is in order.
#[track_caller]
fn assert_outcomes(scores: &Scores, rows: std::ops::Range<u64>, expected_failed: &[u64]) {
    assert_eq!(failed(scores), expected_failed);
    let bad: BTreeSet<u64> = expected_failed.iter().copied().collect();
    assert_eq!(predicted(scores), rows.filter(|row| !bad.contains(row)).collect::<Vec<_>>());
}

//! Rows that the API refuses or fails on while the model works: found by bisection, and no other row fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assay_transaction::FailureClass;
use futures_util::future::join_all;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, entry, options, quick, score, scorer, scorer_with, within};
use crate::{ApiOptions, ConcurrencyMode, Scorer};

const N: u64 = 100;
/// `ceil(log2 N)`.
const STEPS: u64 = 7;

#[tokio::test]
async fn bisection_finds_the_rows_within_its_bound() {
    let every_tenth: Vec<u64> = (0..N / 10).map(|tenth| tenth * 10 + 3).collect();
    let sets: [&[u64]; 6] = [&[0], &[99], &[42], &[49, 50], &[7, 8, 9, 60, 99], &every_tenth];
    for (status, class) in [(400, FailureClass::Rejected), (422, FailureClass::Rejected), (500, FailureClass::Suspect)]
    {
        for bad in sets {
            let stub =
                Stub::serve(move |request| if request.has("bad") { Reply::Status(status) } else { Reply::Scores });
            let scorer = scorer(&stub.url());
            let found = score(&scorer, entries(0..N, "bad", bad)).await;
            assert_outcomes(&found, 0..N, bad);
            for row in &found.failed {
                assert_eq!(row.class, class);
                assert!(row.attempts >= 2 && u64::from(row.attempts) <= STEPS + 2 + 2 * 3, "{}", row.attempts);
                assert!(row.reason.contains(&status.to_string()) && row.reason.len() <= 200, "{}", row.reason);
                assert!(!row.reason.contains("952"), "the API's own words are not repeated: {}", row.reason);
            }
            let k = bad.len() as u64;
            let stats = scorer.stats();
            let halves = stats.requests - stats.retries - stats.canaries - 1;
            assert_eq!(halves, 2 * stats.bisections);
            assert!(halves <= 2 * k * STEPS, "{status} {bad:?}: {stats:?}");
            // At most one for each row and one for the whole.
            assert!(stats.canaries <= k + 1, "{status} {bad:?}: {stats:?}");
            let repetitions = if class == FailureClass::Suspect { u64::from(options().max_retries) } else { 1 };
            assert!(stats.retries <= repetitions * (k + 1), "{status} {bad:?}: {stats:?}");
            assert_eq!((stats.scored, stats.failed), (N - k, k));
        }
    }
}

#[tokio::test]
async fn concurrent_chunks_fail_their_own_rows_only() {
    let stub = Stub::serve(|request| match () {
        () if request.has("rejected") => Reply::Status(422),
        () if request.has("suspect") => Reply::Status(500),
        () => Reply::Scores,
    });
    let scorer = scorer(&stub.url());
    let chunks = (0..20_u64).map(|chunk| {
        let (first, scorer) = (chunk * 50, &scorer);
        let mut rows = entries(first..first + 50, "rejected", &[first + 7]);
        rows[20] = entry(first + 20, "suspect");
        async move {
            let found = score(scorer, rows).await;
            assert_outcomes(&found, first..first + 50, &[first + 7, first + 20]);
            assert_eq!(found.failed[0].class, FailureClass::Rejected);
            assert_eq!(found.failed[1].class, FailureClass::Suspect);
        }
    });
    within(join_all(chunks)).await;
    assert_eq!(scorer.stats().failed, 40);
}

#[tokio::test]
async fn no_more_requests_at_a_time_than_workers() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    // A server that holds requests until the allowed number has arrived, so that more would show.
    let app = axum::Router::new().fallback(move |body: String| {
        let (counted, peak, gate) = (Arc::clone(&counted), Arc::clone(&peak), Arc::clone(&gate));
        async move {
            let under_way = counted.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(under_way, Ordering::SeqCst);
            if under_way == 3 {
                gate.add_permits(1000);
            }
            gate.acquire().await.unwrap().forget();
            counted.fetch_sub(1, Ordering::SeqCst);
            let rows: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
            let items: Vec<_> =
                rows.iter().map(|row| serde_json::json!({"transaction_id": row["id"], "label": 1})).collect();
            serde_json::to_string(&items).unwrap()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let three = ApiOptions { api_max_workers: 3, api_concurrency: ConcurrencyMode::Fixed, ..options() };
    let scorer = Scorer::with_policy(&url, &three, quick()).unwrap();
    let found = within(join_all((0..30).map(|chunk| score(&scorer, entries(chunk * 5..chunk * 5 + 5, "", &[]))))).await;
    assert!(found.iter().all(|found| found.predicted.len() == 5));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    drop(opened);
    serving.abort();
}

#[tokio::test]
async fn a_temporary_failure_is_retried() {
    let stub = Stub::serve(|request| if request.number < 3 { Reply::Status(500) } else { Reply::Scores });
    let scorer = scorer(&stub.url());
    assert_outcomes(&score(&scorer, entries(0..N, "", &[])).await, 0..N, &[]);
    let stats = scorer.stats();
    assert_eq!((stats.requests, stats.retries, stats.bisections, stats.outages), (4, 3, 0, 0));
}

#[tokio::test]
async fn without_retries_a_group_is_halved_at_once() {
    let stub = Stub::serve(|request| if request.has("bad") { Reply::Status(500) } else { Reply::Scores });
    let scorer = scorer_with(&stub.url(), Duration::from_secs(20), 0);
    let found = score(&scorer, entries(0..8, "bad", &[5])).await;
    assert_outcomes(&found, 0..8, &[5]);
    // Whole, three halvings, and one retry of the single row.
    assert_eq!(found.failed[0].attempts, 5);
    assert_eq!(scorer.stats().retries, 1);
}

#[tokio::test]
async fn too_large_requests_become_smaller_for_good() {
    let row = entry(0, "good").transaction.as_json().len();
    let most = 30 * row;
    let stub = Stub::serve(move |request| if request.body.len() > most { Reply::Status(413) } else { Reply::Scores });
    let scorer = scorer(&stub.url());
    assert_outcomes(&score(&scorer, entries(0..N, "", &[])).await, 0..N, &[]);
    let refused = || stub.requests().iter().filter(|request| request.body.len() > most).count();
    let before = refused();
    assert!(before > 0);
    for chunk in 1..4 {
        assert_outcomes(
            &score(&scorer, entries(chunk * N..(chunk + 1) * N, "", &[])).await,
            chunk * N..(chunk + 1) * N,
            &[],
        );
    }
    assert_eq!(refused(), before, "later requests are small enough from the start");
}

#[tokio::test]
async fn a_row_that_is_too_large_by_itself_fails() {
    let stub = Stub::serve(|request| if request.has("huge") { Reply::Status(413) } else { Reply::Scores });
    let found = score(&scorer(&stub.url()), entries(0..8, "huge", &[2])).await;
    assert_outcomes(&found, 0..8, &[2]);
    assert_eq!(found.failed[0].class, FailureClass::Rejected);
}

/// A row crashes the process behind a gateway, which restarts; `/health` responds all the time.
#[tokio::test]
async fn a_row_that_crashes_the_model_is_found() {
    for status in [None, Some(502)] {
        let stub = Stub::serve(move |request| match status {
            _ if !request.has("crash") => Reply::Scores,
            Some(status) => Reply::Status(status),
            None => Reply::Cut,
        });
        let found = score(&scorer(&stub.url()), entries(0..8, "crash", &[6])).await;
        assert_outcomes(&found, 0..8, &[6]);
        assert_eq!(found.failed[0].class, FailureClass::Suspect);
    }
}

#[tokio::test]
async fn a_row_that_stalls_the_model_is_found() {
    let stub = Stub::serve(|request| if request.has("slow") { Reply::Stall } else { Reply::Scores });
    let scorer = scorer_with(&stub.url(), Duration::from_millis(500), 1);
    let found = score(&scorer, entries(0..4, "slow", &[1])).await;
    assert_outcomes(&found, 0..4, &[1]);
    assert_eq!(found.failed[0].class, FailureClass::Suspect);
    assert!(
        found.failed[0].reason.contains("although the API responds to a health check"),
        "{}",
        found.failed[0].reason
    );
}

#[tokio::test]
async fn each_request_of_a_chunk_is_bisected_by_itself() {
    let stub = Stub::serve(|request| if request.has("bad") { Reply::Status(422) } else { Reply::Scores });
    let scorer = scorer(&stub.url());
    let batch_size = std::num::NonZeroUsize::new(20).unwrap();
    let bad = [3, 19, 20, 71];
    let stop = tokio_util::sync::CancellationToken::new();
    let found = super::score_in_requests(&scorer, entries(0..N, "bad", &bad), batch_size, &stop);
    assert_outcomes(&within(found).await.unwrap(), 0..N, &bad);
    assert!(stub.requests().iter().all(|request| request.ids().len() <= 20));
    // Two of the five requests are scored as they are.
    let whole = stub.requests().iter().filter(|request| request.ids().len() == 20).count();
    assert_eq!(whole, 5);
}

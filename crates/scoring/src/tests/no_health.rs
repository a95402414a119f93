//! An API without a health check: an open breaker probes with a waiting transaction, and uses its prediction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use assay_transaction::FailureClass;
use futures_util::future::join_all;

use super::stub::{ReceivedRequest, Reply, Stub};
use super::{assert_outcomes, entries, score, score_chunks, scorer, scorer_with, within};
use crate::ApiState;

/// Responses to `GET /health` of an API without one.
const NONE: [fn() -> Reply; 4] = [
    || Reply::Page(404, "content-type", "text/html"),
    || Reply::Page(405, "allow", "POST"),
    || Reply::Status(501),
    || Reply::Page(302, "location", "/login"),
];

/// How often each transaction was requested; none of them is made up.
fn requests_by_id(requests: &[ReceivedRequest]) -> HashMap<String, usize> {
    let mut ids = HashMap::new();
    for request in requests {
        assert!(!request.has("Assay connection check"), "a made-up transaction was sent: {}", request.body);
        for id in request.ids() {
            *ids.entry(id).or_default() += 1;
        }
    }
    ids
}

#[tokio::test]
async fn one_waiting_transaction_at_a_time_probes_and_is_scored() {
    for none in NONE {
        for down in [429, 502, 503, 504] {
            let is_well = Arc::new(AtomicBool::new(false));
            let script = Arc::clone(&is_well);
            let stub = Stub::with_health(
                move |_| if script.load(Ordering::SeqCst) { Reply::Scores } else { Reply::Status(down) },
                move |_| none(),
            );
            let scorer = scorer(&stub.url());
            let mut state = scorer.state();
            let work = score_chunks(&scorer, 20);
            let repair = async {
                state.wait_for(|state| matches!(state, ApiState::Unavailable { .. })).await.unwrap();
                let workers = scorer.max_workers();
                stub.wait_for_requests(workers + 10).await;
                let requests = stub.requests();
                assert!(requests[workers..].iter().all(|request| request.rows().len() == 1), "probes are small");
                is_well.store(true, Ordering::SeqCst);
                requests.len()
            };
            let (found, failed) = within(async { tokio::join!(work, repair) }).await;
            assert!(found.iter().all(|found| found.predicted.len() == 9), "{down}");
            assert_eq!(stub.health_requests(), 1, "a missing check is not asked again in the same outage");
            // One may have been in flight during the repair.
            let answered: Vec<_> = stub.requests().into_iter().skip(failed + 1).collect();
            assert!(
                requests_by_id(&answered).values().all(|times| *times == 1),
                "a scored probe is not requested again"
            );
            requests_by_id(&stub.requests());
            let done = scorer.stats();
            assert_eq!((done.outages, done.canaries, done.failed), (1, 0, 0));
        }
    }
}

#[tokio::test]
async fn a_check_that_was_never_healthy_holds_back_no_work() {
    for health in [500, 502, 503] {
        let stub = Stub::with_health(
            |request| if request.number < 8 { Reply::Status(503) } else { Reply::Scores },
            move |_| Reply::Status(health),
        );
        let scorer = scorer(&stub.url());
        assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
        requests_by_id(&stub.requests());
    }
}

#[tokio::test]
async fn a_check_without_a_response_holds_back_no_work() {
    for health in [|| Reply::Stall, || Reply::Drop] {
        let stub = Stub::with_health(
            |request| if request.number < 9 { Reply::Status(503) } else { Reply::Scores },
            move |_| health(),
        );
        let scorer = scorer(&stub.url());
        let found = within(score(&scorer, entries(0..9, "", &[]))).await;
        assert_outcomes(&found, 0..9, &[]);
        requests_by_id(&stub.requests());
    }
}

#[tokio::test]
async fn a_check_that_was_healthy_is_trusted_and_asked_again_in_each_outage() {
    let (health, down) = (Arc::new(AtomicUsize::new(404)), Arc::new(AtomicBool::new(false)));
    let (answer, is_down) = (Arc::clone(&health), Arc::clone(&down));
    let stub = Stub::with_health(
        move |_| if is_down.load(Ordering::SeqCst) { Reply::Status(503) } else { Reply::Scores },
        move |_| Reply::Status(u16::try_from(answer.load(Ordering::SeqCst)).unwrap()),
    );
    let scorer = scorer(&stub.url());
    // A proxy answers for an API that is still starting.
    within(scorer.wait_until_ready(Duration::from_secs(50))).await.unwrap();
    health.store(200, Ordering::SeqCst);
    down.store(true, Ordering::SeqCst);
    let mut state = scorer.state();
    let work = score(&scorer, entries(0..9, "", &[]));
    let repair = async {
        state.wait_for(|state| !state.is_ready()).await.unwrap();
        stub.wait_for_requests(3).await;
        health.store(503, Ordering::SeqCst);
        let (requests, checks) = (stub.requests().len(), stub.health_requests());
        while stub.health_requests() < checks + 10 {
            tokio::task::yield_now().await;
        }
        // One may have been in flight.
        assert!(stub.requests().len() <= requests + 1, "the check is trusted");
        down.store(false, Ordering::SeqCst);
        health.store(200, Ordering::SeqCst);
    };
    let (found, ()) = within(async { tokio::join!(work, repair) }).await;
    assert_outcomes(&found, 0..9, &[]);
}

#[tokio::test]
async fn a_wrong_setting_is_probed_with_waiting_transactions_even_after_a_success() {
    for status in [401, 403, 404] {
        let is_right = Arc::new(AtomicBool::new(true));
        let script = Arc::clone(&is_right);
        let stub = Stub::with_health(
            move |_| if script.load(Ordering::SeqCst) { Reply::Scores } else { Reply::Status(status) },
            |_| Reply::Status(404),
        );
        let scorer = scorer(&stub.url());
        score(&scorer, entries(1000..1009, "", &[])).await;
        is_right.store(false, Ordering::SeqCst);
        let mut state = scorer.state();
        let work = score_chunks(&scorer, 9);
        let repair = async {
            state.wait_for(|state| matches!(state, ApiState::Misconfigured { .. })).await.unwrap();
            let reason = scorer.health().unwrap_err();
            assert!(reason.contains("ML_API_URL"), "{reason}");
            stub.wait_for_requests(20).await;
            is_right.store(true, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(work, repair) }).await;
        assert!(found.iter().all(|found| found.predicted.len() == 9), "{status}");
        let requests = requests_by_id(&stub.requests());
        assert_eq!(requests.len(), 90);
        assert_eq!(scorer.stats().canaries, 0, "only waiting transactions are sent");
    }
}

#[tokio::test]
async fn waiting_transactions_discover_a_repaired_model() {
    for broken in [422, 500] {
        let is_broken = Arc::new(AtomicBool::new(false));
        let script = Arc::clone(&is_broken);
        let stub = Stub::with_health(
            move |_| if script.load(Ordering::SeqCst) { Reply::Status(broken) } else { Reply::Scores },
            |_| Reply::Status(404),
        );
        let scorer = scorer(&stub.url());
        score(&scorer, entries(1000..1001, "", &[])).await;
        is_broken.store(true, Ordering::SeqCst);
        let mut state = scorer.state();
        let work = score_chunks(&scorer, 9);
        let repair = async {
            state.wait_for(|state| !state.is_ready()).await.unwrap();
            stub.wait_for_requests(stub.requests().len() + 20).await;
            is_broken.store(false, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(work, repair) }).await;
        assert!(found.iter().all(|found| found.predicted.len() == 9 && found.failed.is_empty()), "{broken}");
    }
}

/// The probing transaction may itself be at fault, alone or among others.
#[tokio::test]
async fn rows_at_fault_are_found_after_an_outage_too() {
    for bad in [&[0][..], &[0, 1, 2, 8], &[4]] {
        let stub = Stub::with_health(
            |request| match request.number {
                0..12 => Reply::Status(503),
                _ if request.has("bad") => Reply::Status(422),
                _ => Reply::Scores,
            },
            |_| Reply::Status(404),
        );
        let found = score(&scorer(&stub.url()), entries(0..9, "bad", bad)).await;
        assert_outcomes(&found, 0..9, bad);
        assert!(found.failed.iter().all(|row| row.class == FailureClass::Rejected));
    }
}

/// A row that crashes the model looks like an outage, and no health check distinguishes them.
#[tokio::test]
async fn a_row_that_crashes_the_model_is_found() {
    for status in [None, Some(502)] {
        for bad in [0, 6] {
            let stub = Stub::with_health(
                move |request| match status {
                    _ if !request.has("crash") => Reply::Scores,
                    Some(status) => Reply::Status(status),
                    None => Reply::Cut,
                },
                |_| Reply::Status(404),
            );
            let scorer = scorer(&stub.url());
            let found = score(&scorer, entries(0..8, "crash", &[bad])).await;
            assert_outcomes(&found, 0..8, &[bad]);
            assert_eq!(found.failed[0].class, FailureClass::Suspect);
            requests_by_id(&stub.requests());
        }
    }
}

#[tokio::test]
async fn a_row_that_stalls_the_model_is_found() {
    let stub = Stub::with_health(
        |request| if request.has("slow") { Reply::Stall } else { Reply::Scores },
        |_| Reply::Status(404),
    );
    let scorer = scorer_with(&stub.url(), Duration::from_millis(500), 1);
    let found = score(&scorer, entries(0..4, "slow", &[1])).await;
    assert_outcomes(&found, 0..4, &[1]);
    assert_eq!(found.failed[0].class, FailureClass::Suspect);
}

/// The only row waiting after an outage stalls the model.
#[tokio::test]
async fn a_row_that_stalls_the_model_is_found_after_an_outage() {
    let is_away = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_away);
    let stub = Stub::with_health(
        move |request| match () {
            () if script.swap(false, Ordering::SeqCst) => Reply::Status(503),
            () if request.has("slow") => Reply::Stall,
            () => Reply::Scores,
        },
        |_| Reply::Status(404),
    );
    let scorer = scorer_with(&stub.url(), Duration::from_millis(300), 1);
    score(&scorer, entries(1000..1001, "", &[])).await;
    is_away.store(true, Ordering::SeqCst);
    let found = score(&scorer, entries(0..1, "slow", &[0])).await;
    assert_outcomes(&found, 0..1, &[0]);
    requests_by_id(&stub.requests());
}

#[tokio::test]
async fn an_api_that_always_stalls_fails_no_row() {
    let is_stalled = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&is_stalled);
    let stub = Stub::with_health(
        move |_| if script.load(Ordering::SeqCst) { Reply::Stall } else { Reply::Scores },
        |_| Reply::Status(404),
    );
    let scorer = scorer_with(&stub.url(), Duration::from_millis(100), 1);
    let mut state = scorer.state();
    let work = join_all((0..5).map(|chunk| score(&scorer, entries(chunk * 4..chunk * 4 + 4, "", &[]))));
    let repair = async {
        state.wait_for(|state| !state.is_ready()).await.unwrap();
        stub.wait_for_requests(stub.requests().len() + 3).await;
        is_stalled.store(false, Ordering::SeqCst);
    };
    let (found, ()) = within(async { tokio::join!(work, repair) }).await;
    for (found, chunk) in found.iter().zip(0..) {
        assert_outcomes(found, chunk * 4..chunk * 4 + 4, &[]);
    }
}

//! Outages and wrong settings: they are waited out, use up no attempt, and fail no row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use assay_transaction::Exit;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, score, score_chunks, scorer, scorer_with, within};
use crate::{ApiState, ScoreError};

#[tokio::test]
async fn an_outage_of_any_length_is_waited_out() {
    for status in [429, 502, 503, 504] {
        // Many more failures than retries; `/health` is asked in between.
        let stub =
            Stub::serve(
                move |request| {
                    if request.number < 12 { Reply::RetryAfter(status, "0".to_owned()) } else { Reply::Scores }
                },
            );
        let scorer = scorer(&stub.url());
        let found = within(score_chunks(&scorer, 4)).await;
        for (found, chunk) in found.iter().zip(0..) {
            assert_outcomes(found, chunk * 9..chunk * 9 + 9, &[]);
        }
        assert!(stub.health_requests() > 0);
        assert!(scorer.stats().outages > 0);
        assert!(scorer.state().borrow().is_ready());
    }
}

#[tokio::test]
async fn during_an_outage_one_probes_and_all_others_wait() {
    let is_well = Arc::new(AtomicBool::new(false));
    let (predict, health) = (Arc::clone(&is_well), Arc::clone(&is_well));
    let reply = |is_well: &AtomicBool, well| if is_well.load(Ordering::SeqCst) { well } else { Reply::Status(503) };
    let stub = Stub::with_health(move |_| reply(&predict, Reply::Scores), move |_| reply(&health, Reply::Status(200)));
    let scorer = scorer(&stub.url());
    // Its health check was healthy before, and so is trusted.
    is_well.store(true, Ordering::SeqCst);
    within(scorer.wait_until_ready(Duration::from_secs(50))).await.unwrap();
    is_well.store(false, Ordering::SeqCst);
    let mut state = scorer.state();
    let work = score_chunks(&scorer, 20);
    let repair = async {
        state.wait_for(|state| matches!(state, ApiState::Unavailable { .. })).await.unwrap();
        while stub.health_requests() < 11 {
            tokio::task::yield_now().await;
        }
        // Only those in flight at the time.
        assert!(stub.requests().len() <= scorer.max_workers());
        is_well.store(true, Ordering::SeqCst);
    };
    let (found, ()) = within(async { tokio::join!(work, repair) }).await;
    assert!(found.iter().all(|found| found.predicted.len() == 9));
    assert_eq!(scorer.stats().outages, 1);
}

#[tokio::test]
async fn an_api_that_comes_up_late_is_found() {
    let mut stub = Stub::not_started(|_| Reply::Scores, |_| Reply::Status(200));
    let scorer = scorer(&stub.url());
    let mut state = scorer.state();
    let work = score(&scorer, entries(0..9, "", &[]));
    let start = async {
        let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        let ApiState::Unavailable { reason, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(reason, "connection refused");
        stub.start();
    };
    let (found, ()) = within(async { tokio::join!(work, start) }).await;
    assert_outcomes(&found, 0..9, &[]);
}

#[tokio::test]
async fn retry_after_is_respected() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_mins(10));
    for after in ["600".to_owned(), date] {
        for status in [429, 503] {
            let after = after.clone();
            let stub = Stub::serve(move |_| Reply::RetryAfter(status, after.clone()));
            let scorer = scorer(&stub.url());
            let (mut state, stop) = (scorer.state(), CancellationToken::new());
            let wait = async {
                state.wait_for(|state| !state.is_ready()).await.unwrap();
                let left = scorer.time_until_probe();
                assert!((Duration::from_secs(500)..=Duration::from_mins(10)).contains(&left), "{left:?}");
                stop.cancel();
            };
            let (ended, ()) =
                within(async { tokio::join!(super::score_until(&scorer, entries(0..9, "", &[]), &stop), wait) }).await;
            assert_eq!(ended, Err(ScoreError::Stopped));
            assert_eq!((stub.requests().len(), stub.health_requests()), (1, 0));
        }
    }
}

#[tokio::test]
async fn retry_after_ends() {
    let stub =
        Stub::serve(|request| if request.number == 0 { Reply::RetryAfter(429, "1".to_owned()) } else { Reply::Scores });
    let began = Instant::now();
    assert_outcomes(&score(&scorer(&stub.url()), entries(0..9, "", &[])).await, 0..9, &[]);
    assert!(began.elapsed() >= Duration::from_secs(1), "never earlier than requested");
    assert_eq!(stub.requests().len(), 2);
}

#[tokio::test]
async fn a_stall_with_an_unhealthy_check_is_an_outage() {
    let stub = Stub::with_health(|request| if request.number < 2 { Reply::Stall } else { Reply::Scores }, {
        let checks = std::sync::atomic::AtomicUsize::new(0);
        move |_| if checks.fetch_add(1, Ordering::SeqCst) < 3 { Reply::Status(500) } else { Reply::Status(200) }
    });
    let scorer = scorer_with(&stub.url(), Duration::from_millis(500), 0);
    assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
    let stats = scorer.stats();
    assert!(stats.outages > 0, "{stats:?}");
}

#[tokio::test]
async fn a_wrong_setting_is_waited_out_and_named() {
    for status in [301, 401, 403, 404, 405, 418] {
        let is_right = Arc::new(AtomicBool::new(false));
        let right = Arc::clone(&is_right);
        let stub =
            Stub::serve(move |_| if right.load(Ordering::SeqCst) { Reply::Scores } else { Reply::Status(status) });
        let scorer = scorer(&stub.url());
        let mut state = scorer.state();
        let work = score_chunks(&scorer, 20);
        let repair = async {
            let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
            let ApiState::Misconfigured { reason, remedy } = seen else { panic!("{status}: {seen:?}") };
            assert!(reason.contains(&status.to_string()), "{reason}");
            assert!(remedy.contains("ML_API_URL"), "{remedy}");
            stub.wait_for_requests(15).await;
            is_right.store(true, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(work, repair) }).await;
        assert!(found.iter().all(|found| found.predicted.len() == 9), "{status}");
        let seen = scorer.stats();
        assert_eq!((seen.outages, seen.canaries, seen.failed), (1, 0, 0), "only real transactions were sent");
    }
}

#[tokio::test]
async fn a_lost_connection_is_retried() {
    let stub = Stub::serve(|request| if request.number % 3 == 0 { Reply::Cut } else { Reply::Scores });
    let scorer = scorer(&stub.url());
    for chunk in 0..6 {
        assert_outcomes(
            &score(&scorer, entries(chunk * 9..chunk * 9 + 9, "", &[])).await,
            chunk * 9..chunk * 9 + 9,
            &[],
        );
    }
    assert_eq!(scorer.stats().outages, 0, "a single lost connection is no outage");
}

#[tokio::test]
async fn stop_ends_every_kind_of_wait() {
    for reply in [|| Reply::Status(503), || Reply::Status(401), || Reply::Status(500), || Reply::Status(422)] {
        let stub = Stub::with_health(move |_| reply(), |_| Reply::Status(503));
        let scorer = scorer(&stub.url());
        let (mut state, stop) = (scorer.state(), CancellationToken::new());
        let work = join_all(
            (0..10).map(|chunk| super::score_until(&scorer, entries(chunk * 4..chunk * 4 + 4, "", &[]), &stop)),
        );
        let end = async {
            state.wait_for(|state| !state.is_ready()).await.unwrap();
            stop.cancel();
        };
        let (ended, ()) = within(async { tokio::join!(work, end) }).await;
        assert!(ended.iter().all(|ended| *ended == Err(ScoreError::Stopped)));
        let before = stub.requests().len();
        assert_eq!(super::score_until(&scorer, entries(0..4, "", &[]), &stop).await, Err(ScoreError::Stopped));
        assert_eq!(stub.requests().len(), before, "nothing is sent after a stop");
    }
}

#[tokio::test]
async fn requests_in_flight_at_a_stop_may_complete() {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let stub = Stub::serve(move |_| {
        stopping.cancel();
        Reply::Scores
    });
    let found = within(super::score_until(&scorer(&stub.url()), entries(0..9, "", &[]), &stop)).await.unwrap();
    assert_outcomes(&found, 0..9, &[]);
}

#[tokio::test]
async fn an_api_without_tls_behind_https_is_a_wrong_setting() {
    let stub = Stub::serve(|_| Reply::Scores);
    let error = within(scorer(&stub.url().replace("http:", "https:")).wait_until_ready(Duration::from_secs(50)))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("TLS"), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
}

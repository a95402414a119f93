//! An API that is asked too often: its pauses are kept, and nothing is lost or blamed for them.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, options, quick, score, score_chunks, score_until, scorer, within};
use crate::{ApiHold, ApiOptions, ScoreError, Scorer, ToldHold};

#[tokio::test]
async fn a_refusal_between_scores_is_waited_out_and_opens_no_circuit() {
    let stub = Stub::serve(|request| match request.number {
        1 => Reply::RetryAfter(429, "1".to_owned()),
        2 => Reply::Status(429),
        _ => Reply::Scores,
    });
    let scorer = scorer(&stub.url());
    assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
    let began = Instant::now();
    assert_outcomes(&score(&scorer, entries(9..18, "", &[])).await, 9..18, &[]);
    assert!(began.elapsed() >= Duration::from_secs(1), "never earlier than requested");
    let stats = scorer.stats();
    assert_eq!((stats.outages, stats.retries, stats.bisections), (0, 0, 0), "{stats:?}");
    assert!(scorer.state().borrow().is_ready());
    assert_eq!((stub.requests().len(), stub.health_requests()), (4, 0));
}

#[tokio::test]
async fn a_canary_that_is_refused_by_rate_is_sent_again() {
    let stub = Stub::serve(|request| match request.number {
        // The canary, after the request of the row that is at fault.
        2 => Reply::RetryAfter(429, "1".to_owned()),
        _ if request.has("bad") => Reply::Status(422),
        _ => Reply::Scores,
    });
    let scorer = scorer(&stub.url());
    assert_outcomes(&score(&scorer, entries(0..9, "", &[])).await, 0..9, &[]);
    assert_outcomes(&score(&scorer, entries(9..10, "bad", &[9])).await, 9..10, &[9]);
    let stats = scorer.stats();
    assert_eq!((stats.outages, stats.canaries, stats.retries, stats.requests), (0, 2, 1, 5), "{stats:?}");
    assert!(scorer.state().borrow().is_ready());
}

#[tokio::test]
async fn during_a_hold_nothing_is_sent_that_was_not_under_way() {
    let stub = Stub::serve(|request| match request.number {
        0 => Reply::Scores,
        _ => Reply::RetryAfter(429, "9".to_owned()),
    });
    let two = ApiOptions { api_max_workers: 2, ..options() };
    let scorer = Scorer::with_policy(&stub.url(), &two, quick()).unwrap();
    score(&scorer, entries(0..9, "", &[])).await;
    let (mut holds, stop) = (scorer.pace().holds(), CancellationToken::new());
    // Most of these have passed the gate, and wait for one of two permits.
    let work = join_all((1..20).map(|chunk| score_until(&scorer, entries(chunk * 9..chunk * 9 + 9, "", &[]), &stop)));
    let wait = async {
        holds.changed().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.cancel();
    };
    let (ended, ()) = within(async { tokio::join!(work, wait) }).await;
    assert!(ended.iter().all(|ended| *ended == Err(ScoreError::Stopped)));
    assert!(stub.requests().len() <= 3, "{}", stub.requests().len());
    let ApiHold { reason, rate, .. } = holds.borrow().clone().unwrap();
    assert!(reason.contains("429") && rate.is_some(), "{reason} {rate:?}");
    assert_eq!(scorer.stats().outages, 0);
}

#[tokio::test]
async fn an_api_that_only_refuses_is_unavailable() {
    let stub = Stub::serve(|request| if request.number == 0 { Reply::Scores } else { Reply::Status(429) });
    let scorer = scorer(&stub.url());
    score(&scorer, entries(0..9, "", &[])).await;
    let mut state = scorer.state();
    let refused = score(&scorer, entries(9..18, "", &[]));
    let seen = async { state.wait_for(|state| !state.is_ready()).await.is_ok() };
    tokio::select! {
        _ = refused => panic!("nothing is scored"),
        is_seen = within(seen) => assert!(is_seen),
    }
    assert!(scorer.health().unwrap_err().contains("429"));
}

#[tokio::test]
async fn a_hold_that_another_tells_of_is_kept() {
    let stub = Stub::serve(|_| Reply::Scores);
    let scorer = scorer(&stub.url());
    let told = scorer.pace().heed(ToldHold::RetryAfter { hold: Duration::from_secs(1), rate: None });
    assert_eq!(told, Some(Duration::from_secs(1)));
    assert!(scorer.health().is_ok(), "a short pause is nothing to report");
    let began = Instant::now();
    let found = within(score_chunks(&scorer, 3)).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(found.iter().all(|found| found.predicted.len() == 9 && found.failed.is_empty()));
    assert_eq!(scorer.stats().outages, 0);
    scorer.pace().heed(ToldHold::RetryAfter { hold: Duration::from_mins(10), rate: None });
    assert!(scorer.health().unwrap_err().contains("pause"));
}

#[tokio::test]
async fn no_more_is_sent_than_the_limit_allows() {
    let stub = Stub::serve(|_| Reply::Scores);
    let limited = ApiOptions { api_rate_limit: NonZeroU32::new(18), ..options() };
    let scorer = Scorer::with_policy(&stub.url(), &limited, quick()).unwrap();
    let began = Instant::now();
    // At 18 a second, the last of three requests of nine goes out after a second, less what the bucket holds.
    let found = within(score_chunks(&scorer, 3)).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    assert!(found.iter().all(|found| found.predicted.len() == 9));
    assert_eq!(scorer.pace().endpoint(), stub.url());
}

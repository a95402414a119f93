//! A model that fails on everything fails no row; see `docs/decisions/0003-rows-at-fault-or-a-broken-model.md`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::stub::{ReceivedRequest, Reply, Stub};
use super::{assert_outcomes, entries, score, score_chunks, scorer, scorer_with, within};
use crate::{ApiState, ScoreError};

/// What a broken model returns for everything.
const BROKEN: [fn() -> Reply; 5] = [
    || Reply::Status(500),
    || Reply::Status(422),
    || Reply::Status(400),
    || Reply::Body("<html>".to_owned()),
    || Reply::Body("[]".to_owned()),
];

fn answer(is_broken: bool, broken: fn() -> Reply, request: &ReceivedRequest) -> Reply {
    match () {
        () if is_broken => broken(),
        () if request.has("bad") => Reply::Status(422),
        () => Reply::Scores,
    }
}

#[tokio::test]
async fn a_model_broken_from_the_start_fails_no_row() {
    for broken in BROKEN {
        let is_broken = Arc::new(AtomicBool::new(true));
        let script = Arc::clone(&is_broken);
        let stub = Stub::serve(move |request| answer(script.load(Ordering::SeqCst), broken, request));
        let scorer = scorer(&stub.url());
        let mut state = scorer.state();
        let work = join_all((0..20).map(|chunk| score(&scorer, entries(chunk * 9..chunk * 9 + 9, "bad", &[5]))));
        let repair = async {
            state.wait_for(|state| !state.is_ready()).await.unwrap();
            let before = stub.requests().len();
            // Long enough for every waiting group to be probed again.
            stub.wait_for_requests(before + 60).await;
            is_broken.store(false, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(work, repair) }).await;
        for (found, chunk) in found.iter().zip(0..) {
            assert_outcomes(found, chunk * 9..chunk * 9 + 9, if chunk == 0 { &[5] } else { &[] });
        }
        assert!(scorer.state().borrow().is_ready());
    }
}

#[tokio::test]
async fn a_model_that_breaks_at_any_moment_fails_no_row() {
    for broken in BROKEN {
        for first in (1..32).step_by(3) {
            // Some requests in the middle of a bisection that is due.
            let stub =
                Stub::serve(move |request| answer((first..first + 40).contains(&request.number), broken, request));
            let scorer = scorer_with(&stub.url(), Duration::from_secs(20), 1);
            score(&scorer, entries(1000..1001, "", &[])).await;
            let work = (0..3).map(|chunk| score(&scorer, entries(chunk * 20..chunk * 20 + 20, "bad", &[7, 51])));
            let found = within(join_all(work)).await;
            assert_outcomes(&found[0], 0..20, &[7]);
            assert_outcomes(&found[1], 20..40, &[]);
            assert_outcomes(&found[2], 40..60, &[51]);
        }
    }
}

#[tokio::test]
async fn a_broken_model_gets_few_requests() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_broken);
    let stub = Stub::serve(move |request| answer(script.load(Ordering::SeqCst), || Reply::Status(422), request));
    let scorer = scorer(&stub.url());
    score(&scorer, entries(1000..1001, "", &[])).await;
    is_broken.store(true, Ordering::SeqCst);
    let before = stub.requests().len();
    let mut state = scorer.state();
    let work = score_chunks(&scorer, 20);
    let repair = async {
        let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        assert!(matches!(seen, ApiState::Misconfigured { .. }), "{seen:?}");
        // One each for those with a permit, and the canaries that showed the fault: no bisection.
        assert!(stub.requests().len() - before <= 20 + 3, "{}", stub.requests().len());
        is_broken.store(false, Ordering::SeqCst);
    };
    within(async { tokio::join!(work, repair) }).await;
    assert_eq!(scorer.stats().bisections, 0);
}

#[tokio::test]
async fn a_server_error_counts_as_unavailable() {
    let stub = Stub::serve(|request| answer(request.number > 0, || Reply::Status(500), request));
    let scorer = scorer(&stub.url());
    let (mut state, stop) = (scorer.state(), CancellationToken::new());
    score(&scorer, entries(0..1, "", &[])).await;
    let wait = async {
        let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        let ApiState::Unavailable { reason, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(reason, "HTTP status 500 Internal Server Error, for every transaction");
        stop.cancel();
    };
    let (ended, ()) =
        within(async { tokio::join!(super::score_until(&scorer, entries(1..9, "", &[]), &stop), wait) }).await;
    assert_eq!(ended, Err(ScoreError::Stopped));
}

/// All rows are bad, and none was scored before: a made-up transaction shows that the model works.
#[tokio::test]
async fn a_tiny_file_may_be_all_bad() {
    for status in [422, 500] {
        let stub = Stub::serve(move |request| if request.has("bad") { Reply::Status(status) } else { Reply::Scores });
        let scorer = scorer(&stub.url());
        assert_outcomes(&score(&scorer, entries(0..3, "bad", &[0, 1, 2])).await, 0..3, &[0, 1, 2]);
        let made_up = stub.requests().into_iter().filter(|request| request.has("Assay connection check"));
        let ids: HashSet<_> = made_up.flat_map(|request| request.ids()).collect();
        assert_eq!(ids.len(), 1, "then that one is the known good transaction");
        assert!(scorer.state().borrow().is_ready());
    }
}

/// Nothing was ever scored, and the model refuses made-up transactions: bad rows wait for a good one.
#[tokio::test]
async fn bad_rows_wait_for_the_first_good_one() {
    let stub = Stub::serve(
        |request| if request.has("good") && !request.has("bad") { Reply::Scores } else { Reply::Status(422) },
    );
    let scorer = scorer(&stub.url());
    let mut state = scorer.state();
    let bad = score(&scorer, entries(0..5, "bad", &[0, 1, 2, 3, 4]));
    let good = async {
        state.wait_for(|state| matches!(state, ApiState::Misconfigured { .. })).await.unwrap();
        score(&scorer, entries(10..15, "", &[])).await
    };
    let (bad, good) = within(async { tokio::join!(bad, good) }).await;
    assert_outcomes(&bad, 0..5, &[0, 1, 2, 3, 4]);
    assert_outcomes(&good, 10..15, &[]);
}

/// A known good transaction need not stay good: an API may refuse an id that it has seen.
#[tokio::test]
async fn an_api_that_scores_each_id_only_once_is_not_a_broken_model() {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    let stub = Stub::serve(move |request| {
        if request.has("bad") {
            return Reply::Status(422);
        }
        let mut seen = seen.lock().unwrap();
        if request.ids().into_iter().all(|id| seen.insert(id)) { Reply::Scores } else { Reply::Status(422) }
    });
    let scorer = scorer(&stub.url());
    for chunk in 0..3 {
        let bad = chunk * 9 + 4;
        assert_outcomes(
            &score(&scorer, entries(chunk * 9..chunk * 9 + 9, "bad", &[bad])).await,
            chunk * 9..chunk * 9 + 9,
            &[bad],
        );
    }
}

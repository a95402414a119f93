//! Malformed responses over a real socket: endless bodies, huge headers, arbitrary bytes. Each row gets one outcome, and no
//! more is read than a response may have.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assay_transaction::FailureClass;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::stub::{Flow, Reply, Stub, scores};
use super::{assert_outcomes, entries, failed, predicted, score, scorer_with};

/// What both sockets may buffer beyond what is read.
const BETWEEN: usize = 16 * 1024 * 1024;

fn flow(piece: &'static str, pause: Duration) -> Flow {
    Flow { piece, pause, given: Arc::new(AtomicUsize::new(0)) }
}

const LARGE: &str = match std::str::from_utf8(&[b' '; 64 * 1024]) {
    Ok(blanks) => blanks,
    Err(_) => "",
};

#[tokio::test]
async fn an_endless_response_costs_its_rows_and_no_memory() {
    for (status, class) in [(200, FailureClass::Suspect), (500, FailureClass::Suspect), (422, FailureClass::Rejected)] {
        let endless = flow(LARGE, Duration::ZERO);
        let given = Arc::clone(&endless.given);
        let stub =
            Stub::serve(
                move |request| {
                    if request.has("endless") { Reply::Endless(status, endless.clone()) } else { Reply::Scores }
                },
            );
        let found = score(&scorer_with(&stub.url(), Duration::from_secs(20), 0), entries(1..9, "endless", &[3])).await;
        assert_outcomes(&found, 1..9, &[3]);
        assert_eq!(found.failed[0].class, class, "{status}");
        let (given, requests) = (given.load(Ordering::SeqCst), stub.requests().len());
        assert!(given <= requests * BETWEEN, "{status}: {given} bytes were sent in {requests} responses");
    }
}

#[tokio::test]
async fn a_dripping_response_times_out() {
    for status in [200, 500] {
        let drips = flow(" ", Duration::from_millis(5));
        let stub =
            Stub::serve(
                move |request| {
                    if request.has("drips") { Reply::Endless(status, drips.clone()) } else { Reply::Scores }
                },
            );
        let found = score(&scorer_with(&stub.url(), Duration::from_millis(300), 0), entries(1..5, "drips", &[2])).await;
        assert_outcomes(&found, 1..5, &[2]);
        assert_eq!(found.failed[0].class, FailureClass::Suspect);
    }
}

#[tokio::test]
async fn an_outage_with_endless_responses_is_an_outage() {
    let (endless, asked_before) = (flow(LARGE, Duration::ZERO), 3);
    let health = endless.clone();
    let stub = Stub::with_health(
        move |request| if request.number < asked_before { Reply::Endless(503, endless.clone()) } else { Reply::Scores },
        move |_| Reply::Endless(200, health.clone()),
    );
    let scorer = scorer_with(&stub.url(), Duration::from_secs(20), 0);
    assert_outcomes(&score(&scorer, entries(1..9, "", &[])).await, 1..9, &[]);
    assert!(scorer.stats().outages > 0);
}

#[tokio::test]
async fn a_huge_header_costs_its_rows_only() {
    let stub =
        Stub::serve(|request| if request.has("verbose") { Reply::Header(4 * 1024 * 1024) } else { Reply::Scores });
    let found = score(&scorer_with(&stub.url(), Duration::from_secs(20), 0), entries(1..5, "verbose", &[4])).await;
    assert_outcomes(&found, 1..5, &[4]);
}

/// A malformed response.
#[derive(Debug, Clone)]
enum MalformedReply {
    Bytes(Vec<u8>),
    /// The right response, with a byte changed.
    Flipped(prop::sample::Index, u8),
    /// The start of the right response.
    CutOff(prop::sample::Index),
    /// The right response, with one entry twice.
    Doubled(prop::sample::Index),
    /// The ids of other rows.
    Swapped(u8),
    /// Every score replaced.
    Scores(&'static str),
    Status(u16),
    Cut,
}

fn any_malformed_reply() -> impl Strategy<Value = MalformedReply> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60).prop_map(MalformedReply::Bytes),
        (at(), 1..=u8::MAX).prop_map(|(at, bits)| MalformedReply::Flipped(at, bits)),
        at().prop_map(MalformedReply::CutOff),
        at().prop_map(MalformedReply::Doubled),
        any::<u8>().prop_map(MalformedReply::Swapped),
        prop::sample::select(&["NaN", "-Infinity", "1e999", "-0.1", "\"0.5\"", "[[[[", "null", "0.5"][..])
            .prop_map(MalformedReply::Scores),
        prop::sample::select(&[201_u16, 204, 206, 301, 400, 401, 404, 413, 422, 500, 503, 599][..])
            .prop_map(MalformedReply::Status),
        Just(MalformedReply::Cut),
    ]
}

impl MalformedReply {
    fn reply(&self, request: &super::stub::ReceivedRequest) -> Reply {
        let mut right = scores(request).into_bytes();
        match self {
            Self::Bytes(bytes) => Reply::Bytes(bytes.clone()),
            Self::Flipped(at, bits) => {
                let at = at.index(right.len());
                right[at] ^= bits;
                Reply::Bytes(right)
            }
            Self::CutOff(at) => {
                right.truncate(at.index(right.len()));
                Reply::Bytes(right)
            }
            Self::Doubled(at) => {
                let mut items: Vec<serde_json::Value> = serde_json::from_slice(&right).unwrap();
                items.push(items[at.index(items.len())].clone());
                Reply::Body(serde_json::to_string(&items).unwrap())
            }
            Self::Swapped(by) => Reply::Body(
                scores(request).replace("00000000-0000-0000-0000-00", &format!("{by:08x}-0000-0000-0000-00")),
            ),
            Self::Scores(score) => Reply::Body(scores(request).replace("0.25", score)),
            Self::Status(status) => Reply::Status(*status),
            Self::Cut => Reply::Cut,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// After any malformed responses and a recovery, each row has an outcome, and failed rows have a reason.
    #[test]
    fn each_row_has_one_outcome_in_the_end(replies in prop::collection::vec(any_malformed_reply(), 0..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let replies = Mutex::new(replies.into_iter());
            let stub = Stub::serve(move |request| {
                let next = replies.lock().unwrap().next();
                next.map_or(Reply::Scores, |reply| reply.reply(request))
            });
            let found = score(&scorer_with(&stub.url(), Duration::from_secs(20), 0), entries(1..10, "", &[])).await;
            let rows: BTreeSet<u64> = predicted(&found).into_iter().chain(failed(&found)).collect();
            assert_eq!(rows, (1..10).collect());
            assert_eq!(found.predicted.len() + found.failed.len(), 9);
            for row in &found.failed {
                assert!([FailureClass::Suspect, FailureClass::Rejected].contains(&row.class));
                assert!(row.attempts >= 1 && row.reason.len() <= 200, "{}", row.reason);
            }
            for row in &found.predicted {
                assert!(row.prediction.fraud_score.is_none_or(|score| (0.0..=1.0).contains(&score)));
            }
        });
    }
}

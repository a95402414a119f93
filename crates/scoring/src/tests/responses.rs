//! What is sent, and how responses of all kinds are read.

use std::collections::HashSet;

use assay_transaction::{FailureClass, ModelEndpoint, Prediction};

use super::stub::{Reply, Stub, scores};
use super::{assert_outcomes, entries, entry, id, options, quick, score, scorer};
use crate::{ApiEndpoint, ApiOptions, ConcurrencyMode, Scorer, ScoringError};

#[tokio::test]
async fn every_row_comes_back_with_its_prediction() {
    let stub = Stub::serve(|_| Reply::Scores);
    let scorer = scorer(&stub.url());
    let found = score(&scorer, entries(1..101, "", &[])).await;
    assert_outcomes(&found, 1..101, &[]);
    let expected = Prediction {
        prediction: "legitimate".into(),
        fraud_score: Some(0.25),
        model_version: Some("stub-1".into()),
        endpoint: Some(ModelEndpoint::new(format!("{}/predict", stub.url()), None).into()),
        ..Prediction::default()
    };
    assert!(found.predicted.iter().all(|predicted| predicted.prediction == expected));
    let stats = scorer.stats();
    assert_eq!((stats.requests, stats.retries, stats.scored, stats.failed), (1, 0, 100, 0));
    assert!(scorer.state().borrow().is_ready());
}

#[tokio::test]
async fn no_request_is_sent_without_rows() {
    let stub = Stub::serve(|_| Reply::Scores);
    assert_outcomes(&score(&scorer(&stub.url()), Vec::new()).await, 1..1, &[]);
    assert_eq!(stub.requests().len(), 0);
}

#[tokio::test]
async fn the_request_is_the_rows_own_text() {
    let stub = Stub::serve(|_| Reply::Scores);
    let rows = entries(1..3, "", &[]);
    let expected = format!("[{},{}]", rows[0].transaction.as_json(), rows[1].transaction.as_json());
    score(&scorer(&format!("{}/models/fraud/", stub.url())), rows).await;
    let requests = stub.requests();
    assert_eq!(requests[0].body, expected);
    assert!(requests[0].body.contains(r#""amount":-952.40,"#));
    assert_eq!(requests[0].path, "/models/fraud/predict");
}

#[tokio::test]
async fn credentials_of_the_address_are_sent_as_such() {
    let stub = Stub::serve(|_| Reply::Scores);
    score(&scorer(&stub.url().replace("http://", "http://user:secret@")), entries(1..2, "", &[])).await;
    assert_eq!(stub.requests()[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[tokio::test]
async fn responses_may_be_in_any_order() {
    let stub = Stub::serve(|request| {
        let mut ids = request.ids();
        ids.reverse();
        let items: Vec<String> =
            ids.iter().map(|id| format!(r#"{{"category":"{id}","transaction_id":"{id}","extra":[]}}"#)).collect();
        Reply::Body(format!("[{}]", items.join(",")))
    });
    let found = score(&scorer(&stub.url()), entries(1..51, "", &[])).await;
    assert_outcomes(&found, 1..51, &[]);
    for predicted in found.predicted {
        assert_eq!(*predicted.prediction.prediction, id(predicted.entry.row).to_string());
        assert_eq!(predicted.prediction.fraud_score, None);
    }
}

#[tokio::test]
async fn no_request_has_an_id_twice() {
    let stub = Stub::serve(|_| Reply::Scores);
    let mut rows = entries(1..6, "", &[]);
    rows.extend(entries(3..7, "", &[]));
    rows.push(entry(3, "good"));
    let found = score(&scorer(&stub.url()), rows).await;
    assert_eq!(super::predicted(&found), [1, 2, 3, 4, 5, 3, 4, 5, 6, 3]);
    let requests = stub.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        let ids = request.ids();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }
}

/// Returns a broken entry for an id.
type Spoil = fn(&str) -> String;

/// A response whose entry for the third row is broken.
fn spoiled(request: &super::stub::ReceivedRequest, spoil: Spoil) -> String {
    let third = id(3).to_string();
    let items: Vec<String> = request
        .ids()
        .iter()
        .map(|id| if *id == third { spoil(id) } else { format!(r#"{{"transaction_id":"{id}","label":"x"}}"#) })
        .filter(|item| !item.is_empty())
        .collect();
    format!("[{}]", items.join(","))
}

#[tokio::test]
async fn an_unusable_entry_costs_its_own_row_only() {
    let spoils: [(Spoil, &str); 5] = [
        (|_| String::new(), "missing from the response"),
        (
            |_| r#"{"transaction_id":"00000000-0000-0000-0000-0000000000ff","label":"x"}"#.to_owned(),
            "ids that were not asked for",
        ),
        (|id| format!(r#"{{"transaction_id":"{id}","label":"x","score":true}}"#), "not a number"),
        (|id| format!(r#"{{"transaction_id":"{id}","label":"x","score":NaN}}"#), "not a number"),
        (|id| format!(r#"{{"transaction_id":"{id}","label":"x"}},{{"transaction_id":"{id}","label":"x"}}"#), "twice"),
    ];
    for (spoil, problem) in spoils {
        let stub = Stub::serve(move |request| Reply::Body(spoiled(request, spoil)));
        let scorer = scorer(&stub.url());
        let found = score(&scorer, entries(1..9, "", &[])).await;
        assert_outcomes(&found, 1..9, &[3]);
        let [row] = &found.failed[..] else { panic!("one row fails") };
        assert_eq!(row.class, FailureClass::Suspect);
        assert_eq!(row.transaction_id, id(3));
        assert!(row.reason.contains(problem), "{}", row.reason);
        // Once with the others, then alone with all retries.
        assert_eq!(row.attempts, 2 + options().max_retries);
        let whole = stub.requests().iter().filter(|request| request.ids().len() > 1).count();
        assert_eq!(whole, 1, "scored rows are not requested again");
    }
}

#[tokio::test]
async fn a_partial_response_is_completed() {
    // At most three rows a response.
    let stub = Stub::serve(|request| {
        let answer: Vec<serde_json::Value> = serde_json::from_str(&scores(request)).unwrap();
        Reply::Body(serde_json::to_string(&answer[..answer.len().min(3)]).unwrap())
    });
    assert_outcomes(&score(&scorer(&stub.url()), entries(1..11, "", &[])).await, 1..11, &[]);
    assert_eq!(stub.requests().len(), 4);
}

#[tokio::test]
async fn garbage_is_retried() {
    let garbage = ["", "<html>no</html>", "{}", "[", "[]"];
    for text in garbage {
        let stub =
            Stub::serve(move |request| if request.number < 2 { Reply::Body(text.to_owned()) } else { Reply::Scores });
        let scorer = scorer(&stub.url());
        assert_outcomes(&score(&scorer, entries(1..9, "", &[])).await, 1..9, &[]);
        let stats = scorer.stats();
        assert_eq!((stats.requests, stats.retries, stats.bisections), (3, 2, 0), "{text}");
    }
}

#[tokio::test]
async fn an_endless_response_is_cut_off() {
    let stub = Stub::serve(|request| {
        if request.number == 0 { Reply::Body(format!("[\"{}\"]", "x".repeat(200_000))) } else { Reply::Scores }
    });
    let scorer = scorer(&stub.url());
    assert_outcomes(&score(&scorer, entries(1..9, "", &[])).await, 1..9, &[]);
    assert_eq!(scorer.stats().retries, 1);
}

#[tokio::test]
async fn a_row_without_an_id_fails_alone() {
    let stub = Stub::serve(|_| Reply::Scores);
    let mut rows = entries(1..4, "", &[]);
    rows[1].transaction = serde_json::from_str(r#"{"id":7}"#).unwrap();
    let found = score(&scorer(&stub.url()), rows).await;
    assert_outcomes(&found, 1..4, &[2]);
    assert_eq!(found.failed[0].class, FailureClass::Rejected);
}

#[test]
fn a_scorer_needs_an_address() {
    let error = Scorer::from_options(&ApiOptions::default()).unwrap_err();
    assert!(matches!(error, ScoringError::NotSet), "{error}");
    let wrong = ApiOptions { endpoint: ApiEndpoint::at("ml-api:8000"), ..ApiOptions::default() };
    let error = Scorer::from_options(&wrong).unwrap_err();
    assert_eq!(error.exit(), assay_transaction::Exit::Usage);
    assert!(error.to_string().starts_with("ML_API_URL is not an address"), "{error}");
    let right = ApiOptions { endpoint: ApiEndpoint::at(" http://ml-api:8000 "), ..ApiOptions::default() };
    assert_eq!(Scorer::from_options(&right).unwrap().max_workers(), 5);
    assert!(Scorer::with_policy("https://ml-api", &options(), quick()).is_ok());
}

#[tokio::test]
async fn a_chunk_is_sent_in_requests_at_the_same_time() {
    let stub = Stub::serve(|_| Reply::Scores);
    let batch_size = std::num::NonZeroUsize::new(30).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let scorer = scorer(&stub.url());
    let found = super::within(super::score_in_requests(&scorer, entries(1..101, "", &[]), batch_size, &stop)).await;
    assert_outcomes(&found.unwrap(), 1..101, &[]);
    let mut lengths: Vec<usize> = stub.requests().iter().map(|request| request.ids().len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [10, 30, 30, 30]);
    assert_eq!(scorer.stats().retries, 0);
}

#[test]
fn the_longest_bisection_counts_requests() {
    let timeouts = |api_max_workers: u16, api_concurrency, rows: usize, batch_size: usize| {
        let options = ApiOptions { max_retries: 3, api_max_workers, api_concurrency, ..options() };
        let scorer = Scorer::with_policy("http://ml-api", &options, quick()).unwrap();
        let batch_size = std::num::NonZeroUsize::new(batch_size).unwrap();
        scorer.longest_bisection(rows, batch_size).as_secs_f64() / options.api_timeout.as_secs_f64()
    };
    // Four attempts of 100 rows, six halves, four attempts of the row.
    let cases = [
        (2, ConcurrencyMode::Fixed, 100, 100, 14),
        (2, ConcurrencyMode::Fixed, 20, 100, 12),
        (2, ConcurrencyMode::Fixed, 500, 100, 14 + 2),
        (2, ConcurrencyMode::Fixed, 200, 100, 14),
        (2, ConcurrencyMode::Fixed, 3, 1, 8 + 1),
        (20, ConcurrencyMode::Fixed, 500, 100, 14),
        // Time-outs leave two at a time.
        (20, ConcurrencyMode::Adaptive, 500, 100, 14 + 2),
        (1, ConcurrencyMode::Adaptive, 500, 100, 14 + 4),
    ];
    for (workers, mode, rows, batch_size, expected) in cases {
        let found = timeouts(workers, mode, rows, batch_size);
        assert!(
            (found - f64::from(expected)).abs() < 1e-9,
            "{found}: {rows} rows, {batch_size} a request, {workers} {mode:?}"
        );
    }
}

//! Responses in other forms than Assay's own: understood, or refused with the setting that declares them. No row fails for the form.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use assay_transaction::{FailureClass, ReasonCode};
use futures_util::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::stub::{ReceivedRequest, Reply, Stub};
use super::{Scores, assert_outcomes, entries, options, quick, score, score_until, scorer, within};
use crate::{ApiOptions, ApiState, Matching, ScoreError, ScoreScale, Scorer};

/// An entry for each row of a request, by its id and whether the stub's script calls it bad.
fn reply(request: &ReceivedRequest, entry: impl Fn(&str, bool) -> serde_json::Value) -> Vec<serde_json::Value> {
    let is_bad = |row: &serde_json::Value| row["description"] == "bad";
    request.rows().iter().map(|row| entry(row["id"].as_str().unwrap(), is_bad(row))).collect()
}

fn with_scale(url: &str, score_scale: ScoreScale) -> Scorer {
    Scorer::with_policy(url, &ApiOptions { score_scale, ..options() }, quick()).unwrap()
}

fn fraud_scores(found: &Scores) -> Vec<Option<f64>> {
    found.predicted.iter().map(|row| row.prediction.fraud_score).collect()
}

/// Waits until the API cannot be used, and returns why and what to do.
async fn misconfiguration(scorer: &Scorer) -> (String, String) {
    let mut state = scorer.state();
    let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
    let ApiState::Misconfigured { reason, remedy } = seen else { panic!("{seen:?}") };
    (reason, remedy)
}

#[tokio::test]
async fn an_object_around_the_predictions_is_understood() {
    let stub = Stub::serve(|request| {
        let predictions = reply(request, |id, _| json!({"id": id, "prediction": "fraud", "fraud_score": "0.97"}));
        Reply::Body(json!({"predictions": predictions, "model_version": "7", "took_ms": 3}).to_string())
    });
    let found = score(&scorer(&stub.url()), entries(1..31, "", &[])).await;
    assert_outcomes(&found, 1..31, &[]);
    assert_eq!(stub.requests().len(), 1);
    for row in &found.predicted {
        assert_eq!((row.prediction.fraud_score, row.prediction.model_version.as_deref()), (Some(0.97), Some("7")));
    }
}

#[tokio::test]
async fn rounding_at_both_ends_costs_no_row() {
    let stub = Stub::serve(|request| {
        let score = |is_bad| if is_bad { 1.000_000_1 } else { -0.000_000_06 };
        let entries = reply(request, |id, is_bad| json!({"transaction_id": id, "label": "x", "score": score(is_bad)}));
        Reply::Body(json!(entries).to_string())
    });
    let found = score(&scorer(&stub.url()), entries(1..5, "bad", &[2])).await;
    assert_eq!(fraud_scores(&found), [Some(0.0), Some(1.0), Some(0.0), Some(0.0)]);
}

/// 97 for a bad row, 0.6 for all others.
fn percentages(request: &ReceivedRequest) -> Reply {
    let score = |is_bad| if is_bad { 97.0 } else { 0.6 };
    let entries = reply(request, |id, is_bad| json!({"transaction_id": id, "label": "x", "score": score(is_bad)}));
    Reply::Body(json!(entries).to_string())
}

#[tokio::test]
async fn scores_of_another_scale_are_refused_as_a_whole() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let stub =
        Stub::serve(move |request| if repaired.load(Ordering::SeqCst) { Reply::Scores } else { percentages(request) });
    let scorer = scorer(&stub.url());
    let bad = score(&scorer, entries(0..9, "bad", &[4]));
    let repair = async {
        let (reason, remedy) = misconfiguration(&scorer).await;
        assert_eq!(reason, "scores up to 97 are no numbers from 0 to 1");
        assert!(remedy.contains("SCORE_SCALE=percent"), "{remedy}");
        // These have only scores that fit every scale.
        let later = join_all((1..10).map(|chunk| score(&scorer, entries(chunk * 9..chunk * 9 + 9, "", &[]))));
        let wait = async {
            stub.wait_for_requests(stub.requests().len() + 20).await;
            assert!(stub.requests()[1..].iter().all(|request| request.has("bad")), "only that row can show a repair");
            is_repaired.store(true, Ordering::SeqCst);
        };
        tokio::join!(later, wait).0
    };
    let (found, later) = within(async { tokio::join!(bad, repair) }).await;
    for found in later.iter().chain([&found]) {
        assert_eq!(fraud_scores(found), [Some(0.25); 9]);
    }
    assert!(scorer.state().borrow().is_ready());
    assert_eq!(scorer.stats().failed, 0);
}

#[tokio::test]
async fn a_declared_scale_is_converted() {
    let stub = Stub::serve(percentages);
    let found = score(&with_scale(&stub.url(), ScoreScale::Percent), entries(1..4, "bad", &[2])).await;
    assert_eq!(fraud_scores(&found), [Some(0.006), Some(0.97), Some(0.006)]);
    let stub = Stub::serve(|request| {
        Reply::Body(json!(reply(request, |id, _| json!({"id": id, "label": "x", "score": 0}))).to_string())
    });
    let found = score(&with_scale(&stub.url(), ScoreScale::Logit), entries(1..4, "", &[])).await;
    assert_eq!(fraud_scores(&found), [Some(0.5); 3]);
}

#[tokio::test]
async fn predictions_without_ids_wait_for_a_declaration() {
    let by_order = |request: &ReceivedRequest| {
        Reply::Body(
            json!(reply(request, |_, is_bad| json!({"label": if is_bad { "bad" } else { "good" }}))).to_string(),
        )
    };
    let stub = Stub::serve(by_order);
    let (undeclared, stop) = (scorer(&stub.url()), CancellationToken::new());
    let wait = async {
        let (reason, remedy) = misconfiguration(&undeclared).await;
        assert!(reason.contains("no ids") && remedy.contains("ML_API_MATCH=position"), "{reason}: {remedy}");
        stop.cancel();
    };
    let work = score_until(&undeclared, entries(1..9, "bad", &[3]), &stop);
    assert_eq!(within(async { tokio::join!(work, wait) }).await.0, Err(ScoreError::Stopped));

    let declared = ApiOptions { ml_api_match: Matching::Position, ..options() };
    let declared = Scorer::with_policy(&stub.url(), &declared, quick()).unwrap();
    let found = score(&declared, entries(1..9, "bad", &[3])).await;
    assert_outcomes(&found, 1..9, &[]);
    for row in found.predicted {
        assert_eq!(&*row.prediction.prediction, if row.entry.row == 3 { "bad" } else { "good" });
    }
}

#[tokio::test]
async fn what_is_no_response_is_named_while_it_is_waited_for() {
    /// A reply, and what is said of it.
    type Case = (fn() -> Reply, &'static str);
    let cases: [Case; 6] = [
        (|| Reply::Json(200, r#"{"error":"model not loaded"}"#.to_owned()), "an error: an object with `error`"),
        (
            || Reply::Page(200, "content-type", "text/html; charset=utf-8"),
            "HTML or XML, not JSON (its content type is text/html)",
        ),
        (|| Reply::Page(200, "content-type", "text/html\"secret"), "HTML or XML, not JSON, for"),
        (|| Reply::Body("[{".to_owned()), "cut off"),
        (|| Reply::Body(String::new()), "empty"),
        (|| Reply::Body(r#"[{"transaction_id":"7","label":"x"}]"#.to_owned()), "ids that were not asked for"),
    ];
    for (broken, expected) in cases {
        let stub = Stub::serve(move |_| broken());
        let (scorer, stop) = (scorer(&stub.url()), CancellationToken::new());
        let mut state = scorer.state();
        let wait = async {
            let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
            let ApiState::Unavailable { reason, .. } = seen else { panic!("{seen:?}") };
            assert!(reason.contains(expected) && reason.ends_with("for every transaction"), "{reason}");
            stop.cancel();
        };
        let work = score_until(&scorer, entries(1..9, "", &[]), &stop);
        assert_eq!(within(async { tokio::join!(work, wait) }).await.0, Err(ScoreError::Stopped), "{expected}");
    }
}

/// As FastAPI refuses rows: by their position, with all that was sent.
fn refusal(request: &ReceivedRequest) -> String {
    let rows = request.rows();
    let at_fault = rows.iter().enumerate().filter(|(_, row)| row["description"] == "bad");
    let detail: Vec<_> = at_fault
        .map(|(at, row)| json!({"type": "string_type", "loc": ["body", at, "merchant"], "msg": row, "input": row, "ctx": {"row": row}}))
        .collect();
    json!({ "detail": detail }).to_string()
}

#[tokio::test]
async fn the_reason_of_a_refused_row_names_the_field() {
    for (status, class) in [(422, FailureClass::Rejected), (400, FailureClass::Rejected), (500, FailureClass::Suspect)]
    {
        let stub = Stub::serve(
            move |request| if request.has("bad") { Reply::Json(status, refusal(request)) } else { Reply::Scores },
        );
        let found = score(&scorer(&stub.url()), entries(1..20, "bad", &[5, 17])).await;
        assert_outcomes(&found, 1..20, &[5, 17]);
        for row in &found.failed {
            assert_eq!(row.class, class);
            assert!(row.reason.contains("(body.merchant: string_type), for this transaction alone"), "{}", row.reason);
            assert!(row.reason.len() <= 200 && !row.reason.contains("952"), "{}", row.reason);
        }
    }
}

#[tokio::test]
async fn the_detail_of_what_refuses_all_is_shown() {
    let body = r#"{"detail":[{"type":"model_attributes_type","loc":["body"],"msg":"no `instances`","input":[]}]}"#;
    let stub = Stub::serve(move |_| Reply::Json(422, body.to_owned()));
    let (scorer, stop) = (scorer(&stub.url()), CancellationToken::new());
    let wait = async {
        let (reason, _) = misconfiguration(&scorer).await;
        assert_eq!(reason, "HTTP status 422 Unprocessable Entity (body: model_attributes_type), for every transaction");
        stop.cancel();
    };
    let work = score_until(&scorer, entries(1..9, "", &[]), &stop);
    assert_eq!(within(async { tokio::join!(work, wait) }).await.0, Err(ScoreError::Stopped));
}

#[tokio::test]
async fn another_version_of_the_model_is_waited_out() {
    let version = Arc::new(std::sync::Mutex::new("8"));
    let current = Arc::clone(&version);
    let stub = Stub::serve(move |request| {
        let version = *current.lock().unwrap();
        let entry = |id: &str, _| json!({"transaction_id": id, "prediction": "x", "model_version": version});
        Reply::Body(json!(reply(request, entry)).to_string())
    });
    let options = ApiOptions { model_version: Some("7".to_owned()), ..options() };
    let scorer = Scorer::with_policy(&stub.url(), &options, quick()).unwrap();
    let rows = score(&scorer, entries(0..9, "", &[]));
    let deployed = async {
        let (reason, remedy) = misconfiguration(&scorer).await;
        assert_eq!(reason, "its model version is 8, and not that of MODEL_VERSION");
        assert!(remedy.contains("MODEL_VERSION"), "{remedy}");
        *version.lock().unwrap() = "7";
    };
    let (found, ()) = within(futures_util::future::join(rows, deployed)).await;
    assert_outcomes(&found, 0..9, &[]);
    assert!(found.predicted.iter().all(|row| row.prediction.model_version.as_deref() == Some("7")));
}

#[tokio::test]
async fn a_prediction_says_where_it_comes_from_and_why() {
    let stub = Stub::serve(|request| {
        let entry = |id: &str, is_bad| {
            let (score, reasons) = if is_bad { (90, json!(["R07"])) } else { (79, json!(["R01"])) };
            json!({"transaction_id": id, "prediction": "x", "score": score, "reasons": reasons})
        };
        Reply::Named("X-Model", "fraud-7", json!(reply(request, entry)).to_string())
    });
    let options = ApiOptions {
        reasons_from: Some(0.8),
        model_version_header: Some("x-model".parse().unwrap()),
        model_version: Some("fraud-7".to_owned()),
        score_scale: ScoreScale::Percent,
        ..options()
    };
    let url = stub.url().replace("http://", "http://user:secret@");
    let found = score(&Scorer::with_policy(&url, &options, quick()).unwrap(), entries(1..9, "bad", &[3])).await;
    assert_outcomes(&found, 1..9, &[]);
    for row in &found.predicted {
        let prediction = &row.prediction;
        let reasons = if row.entry.row == 3 { vec![ReasonCode::Code("R07".into())] } else { Vec::new() };
        assert_eq!((prediction.model_version.as_deref(), &prediction.reasons), (Some("fraud-7"), &reasons));
        let endpoint = prediction.endpoint.as_ref().unwrap();
        assert_eq!((endpoint.url(), endpoint.features()), (format!("{}/predict", stub.url()).as_str(), None));
    }
}

#[tokio::test]
async fn one_row_without_an_id_in_its_response_fails_alone() {
    let stub = Stub::serve(|request| {
        let entry = |id: &str, is_bad| {
            if is_bad { json!({"prediction": "unknown"}) } else { json!({"transaction_id": id, "prediction": "x"}) }
        };
        Reply::Body(json!(reply(request, entry)).to_string())
    });
    let scorer = scorer(&stub.url());
    let found = score(&scorer, entries(1..9, "bad", &[5])).await;
    assert_outcomes(&found, 1..9, &[5]);
    assert_eq!(scorer.stats().outages, 0);
}

#[tokio::test]
async fn a_transaction_that_can_no_longer_show_its_scale_is_said() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let stub = Stub::serve(move |request| match repaired.load(Ordering::SeqCst) {
        true if request.has("bad") => Reply::Status(422),
        true => Reply::Scores,
        false => percentages(request),
    });
    let (scorer, stop) = (scorer(&stub.url()), CancellationToken::new());
    let mut state = scorer.state();
    let seen = async {
        misconfiguration(&scorer).await;
        is_repaired.store(true, Ordering::SeqCst);
        let is_said =
            |state: &ApiState| matches!(state, ApiState::Misconfigured { remedy, .. } if remedy.contains("restart"));
        state.wait_for(is_said).await.unwrap();
        stop.cancel();
    };
    let work = score_until(&scorer, entries(0..9, "bad", &[4]), &stop);
    assert_eq!(within(async { tokio::join!(work, seen) }).await.0, Err(ScoreError::Stopped));
}

//! Protocols by a features file: what travels, and what happens where an API answers in another form.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use assay_transaction::{Entry, Exit, FailureClass};

use super::stub::{ReceivedRequest, Reply, Stub};
use super::{assert_outcomes, entries, id, options, quick, score, within};
use crate::{ApiOptions, ApiState, ProtocolName, Scorer};

/// The features file of this name in `examples/features`.
fn example(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/features")).join(name)
}

pub(super) fn options_for(protocol: ProtocolName, file: &str) -> ApiOptions {
    ApiOptions { ml_api_protocol: protocol, ml_api_features: Some(example(file)), ..options() }
}

fn mlflow(url: &str) -> Scorer {
    Scorer::with_policy(url, &options_for(ProtocolName::Mlflow, "fraud.toml"), quick()).unwrap()
}

/// A transaction whose attribute `card_age` is this text.
pub(super) fn aged(row: u64, card_age: &str) -> Entry {
    let json = format!(
        r#"{{"id":"{}","description":"x","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit","attributes":{{"card_age":"{card_age}"}}}}"#,
        id(row)
    );
    Entry { row, external_id: None, transaction: serde_json::from_str(&json).unwrap() }
}

pub(super) fn aged_rows(rows: std::ops::Range<u64>) -> Vec<Entry> {
    rows.map(|row| aged(row, "12.5")).collect()
}

/// Rows of the data frame of a request.
fn frame_rows(request: &ReceivedRequest) -> usize {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    body["dataframe_split"]["data"].as_array().unwrap().len()
}

fn mlflow_scores(request: &ReceivedRequest) -> Reply {
    let rows = vec!["[0.0816892573217266,0.9183107426782734]"; frame_rows(request)].join(",");
    Reply::Body(format!(r#"{{"predictions":[{rows}]}}"#))
}

#[tokio::test]
async fn a_data_frame_is_sent_and_answered_by_position() {
    let stub = Stub::serve(mlflow_scores);
    let scorer = mlflow(&stub.url());
    within(scorer.wait_until_ready(std::time::Duration::from_secs(5))).await.unwrap();
    let found = score(&scorer, aged_rows(1..4)).await;
    assert_outcomes(&found, 1..4, &[]);
    for predicted in &found.predicted {
        assert_eq!(&*predicted.prediction.prediction, "fraud");
        assert_eq!(predicted.prediction.fraud_score, Some(0.918_310_742_678_273_4));
    }
    let requests = stub.requests();
    let row = "[-952.40,6,1,12.5]";
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/invocations");
    assert_eq!(
        requests[0].body,
        format!(
            r#"{{"dataframe_split":{{"columns":["amount","hour","is_debit","card_age"],"data":[{row},{row},{row}]}}}}"#
        )
    );
    assert_eq!(scorer.features_digest().map(str::len), Some(16));
}

#[tokio::test]
async fn a_value_of_another_type_fails_its_own_row_before_it_is_sent() {
    let stub = Stub::serve(mlflow_scores);
    let rows = vec![aged(1, "12.5"), aged(2, "secret"), aged(3, ""), aged(4, "3")];
    let found = score(&mlflow(&stub.url()), rows).await;
    assert_outcomes(&found, 1..5, &[2, 3]);
    let reasons: Vec<&str> = found.failed.iter().map(|failed| failed.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["the input `card_age` is not a number", "the input `card_age` is missing, and has no default"]
    );
    assert!(found.failed.iter().all(|failed| failed.class == FailureClass::Rejected && failed.attempts == 0));
    assert_eq!(stub.requests().iter().map(frame_rows).collect::<Vec<_>>(), [2]);
}

/// Answers that never fit, and the difference that is said.
const MISFITS: [(&str, &str); 4] = [
    (r#"{"detail":"secret"}"#, "expected an array at /predictions, got an object with `detail`"),
    (r#"{"predictions":[]}"#, "entries, one for each transaction, got 0"),
    (r#"{"predictions":[[0.5],[0.5],[0.5]]}"#, "expected /1 about each transaction, got an array of 1"),
    (r#"[{"label":"secret"}]"#, "expected an array at /predictions, got an array of 1"),
];

#[tokio::test]
async fn a_form_that_never_fits_fails_no_row_and_is_said() {
    for (body, difference) in MISFITS {
        let is_repaired = Arc::new(AtomicBool::new(false));
        let repaired = Arc::clone(&is_repaired);
        let stub = Stub::serve(move |request| match repaired.load(Ordering::SeqCst) {
            true => mlflow_scores(request),
            false if body.contains("[0.5]") && frame_rows(request) == 1 => {
                Reply::Body(r#"{"predictions":[[0.5]]}"#.to_owned())
            }
            false => Reply::Body(body.to_owned()),
        });
        let scorer = mlflow(&stub.url());
        let mut state = scorer.state();
        let repair = async {
            let ApiState::Misconfigured { reason, remedy } =
                state.wait_for(|state| !state.is_ready()).await.unwrap().clone()
            else {
                panic!("it is another state")
            };
            assert!(reason.contains(difference), "{reason}");
            assert!(!reason.contains("secret"), "{reason}");
            assert!(remedy.contains("ML_API_PROTOCOL") && remedy.contains("POST /invocations"), "{remedy}");
            // It is probed with one transaction at a time.
            stub.wait_for_requests(3).await;
            is_repaired.store(true, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(score(&scorer, aged_rows(1..4)), repair) }).await;
        assert_outcomes(&found, 1..4, &[]);
        assert_eq!(scorer.stats().bisections, 0);
        assert!(stub.requests()[1..].iter().any(|request| frame_rows(request) == 1));
    }
}

#[tokio::test]
async fn once_a_row_was_scored_another_form_may_be_a_rows_fault() {
    // The model fails on a negative age, and says so with success.
    let stub = Stub::serve(|request| {
        if request.body.contains("-7") { Reply::Body(r#"{"detail":"no"}"#.to_owned()) } else { mlflow_scores(request) }
    });
    let scorer = mlflow(&stub.url());
    assert_outcomes(&score(&scorer, aged_rows(1..4)).await, 1..4, &[]);
    let rows = vec![aged(4, "1"), aged(5, "-7"), aged(6, "2")];
    let found = score(&scorer, rows).await;
    assert_outcomes(&found, 4..7, &[5]);
    assert!(found.failed[0].reason.contains("expected an array at /predictions"), "{}", found.failed[0].reason);
}

#[tokio::test]
async fn a_model_that_needs_attributes_can_be_proven_by_a_made_up_transaction() {
    // 400 for one row, as MLflow answers for what its model cannot take; the canary has no attributes.
    let stub =
        Stub::serve(|request| if request.body.contains("-7") { Reply::Status(400) } else { mlflow_scores(request) });
    let found = score(&mlflow(&stub.url()), vec![aged(1, "-7")]).await;
    assert_outcomes(&found, 1..2, &[1]);
    assert!(stub.requests().iter().any(|request| request.body.contains("[10.00,12,1,0]")));
}

#[tokio::test]
async fn a_model_is_served_below_its_name() {
    let stub = Stub::serve(|request| {
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let rows = vec!["[0.9,0.1]"; body["instances"].as_array().unwrap().len()].join(",");
        Reply::Body(format!(r#"{{"predictions":[{rows}]}}"#))
    });
    let instances = |model: Option<&str>| ApiOptions {
        ml_api_model_name: model.map(str::to_owned),
        ..options_for(ProtocolName::Instances, "fraud.toml")
    };
    for model in [Some("fraud"), None, Some("")] {
        let scorer = Scorer::with_policy(&stub.url(), &instances(model), quick()).unwrap();
        assert_outcomes(&score(&scorer, aged_rows(1..3)).await, 1..3, &[]);
    }
    let requests = stub.requests();
    assert_eq!(requests[0].path, "/v1/models/fraud:predict");
    let row = r#"{"amount":-952.40,"hour":6,"is_debit":1,"card_age":12.5}"#;
    assert_eq!(requests[0].body, format!(r#"{{"instances":[{row},{row}]}}"#));
    assert!(requests[1..].iter().all(|request| request.path == "/predict"));
}

#[tokio::test]
async fn a_template_describes_any_other_api() {
    let stub = Stub::serve(|_| Reply::Body(r#"{"result":{"label":["a","b"],"p":[0.25,0.75]},"took":3}"#.to_owned()));
    let scorer =
        Scorer::with_policy(&stub.url(), &options_for(ProtocolName::Template, "template.toml"), quick()).unwrap();
    let found = score(&scorer, entries(1..3, "", &[])).await;
    assert_outcomes(&found, 1..3, &[]);
    let labels: Vec<&str> = found.predicted.iter().map(|predicted| &*predicted.prediction.prediction).collect();
    assert_eq!(labels, ["a", "b"]);
    assert_eq!(found.predicted[1].prediction.fraud_score, Some(0.75));
    assert_eq!(
        stub.requests()[0].body,
        "{\"model\": \"fraud-v2\", \"features\": {\"amount\": [-952.40,-952.40], \"text\": [\"good\",\"good\"]}}"
    );
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let with = |protocol, file: Option<&str>, model: Option<&str>| ApiOptions {
        ml_api_protocol: protocol,
        ml_api_features: file.map(example),
        ml_api_model_name: model.map(str::to_owned),
        ..options()
    };
    let cases = [
        (with(ProtocolName::Mlflow, None, None), "ML_API_PROTOCOL=mlflow needs ML_API_FEATURES"),
        (with(ProtocolName::Native, Some("fraud.toml"), None), "ML_API_FEATURES is not used by ML_API_PROTOCOL=native"),
        (with(ProtocolName::Mlflow, Some("none.toml"), None), "none.toml (entity not found)"),
        (with(ProtocolName::Template, Some("fraud.toml"), None), "ML_API_PROTOCOL=template needs `[template]`"),
        (with(ProtocolName::Mlflow, Some("template.toml"), None), "ML_API_FEATURES has a `[template]`"),
        (with(ProtocolName::Mlflow, Some("sagemaker.toml"), None), "ML_API_FEATURES has a `[sagemaker]`"),
        (with(ProtocolName::Oip, Some("oip.toml"), None), "ML_API_PROTOCOL=oip needs ML_API_MODEL_NAME"),
        (with(ProtocolName::Oip, Some("template.toml"), Some("fraud")), "ML_API_FEATURES has a `[template]`"),
        (with(ProtocolName::Instances, Some("fraud.toml"), Some("a/b")), "ML_API_MODEL_NAME is a part of a path"),
        (with(ProtocolName::Instances, Some("fraud.toml"), Some("..")), "ML_API_MODEL_NAME is a part of a path"),
    ];
    for (options, expected) in cases {
        let error = Scorer::with_policy("http://ml-api", &options, quick()).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

const OIP_METADATA: &str = include_str!("../api/protocol/captures/oip-metadata.json");

fn oip(url: &str) -> Scorer {
    let options =
        ApiOptions { ml_api_model_name: Some("fraud".to_owned()), ..options_for(ProtocolName::Oip, "oip.toml") };
    Scorer::with_policy(url, &options, quick()).unwrap()
}

fn oip_scores(request: &ReceivedRequest) -> Reply {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let rows = body["inputs"][0]["data"].as_array().unwrap().len();
    let (labels, scores) = (vec!["1"; rows].join(","), vec!["0.25,0.75"; rows].join(","));
    Reply::Body(format!(
        r#"{{"model_name":"fraud","model_version":"7","outputs":[{{"name":"predict","shape":[{rows},1],"datatype":"INT64","data":[{labels}]}},{{"name":"predict_proba","shape":[{rows},2],"datatype":"FP64","data":[{scores}]}}]}}"#
    ))
}

#[tokio::test]
async fn names_and_types_are_read_before_the_first_request() {
    for wait in [true, false] {
        let stub = Stub::with_health(oip_scores, |request| match request.path.as_str() {
            "/v2/models/fraud" => Reply::Body(OIP_METADATA.to_owned()),
            "/v2/health/ready" => Reply::Status(200),
            _ => Reply::Status(404),
        });
        let scorer = oip(&stub.url());
        if wait {
            within(scorer.wait_until_ready(std::time::Duration::from_secs(5))).await.unwrap();
        }
        let found = score(&scorer, aged_rows(1..4)).await;
        assert_outcomes(&found, 1..4, &[]);
        let prediction = &found.predicted[0].prediction;
        assert_eq!((&*prediction.prediction, prediction.fraud_score), ("fraud", Some(0.75)));
        assert_eq!(prediction.model_version.as_deref(), Some("7"));
        assert_eq!(stub.requests()[0].path, "/v2/models/fraud/infer");
        assert_eq!(stub.health_requests(), usize::from(wait) + 1);
    }
}

/// Metadata that are none.
type Unusable = fn() -> Reply;

#[tokio::test]
async fn metadata_that_cannot_be_used_are_waited_for() {
    let unusable: [(Unusable, &str); 6] = [
        (|| Reply::Status(503), "503"),
        (|| Reply::Status(400), "the model is not described: HTTP status 400"),
        (|| Reply::Status(500), "the metadata of its model cannot be read"),
        (|| Reply::Status(404), "no model of that name and version is there"),
        (
            || Reply::Body(r#"{"inputs":[{"name":"sum","datatype":"FP64","shape":[-1,1]}]}"#.to_owned()),
            "it takes `sum`",
        ),
        (|| Reply::Body("[]".to_owned()), "expected the metadata of a model, got an array of 0"),
    ];
    for (reply, seen) in unusable {
        let is_repaired = Arc::new(AtomicBool::new(false));
        let repaired = Arc::clone(&is_repaired);
        let stub = Stub::with_health(oip_scores, move |request| match request.path.as_str() {
            "/v2/models/fraud" if repaired.load(Ordering::SeqCst) => Reply::Body(OIP_METADATA.to_owned()),
            "/v2/models/fraud" => reply(),
            _ => Reply::Status(200),
        });
        let scorer = oip(&stub.url());
        let mut state = scorer.state();
        within(scorer.wait_until_ready(std::time::Duration::from_secs(5))).await.unwrap();
        let repair = async {
            let waiting = format!("{:?}", state.wait_for(|state| !state.is_ready()).await.unwrap());
            assert!(waiting.contains(seen), "{waiting}");
            assert_eq!(stub.requests().len(), 0, "nothing is sent before");
            is_repaired.store(true, Ordering::SeqCst);
        };
        let (found, ()) = within(async { tokio::join!(score(&scorer, aged_rows(1..4)), repair) }).await;
        assert_outcomes(&found, 1..4, &[]);
        assert_eq!(scorer.stats().bisections, 0, "no row is suspected");
    }
}

fn sagemaker(url: &str) -> Scorer {
    let options = ApiOptions {
        ml_api_model_name: Some("fraud".to_owned()),
        ..options_for(ProtocolName::Sagemaker, "sagemaker.toml")
    };
    Scorer::with_policy(url, &options, quick()).unwrap()
}

#[tokio::test]
async fn an_endpoint_gets_lines_and_its_errors_are_those_of_the_container() {
    let stub = Stub::serve(|request| {
        let lines = request.body.lines().count();
        // The container cannot take a negative age, and fails once at first.
        match request.number {
            0 => Reply::StatusBody(424, r#"{"ErrorCode":"x","OriginalStatusCode":503,"OriginalMessage":"secret"}"#),
            _ if request.body.contains("-7") => {
                Reply::StatusBody(424, r#"{"OriginalStatusCode":400,"OriginalMessage":"-7"}"#)
            }
            _ => Reply::Body("0.75\n".repeat(lines)),
        }
    });
    let scorer = sagemaker(&stub.url());
    let found = score(&scorer, vec![aged(1, "12.5"), aged(2, "-7"), aged(3, "3")]).await;
    assert_outcomes(&found, 1..4, &[2]);
    assert_eq!(found.failed[0].class, FailureClass::Rejected);
    assert_eq!(found.failed[0].reason, "ML API: HTTP status 400 Bad Request, for this transaction alone");
    assert_eq!(found.predicted[0].prediction.fraud_score, Some(0.75));
    let first = &stub.requests()[0];
    assert_eq!(first.path, "/endpoints/fraud/invocations");
    assert_eq!(first.body, "-952.40,6,1,12.5\n-952.40,6,1,-7\n-952.40,6,1,3\n");
    assert_eq!(first.header("content-type"), Some("text/csv"));
    assert_eq!(scorer.stats().outages, 1);
}

#[tokio::test]
async fn any_other_424_is_a_wrong_setting() {
    let stub = Stub::serve(|request| if request.number == 0 { Reply::Status(424) } else { mlflow_scores(request) });
    let scorer = mlflow(&stub.url());
    let mut state = scorer.state();
    let seen = async {
        let state = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        assert!(matches!(state, ApiState::Misconfigured { .. }), "{state:?}");
    };
    let (found, ()) = within(async { tokio::join!(score(&scorer, aged_rows(1..3)), seen) }).await;
    assert_outcomes(&found, 1..3, &[]);
}

#[tokio::test]
async fn a_features_file_that_fits_no_transaction_fails_none() {
    let stub = Stub::serve(mlflow_scores);
    let scorer = mlflow(&stub.url());
    let mut state = scorer.state();
    // Without the attribute that the file reads.
    let unwritable = score(&scorer, entries(1..4, "", &[]));
    let later = async {
        let waiting = format!("{:?}", state.wait_for(|state| !state.is_ready()).await.unwrap());
        assert!(waiting.contains("`card_age` is missing") && waiting.contains("check ML_API_FEATURES"), "{waiting}");
        assert_eq!(stub.requests().len(), 0);
        score(&scorer, aged_rows(4..6)).await
    };
    let (found, later) = within(async { tokio::join!(unwritable, later) }).await;
    assert_outcomes(&later, 4..6, &[]);
    assert_outcomes(&found, 1..4, &[1, 2, 3]);
    assert!(scorer.state().borrow().is_ready());
}

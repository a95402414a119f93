//! Where requests go, and what they carry: paths, redirections, credentials.

use assay_connect::SecretString;
use tokio_util::sync::CancellationToken;

use super::stub::{Reply, Stub};
use super::{assert_outcomes, entries, options, quick, score, score_until, scorer, within};
use crate::{ApiCredentials, ApiOptions, ApiState, ScoreError, Scorer, ScoringError};

fn with_paths(url: &str, predict: Option<&str>, health: Option<&str>) -> Scorer {
    let path = predict.map(|path| path.parse().unwrap());
    let health = health.map(|path| path.parse().unwrap());
    Scorer::with_policy(url, &ApiOptions { ml_api_path: path, ml_api_health_path: health, ..options() }, quick())
        .unwrap()
}

fn with_credentials(url: &str, token: Option<&str>, headers: Option<&str>) -> Result<Scorer, ScoringError> {
    let secret = |text: Option<&str>| text.map(SecretString::from);
    let credentials =
        ApiCredentials { ml_api_token: secret(token), ml_api_headers: secret(headers), ..ApiCredentials::default() };
    Scorer::with_policy(url, &ApiOptions { credentials, ..options() }, quick())
}

/// What is seen of an API that cannot be used.
async fn misconfiguration(scorer: &Scorer) -> String {
    let (mut state, stop) = (scorer.state(), CancellationToken::new());
    let wait = async {
        let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        stop.cancel();
        let ApiState::Misconfigured { reason, remedy } = seen else { panic!("{seen:?}") };
        format!("{reason}: {remedy}")
    };
    let (ended, seen) = within(async { tokio::join!(score_until(scorer, entries(1..9, "", &[]), &stop), wait) }).await;
    assert_eq!(ended, Err(ScoreError::Stopped));
    seen
}

#[tokio::test]
async fn paths_can_be_set() {
    let stub = Stub::serve(|_| Reply::Scores);
    let url = format!("{}/ml/", stub.url());
    for (predict, health, path, checked) in [
        (Some("v1/models/fraud:predict"), Some("/v1/live"), "/ml/v1/models/fraud:predict", "/ml/v1/live"),
        (Some("/"), None, "/ml", "/ml/health"),
        (None, Some("/"), "/ml/predict", "/ml"),
    ] {
        let scorer = with_paths(&url, predict, health);
        within(scorer.wait_until_ready(std::time::Duration::from_secs(50))).await.unwrap();
        assert_outcomes(&score(&scorer, entries(1..5, "", &[])).await, 1..5, &[]);
        assert_eq!(stub.requests().last().unwrap().path, path);
        assert_eq!(stub.health_paths().last().unwrap(), checked);
    }
}

#[tokio::test]
async fn an_api_declared_without_a_health_check_is_never_asked_for_one() {
    // 503 for no rows: any answer is life.
    let stub = Stub::serve(|request| match request.number {
        0 | 2 => Reply::Status(503),
        _ => Reply::Scores,
    });
    let scorer = with_paths(&stub.url(), None, Some("none"));
    within(scorer.wait_until_ready(std::time::Duration::from_secs(50))).await.unwrap();
    assert_eq!(stub.requests()[0].body, "[]");
    for rows in [1..5, 5..9, 9..13] {
        assert_outcomes(&score(&scorer, entries(rows.clone(), "", &[])).await, rows, &[]);
    }
    assert_eq!((stub.health_requests(), scorer.stats().outages), (0, 1));
}

#[tokio::test]
async fn redirections_within_the_host_are_followed() {
    for status in [307, 308] {
        let stub = Stub::serve(move |request| match request.path.as_str() {
            "/predict" => Reply::Page(status, "location", "/predict/"),
            "/predict/" => Reply::Page(status, "location", "/v2/predict/?from=1"),
            _ => Reply::Scores,
        });
        let scorer = with_credentials(&stub.url(), Some("k-123"), Some("x-api-key: k-456")).unwrap();
        assert_outcomes(&score(&scorer, entries(1..9, "", &[])).await, 1..9, &[]);
        let requests = stub.requests();
        let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/predict", "/predict/", "/v2/predict/"]);
        for request in requests {
            assert_eq!((request.ids().len(), request.header("referer")), (8, None));
            assert_eq!(request.header("authorization"), Some("Bearer k-123"));
            assert_eq!(request.header("x-api-key"), Some("k-456"));
        }
    }
}

#[tokio::test]
async fn other_redirections_are_refused_with_their_target() {
    let other = Stub::serve(|_| Reply::Scores);
    let cases: [(u16, &'static str, String); 6] = [
        (301, "/predict/", "/predict/): ".to_owned()),
        (302, "/login?next=secret", "/login): ".to_owned()),
        (303, "/predict/", "/predict/): ".to_owned()),
        // A loop.
        (307, "/predict", "/predict): ".to_owned()),
        (307, "https://user:secret@models.example/a?key=secret#secret", "(to https://models.example/a): ".to_owned()),
        (
            308,
            Box::leak(format!("{}/predict", other.url()).into_boxed_str()),
            format!("(to {}/predict): ", other.url()),
        ),
    ];
    for (status, location, shown) in cases {
        let stub = Stub::serve(move |_| Reply::Page(status, "location", location));
        let seen = misconfiguration(&with_credentials(&stub.url(), Some("k-123"), None).unwrap()).await;
        let expected = if shown.starts_with('/') { format!("(to {}{shown}", stub.url()) } else { shown };
        assert!(seen.contains(&expected) && seen.contains("ML_API_PATH"), "{seen}");
        assert!(!seen.contains("secret") && !seen.contains("k-123"), "{seen}");
    }
    assert_eq!(other.requests().len(), 0, "credentials go to no other host");
}

#[tokio::test]
async fn credentials_are_sent_with_every_request_and_never_shown() {
    let stub = Stub::serve(|request| match request.header("x-api-key") {
        Some("k-123") => Reply::Scores,
        _ => Reply::Json(403, r#"{"message":"Forbidden"}"#.to_owned()),
    });
    let seen = misconfiguration(&scorer(&stub.url())).await;
    assert!(seen.starts_with("HTTP status 403 Forbidden: ") && seen.contains("ML_API_HEADERS"), "{seen}");
    let seen = misconfiguration(&with_credentials(&stub.url(), Some("t-789"), Some("x-api-key: k-456")).unwrap()).await;
    assert!(!seen.contains("k-456") && !seen.contains("t-789"), "{seen}");
    let right = with_credentials(&stub.url(), None, Some("x-api-key: k-123")).unwrap();
    assert_outcomes(&score(&right, entries(1..9, "", &[])).await, 1..9, &[]);
    assert!(!format!("{right:?}").contains("k-123"));
    let both = with_credentials("http://user:secret@ml-api", Some("k-123"), None).unwrap_err().to_string();
    assert!(both.contains("ML_API_URL") && both.contains("ML_API_TOKEN") && !both.contains("secret"), "{both}");
}

/// As gzip writes what it does not compress.
fn gzip(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    body.extend(length.to_le_bytes());
    body.extend((!length).to_le_bytes());
    body.extend(text.as_bytes());
    body.extend(crc32fast::hash(text.as_bytes()).to_le_bytes());
    body.extend(u32::from(length).to_le_bytes());
    body
}

#[tokio::test]
async fn compressed_responses_are_asked_for_and_read() {
    let stub = Stub::serve(|request| {
        let is_accepted = request.header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
        if is_accepted { Reply::Gzip(gzip(&super::stub::scores(request))) } else { Reply::Status(406) }
    });
    assert_outcomes(&score(&scorer(&stub.url()), entries(1..101, "", &[])).await, 1..101, &[]);
    assert_eq!(stub.requests().len(), 1);
}

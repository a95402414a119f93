//! Signed requests, to an API that computes each signature itself and refuses others.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use assay_transaction::FailureClass;
use aws_credential_types::Credentials;
use sha2::{Digest as _, Sha256};

use super::protocols::{aged, aged_rows, options_for};
use super::stub::{ReceivedRequest, Reply, Stub};
use super::{assert_outcomes, quick, score, within};
use crate::api::http::HttpClient;
use crate::api::protocol::Protocol;
use crate::api::signing::{Identity, Signer};
use crate::credentials::ApiAuth;
use crate::failure::Symptom;
use crate::{ApiCredentials, ApiOptions, ApiState, ProtocolName, Scorer};

const REGION: &str = "eu-west-1";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// HMAC-SHA256 (RFC 2104), for keys of at most a block.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect() };
    let inner = Sha256::digest([padded(0x36), text.as_bytes().to_vec()].concat());
    Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}

/// The signature that a request must have, by the documentation of AWS.
fn expected_signature(request: &ReceivedRequest, signed: &str, date: &str, region: &str) -> String {
    let header = |name: &str| format!("{name}:{}", request.header(name).unwrap().trim());
    let headers = signed.split(';').map(header).collect::<Vec<_>>().join("\n");
    let body = hex(&Sha256::digest(request.body.as_bytes()));
    let canonical = format!("POST\n{}\n\n{headers}\n\n{signed}\n{body}", request.path);
    let day = &date[..8];
    let scope = format!("{day}/{region}/sagemaker/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let secret = format!("AWS4{SECRET}").into_bytes();
    let key = [day, region, "sagemaker", "aws4_request"].iter().fold(secret, |key, part| hmac(&key, part));
    hex(&hmac(&key, &text))
}

fn refused(status: u16, code: &str, message: &str) -> Reply {
    Reply::Json(status, serde_json::json!({ "__type": code, "message": message }).to_string())
}

/// What SageMaker in [`REGION`] says of a signature, if it does not accept it.
fn refusal(request: &ReceivedRequest) -> Option<Reply> {
    let parts = request.header("authorization").and_then(|value| value.strip_prefix("AWS4-HMAC-SHA256 "));
    let Some(parts) = parts else {
        return Some(refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    };
    let part = |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let (signed, date) = (part("SignedHeaders"), request.header("x-amz-date").unwrap());
    for name in ["host", "content-type", "x-amz-date", "x-amz-security-token"] {
        let is_sent = request.header(name).is_some();
        assert_eq!(signed.split(';').any(|covered| covered == name), is_sent, "{name} in {signed}");
    }
    let region = part("Credential").split('/').nth(2).unwrap();
    if region != REGION {
        return Some(refused(
            403,
            "InvalidSignatureException",
            "Credential should be scoped to a valid region, not 'x'. ",
        ));
    }
    let is_right = part("Signature") == expected_signature(request, signed, date, region);
    (!is_right).then_some(refused(403, "InvalidSignatureException", "The request signature we calculated …"))
}

fn identity(token: Option<&str>, region: &str) -> Identity {
    let credentials = Credentials::new("AKIDEXAMPLE", SECRET, token.map(str::to_owned), None, "test");
    Identity { credentials, region: region.to_owned() }
}

/// A scorer whose credentials come from `load`.
fn signing(url: &str, load: impl Fn() -> Result<Identity, Symptom> + Send + Sync + 'static) -> Scorer {
    let options = ApiOptions {
        ml_api_model_name: Some("fraud".to_owned()),
        credentials: ApiCredentials {
            ml_api_auth: ApiAuth::Sigv4,
            ml_api_headers: Some("x-trace: on".into()),
            ..ApiCredentials::default()
        },
        ..options_for(ProtocolName::Sagemaker, "sagemaker.toml")
    };
    let protocol = Protocol::from_options(&options).unwrap();
    let signer = Signer::with(Box::new(move || Box::pin(std::future::ready(load()))));
    let http = HttpClient::new(url, &protocol, &options).unwrap().signed_by(signer);
    Scorer::with_client(http, protocol, &options, quick())
}

fn lines_of_scores(request: &ReceivedRequest) -> Reply {
    Reply::Body("0.75\n".repeat(request.body.lines().count()))
}

/// Scores three rows, of which none may fail, and repairs the cause once the state tells `reason` and `remedy`.
async fn is_waited_out(scorer: &Scorer, reason: &str, remedy: &str, repaired: &AtomicBool) {
    let mut state = scorer.state();
    let repair = async {
        let seen = state.wait_for(|state| !state.is_ready()).await.unwrap().clone();
        let ApiState::Misconfigured { reason: why, remedy: fix } = &seen else { panic!("{seen:?}") };
        assert!(why.contains(reason) && fix.contains(remedy), "{seen:?}");
        assert!(!format!("{seen:?}").contains(SECRET), "{seen:?}");
        repaired.store(true, Ordering::SeqCst);
    };
    let (found, ()) = within(async { tokio::join!(score(scorer, aged_rows(1..4)), repair) }).await;
    assert_outcomes(&found, 1..4, &[]);
    assert_eq!(scorer.stats().bisections, 0);
}

#[tokio::test]
async fn each_attempt_is_signed_anew_over_the_same_body() {
    for token in [None, Some("session-token")] {
        let stub = Stub::serve(|request| {
            // The container cannot take a negative age, and fails once at first.
            match refusal(request) {
                Some(refusal) => refusal,
                None if request.number == 0 => Reply::StatusBody(424, r#"{"OriginalStatusCode":503}"#),
                None if request.body.contains("-7") => Reply::StatusBody(424, r#"{"OriginalStatusCode":400}"#),
                None => lines_of_scores(request),
            }
        });
        let scorer = signing(&stub.url(), move || Ok(identity(token, REGION)));
        within(scorer.wait_until_ready(std::time::Duration::from_secs(5))).await.unwrap();
        let found = score(&scorer, vec![aged(1, "12.5"), aged(2, "-7"), aged(3, "3")]).await;
        assert_outcomes(&found, 1..4, &[2]);
        assert_eq!(found.failed[0].class, FailureClass::Rejected);
        let requests = stub.requests();
        assert_eq!(requests[0].body, "-952.40,6,1,12.5\n-952.40,6,1,-7\n-952.40,6,1,3\n");
        assert!(requests.iter().skip(1).any(|request| request.body == requests[0].body));
        assert_eq!(requests[0].header("x-amz-security-token"), token);
        assert_eq!(requests[0].header("x-trace"), Some("on"));
        assert_eq!(scorer.stats().outages, 1, "no signature was refused");
    }
}

#[tokio::test]
async fn an_expired_token_is_loaded_anew() {
    let stub = Stub::serve(|request| match refusal(request) {
        Some(refusal) => refusal,
        None if request.header("x-amz-security-token") == Some("token-0") => {
            refused(403, "ExpiredTokenException", "The security token included in the request is expired")
        }
        None => lines_of_scores(request),
    });
    let loads = AtomicUsize::new(0);
    let scorer = signing(&stub.url(), move || {
        Ok(identity(Some(&format!("token-{}", loads.fetch_add(1, Ordering::SeqCst))), REGION))
    });
    let reason = "HTTP status 403 ExpiredTokenException: the session token has expired";
    is_waited_out(&scorer, reason, "renew the AWS credentials", &AtomicBool::new(false)).await;
}

#[tokio::test]
async fn a_wrong_region_names_the_setting() {
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let stub = Stub::serve(move |request| match refusal(request) {
        // As if the endpoint were in the other region after all.
        Some(_) if repaired.load(Ordering::SeqCst) => lines_of_scores(request),
        Some(refusal) => refusal,
        None => panic!("signed for {REGION}"),
    });
    let scorer = signing(&stub.url(), || Ok(identity(None, "us-east-1")));
    let reason = "HTTP status 403 InvalidSignatureException: the signature is for the region us-east-1";
    is_waited_out(&scorer, reason, "set AWS_REGION", &is_repaired).await;
}

#[tokio::test]
async fn nothing_is_sent_without_credentials() {
    let stub = Stub::serve(|request| refusal(request).unwrap_or_else(|| lines_of_scores(request)));
    let is_repaired = Arc::new(AtomicBool::new(false));
    let repaired = Arc::clone(&is_repaired);
    let scorer = signing(&stub.url(), move || {
        if repaired.load(Ordering::SeqCst) { Ok(identity(None, REGION)) } else { Err(Signer::not_found()) }
    });
    within(scorer.wait_until_ready(std::time::Duration::from_secs(5))).await.unwrap();
    is_waited_out(&scorer, "no AWS credentials: none in environment, profile", "AWS_PROFILE", &is_repaired).await;
    assert!(stub.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[tokio::test]
async fn a_throttled_request_fails_no_row() {
    // 400, as AWS documents it.
    let stub = Stub::serve(|request| match request.number {
        0 => refused(400, "ThrottlingException", "Rate exceeded"),
        _ => refusal(request).unwrap_or_else(|| lines_of_scores(request)),
    });
    let scorer = signing(&stub.url(), || Ok(identity(None, REGION)));
    assert_outcomes(&score(&scorer, aged_rows(1..4)).await, 1..4, &[]);
    assert_eq!(scorer.stats().bisections, 0);
}

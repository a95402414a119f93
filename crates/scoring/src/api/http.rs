//! One HTTP exchange with the ML API. Only this module uses `reqwest`.
//!
//! It neither retries nor waits; callers decide that by the class of the [`RequestError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use assay_connect::{ExposeSecret as _, TlsFailure, TlsMaterial};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, redirect};
use tracing::info;
use url::Url;

use crate::api::address::{ApiPath, HealthPath, parse_address, without_credentials};
use crate::api::error_body;
use crate::api::protocol::{Protocol, sagemaker};
use crate::api::signing::{self, Signer};
use crate::api::traced::{record_status, traced, with_context};
use crate::failure::Symptom;
use crate::reason::Reason;
use crate::{ApiOptions, ScoringError};

/// How long an idle connection is kept: less than the 5 s after which many servers close it.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Longest time to connect; the time-out of a request may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of the body of an error is read, which also lets its connection be reused.
const DRAINED: usize = 64 * 1024;
/// How many redirections in a row are followed.
const MAX_REDIRECTIONS: usize = 2;
/// Longest address of a redirection that is shown.
const MAX_TARGET: usize = 100;

/// The status in which SageMaker wraps the errors of its containers.
const FAILED_DEPENDENCY: u16 = 424;

/// Why there is no answer to a health check that times out.
pub(crate) const NO_ANSWER: &str = "no response in time";

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestError {
    pub(crate) symptom: Symptom,
    /// The API's `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl From<Symptom> for RequestError {
    fn from(symptom: Symptom) -> Self {
        Self { symptom, retry_after: None }
    }
}

/// A response with a status of success.
#[derive(Debug)]
pub(crate) struct PredictResponse {
    pub(crate) body: Bytes,
    content_type: Option<HeaderValue>,
    /// The header that names the model's version, if one is declared and the response has it.
    version: Option<HeaderValue>,
}

impl PredictResponse {
    /// The version of the model that a header names.
    pub(crate) fn model_version(&self) -> Option<&str> {
        self.version.as_ref()?.to_str().ok()
    }

    /// Its content type, if that is not JSON and can be shown.
    pub(crate) fn other_content_type(&self) -> Option<&str> {
        let named = self.content_type.as_ref()?.to_str().ok()?;
        let essence = named.split(';').next()?.trim();
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+.-".contains(&byte));
        let is_shown = (1..=64).contains(&essence.len()) && is_plain(essence);
        (is_shown && !essence.ends_with("json")).then_some(essence)
    }
}

/// The ML API at its address, which may contain a password; `Debug` shows none.
pub(crate) struct HttpClient {
    client: reqwest::Client,
    empty_request: Bytes,
    content_type: HeaderValue,
    version_header: Option<HeaderName>,
    /// Signs what transactions travel in; health checks have no signature, as any answer to them is life.
    signer: Option<Signer>,
    predict: Url,
    /// None if the API is declared to have no health check.
    health: Option<Url>,
    /// The metadata of the model, if the protocol has such.
    metadata: Option<Url>,
    /// Whether it was said that each request is redirected.
    is_redirection_logged: AtomicBool,
    /// The address without credentials.
    shown: String,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Http").field("address", &self.shown).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Keeps a connection alive for each worker. Does not connect yet.
    pub(crate) fn new(address: &str, protocol: &Protocol, options: &ApiOptions) -> Result<Self, ScoringError> {
        let base = parse_address(address)?;
        let signer = signing::signer(&base, options.credentials.ml_api_auth)?;
        let timeout = options.api_timeout;
        // If the process has installed one before, that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = options.credentials.headers(!base.username().is_empty() || base.password().is_some())?;
        headers.insert(ACCEPT, HeaderValue::from_static(protocol.content_type()));
        let client = if base.scheme() == "http" {
            // Works on a machine without root certificates.
            reqwest::Client::builder().tls_certs_only([])
        } else {
            trusting(options.endpoint.tls().read()?)?
        };
        let client = client
            .user_agent(concat!("assay/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(timeout)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::from(options.api_max_workers))
            .pool_idle_timeout(KEEP_ALIVE)
            .redirect(match signer {
                // A signature is for one URL.
                Some(_) => redirect::Policy::none(),
                None => redirect::Policy::custom(follow_within_host),
            })
            .referer(false)
            // No setting names a proxy.
            .no_proxy()
            .build()
            .map_err(|error| ScoringError::Client(innermost(&error)))?;
        let below = |path: &str| path.parse::<ApiPath>().map(|path| path.below(&base)).map_err(ScoringError::Client);
        let predict = match &options.ml_api_path {
            Some(path) => path.below(&base),
            None => below(protocol.predict_path())?,
        };
        let health = match &options.ml_api_health_path {
            Some(HealthPath::None) => None,
            Some(HealthPath::At(path)) => Some(path.below(&base)),
            None => Some(below(protocol.health_path())?),
        };
        Ok(Self {
            client,
            empty_request: protocol.empty_request(),
            content_type: HeaderValue::from_static(protocol.content_type()),
            version_header: options.model_version_header.clone(),
            signer,
            predict,
            health,
            metadata: protocol.metadata_path().map(below).transpose()?,
            is_redirection_logged: AtomicBool::new(false),
            shown: without_credentials(base),
        })
    }

    /// Signs with this in place of the credentials of the chain.
    #[cfg(all(test, feature = "sigv4"))]
    pub(crate) fn signed_by(mut self, signer: Signer) -> Self {
        self.signer = Some(signer);
        self
    }

    /// The address without credentials, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.shown
    }

    /// Where transactions are sent, without credentials.
    pub(crate) fn predict_url(&self) -> String {
        without_credentials(self.predict.clone())
    }

    /// Where transactions are sent, below the address.
    pub(crate) fn predict_path(&self) -> &str {
        self.predict.path()
    }

    /// The health check, for messages: its path below the address.
    pub(crate) fn health_path(&self) -> Option<&str> {
        self.health.as_ref().map(Url::path)
    }

    /// Sends a body to be scored, and reads a response of at most `max_bytes`.
    pub(crate) async fn predict(&self, body: Bytes, max_bytes: usize) -> Result<PredictResponse, RequestError> {
        traced(&self.predict, self.exchange(body, max_bytes)).await
    }

    async fn exchange(&self, body: Bytes, max_bytes: usize) -> Result<PredictResponse, RequestError> {
        let response = self.send(with_context(self.post(body.clone())), symptom_of).await?;
        record_status(response.status());
        if !response.status().is_success() {
            return Err(status_error(response, &body, self.signer.as_ref()).await);
        }
        self.log_redirection(response.url());
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let version = self.version_header.as_ref().and_then(|name| response.headers().get(name)).cloned();
        Ok(PredictResponse { content_type, version, body: read_body(response, max_bytes).await? })
    }

    /// Asks for the metadata of the model; without such, nothing is read.
    pub(crate) async fn metadata(&self, max_bytes: usize) -> Result<Bytes, RequestError> {
        let Some(url) = self.metadata.clone() else { return Ok(Bytes::new()) };
        let response = self.send(self.client.get(url), symptom_of_check).await?;
        if !response.status().is_success() {
            return Err(status_error(response, &[], self.signer.as_ref()).await);
        }
        read_body(response, max_bytes).await
    }

    /// Sends a request about no transaction. Any HTTP response is `Ok`, with its status.
    pub(crate) async fn predict_nothing(&self, timeout: Duration) -> Result<u16, RequestError> {
        let request = self.post(self.empty_request.clone()).timeout(timeout);
        let response = request.send().await.map_err(|error| symptom_of_check(&error))?;
        let status = response.status().as_u16();
        read_start(response).await;
        Ok(status)
    }

    /// Asks the health check, if there is one. Anything but success is `Err`.
    pub(crate) async fn health(&self, timeout: Duration) -> Option<Result<(), RequestError>> {
        let request = self.client.get(self.health.clone()?).timeout(timeout);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Some(Err(symptom_of_check(&error).into())),
        };
        if !response.status().is_success() {
            return Some(Err(status_error(response, &[], None).await));
        }
        read_start(response).await;
        Some(Ok(()))
    }

    fn post(&self, body: Bytes) -> RequestBuilder {
        self.client.post(self.predict.clone()).header(CONTENT_TYPE, self.content_type.clone()).body(body)
    }

    /// Sends a request, with a signature of this moment if the API takes signed ones. Without the signature, nothing is sent.
    async fn send(
        &self,
        request: RequestBuilder,
        symptom: fn(&reqwest::Error) -> Symptom,
    ) -> Result<Response, Symptom> {
        let (client, request) = request.build_split();
        let mut request = request.map_err(|error| symptom(&error))?;
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        client.execute(request).await.map_err(|error| symptom(&error))
    }

    /// Says once that each request takes two.
    fn log_redirection(&self, answered: &Url) {
        let (from, to) = (self.predict.path(), answered.path());
        if from != to && !self.is_redirection_logged.swap(true, Ordering::Relaxed) {
            info!(
                "ML API at {} redirects POST {from} to {to}: with ML_API_PATH, each request takes one round trip less",
                self.shown
            );
        }
    }
}

/// Follows a redirection that keeps the method and the body, on the same host; credentials go nowhere else.
fn follow_within_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let keeps_body = matches!(attempt.status().as_u16(), 307 | 308);
    let is_within = attempt.previous().first().is_some_and(|asked| asked.origin() == attempt.url().origin());
    if keeps_body && is_within && attempt.previous().len() <= MAX_REDIRECTIONS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// A client that trusts these authorities in addition to the system's, with this client certificate.
fn trusting(TlsMaterial { authorities, identity }: TlsMaterial) -> Result<reqwest::ClientBuilder, ScoringError> {
    let unusable = |error: reqwest::Error| ScoringError::Client(innermost(&error));
    let mut client = reqwest::Client::builder();
    if let Some(authorities) = authorities {
        client =
            client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authorities.as_bytes()).map_err(unusable)?);
    }
    if let Some(identity) = identity {
        let both = [identity.key.expose_secret(), &identity.certificates].join(&b'\n');
        client = client.identity(reqwest::Identity::from_pem(&both).map_err(unusable)?);
    }
    Ok(client)
}

/// The error of a status other than success, with what its body says of the fields of the request or of its signature.
async fn status_error(response: Response, request: &[u8], signer: Option<&Signer>) -> RequestError {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
    let target = if status.is_redirection() { redirection_target(&response) } else { None };
    let with_headers = signer.map(|signer| (signer, response.headers().clone()));
    let body = read_start(response).await;
    if let Some((signer, headers)) = with_headers
        && let Some(symptom) = signing::refused(signer, status.as_u16(), &headers, &body)
    {
        return RequestError { symptom, retry_after };
    }
    let detail = target.or_else(|| error_body::detail(&body, request));
    let original = if status == FAILED_DEPENDENCY { sagemaker::original_status(&body) } else { None };
    RequestError { symptom: Symptom::Status { code: original.unwrap_or(status.as_u16()), detail }, retry_after }
}

/// Where a redirection leads, without credentials and query.
fn redirection_target(response: &Response) -> Option<Reason> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let mut target = response.url().join(location).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    let is_http = matches!(target.scheme(), "http" | "https");
    // They fail only for addresses without a host.
    let _ = (target.set_username(""), target.set_password(None));
    let cut: String = target.as_str().chars().take(MAX_TARGET).collect();
    is_http.then(|| format!("to {cut}").into())
}

/// Reads the rest of a body that is not a response to be used, up to a limit; what cannot be read is left out.
async fn read_start(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > DRAINED {
            break;
        }
    }
    body
}

async fn read_body(mut response: Response, max_bytes: usize) -> Result<Bytes, RequestError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let (mut first, mut body) = (Bytes::new(), BytesMut::new());
    while let Some(part) = response.chunk().await.map_err(|error| symptom_of(&error))? {
        let bytes = first.len().max(body.len()) + part.len();
        if bytes > max_bytes {
            return Err(RequestError::from(Symptom::Unreadable(
                "response is longer than predictions of so many transactions can be".into(),
            )));
        }
        // Most responses are there as a whole, and are not copied.
        if first.is_empty() {
            first = part;
            continue;
        }
        if body.is_empty() {
            body.reserve(announced.min(max_bytes).max(bytes));
            body.extend_from_slice(&first);
        }
        body.extend_from_slice(&part);
    }
    Ok(if body.is_empty() { first } else { body.freeze() })
}

/// Parses `Retry-After`: seconds, or a date.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The symptom of an exchange without a response.
fn symptom_of(error: &reqwest::Error) -> Symptom {
    if let Some(error) = TlsFailure::from_error(error) {
        return Symptom::Tls(error);
    }
    if error.is_connect() {
        return Symptom::Unreachable(why_unreachable(error));
    }
    if error.is_timeout() {
        // The caller asks `/health` to tell the two time-outs apart.
        return Symptom::TimedOutHealthy;
    }
    Symptom::ConnectionLost
}

/// As [`symptom_of`], for a request that tells nothing of rows.
fn symptom_of_check(error: &reqwest::Error) -> Symptom {
    match symptom_of(error) {
        Symptom::TimedOutHealthy => Symptom::Unreachable(NO_ANSWER),
        symptom => symptom,
    }
}

fn why_unreachable(error: &reqwest::Error) -> &'static str {
    if error.is_dns() {
        return "no such host";
    }
    if error.is_timeout() {
        return "no connection in time";
    }
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused",
        Some(io::ErrorKind::ConnectionReset) => "connection reset",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route to host",
        _ => "no connection",
    }
}

fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_address() {
        let cases = [
            ("http://host:8000", "http://host:8000/predict", "http://host:8000"),
            ("http://host:8000/", "http://host:8000/predict", "http://host:8000"),
            ("https://host/models/fraud", "https://host/models/fraud/predict", "https://host/models/fraud"),
            ("https://host/models/fraud/", "https://host/models/fraud/predict", "https://host/models/fraud"),
            ("http://user:secret@host/x", "http://user:secret@host/x/predict", "http://host/x"),
            ("http://user:p:%40@host", "http://user:p%3A%40@host/predict", "http://host"),
            ("http://[::1]:8000", "http://[::1]:8000/predict", "http://[::1]:8000"),
            (
                "http://user:secret@[2001:db8::1]/x",
                "http://user:secret@[2001:db8::1]/x/predict",
                "http://[2001:db8::1]/x",
            ),
            ("http://HOST:80", "http://host/predict", "http://host"),
        ];
        for (address, predict, shown) in cases {
            let http = HttpClient::new(address, &Protocol::default(), &ApiOptions::default()).unwrap();
            assert_eq!(http.predict.as_str(), predict);
            assert_eq!(http.address(), shown);
            assert!(!format!("{http:?}").contains("secret"));
        }
    }

    #[test]
    fn a_wrong_address_is_named_without_its_password() {
        let cases = [
            ("", "no scheme"),
            ("localhost:8000", "no scheme"),
            ("ftp://user:secret@host", "its scheme is not supported"),
            ("http:secret", "no scheme"),
            ("http:///secret", "no host"),
            ("http://user:secret@ho st", "neither a name nor an IP address"),
            ("http://user:secret@/predict", "no host"),
            ("http://user:se@cret@host:80", "percent-encode"),
            ("http://user:se/cret@host:80", "percent-encode"),
            ("http://user:se\\cret@host:80", "percent-encode"),
            ("http://host:99999", "its port is not a number"),
            ("http://host/?key=1", "query"),
            ("http://host/#key", "percent-encode"),
            ("http://127.1:8000", "neither a name nor an IP address"),
            ("http://[fe80::1%25eth0]:8000", "zone"),
        ];
        for (address, problem) in cases {
            let error = HttpClient::new(address, &Protocol::default(), &ApiOptions::default()).unwrap_err();
            assert_eq!(error.exit(), assay_transaction::Exit::Usage);
            let message = error.to_string();
            assert!(message.contains(problem) && message.contains("ML_API_URL"), "{address}: {message}");
            assert!(!message.contains("secret") && !message.contains("cret@"), "{message}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2026 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2026 07:27:30 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            let value = HeaderValue::from_static(text);
            assert_eq!(retry_after(&value, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}

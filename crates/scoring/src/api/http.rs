//! One HTTP exchange with the ML API. Only this module uses `reqwest`.
//!
//! It neither retries nor waits; callers decide that by the class of the [`RequestError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use assay_connect::{AddressForm, ExposeSecret as _, Host, TlsFailure, TlsMaterial};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, redirect};
use url::Url;

use crate::api::protocol::{Protocol, sagemaker};
use crate::failure::Symptom;
use crate::{ApiOptions, ScoringError};

/// How long an idle connection is kept: less than the 5 s after which many servers close it.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Longest time to connect; the time-out of a request may be shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of the body of an error is read, which also lets its connection be reused.
const DRAINED: usize = 64 * 1024;

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

/// The ML API at its address, which may contain a password; `Debug` shows none.
pub(crate) struct HttpClient {
    client: reqwest::Client,
    empty_request: Bytes,
    content_type: HeaderValue,
    predict: Url,
    health: Url,
    /// The metadata of the model, if the protocol has such.
    metadata: Option<Url>,
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
        let timeout = options.api_timeout;
        // If the process has installed one before, that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
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
            // A redirection would turn the POST into a GET; no setting names a proxy.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| ScoringError::Client(innermost(&error)))?;
        Ok(Self {
            client,
            empty_request: protocol.empty_request(),
            content_type: HeaderValue::from_static(protocol.content_type()),
            predict: below(&base, protocol.predict_path()),
            health: below(&base, protocol.health_path()),
            metadata: protocol.metadata_path().map(|path| below(&base, path)),
            shown: without_credentials(base),
        })
    }

    /// The address without credentials, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.shown
    }

    /// Where transactions are sent, below the address.
    pub(crate) fn predict_path(&self) -> &str {
        self.predict.path()
    }

    /// Sends a body to be scored, and reads a response of at most `max_bytes`.
    pub(crate) async fn predict(&self, body: Bytes, max_bytes: usize) -> Result<Bytes, RequestError> {
        let request = self.client.post(self.predict.clone()).header(CONTENT_TYPE, self.content_type.clone()).body(body);
        let response = request.send().await.map_err(|error| symptom_of(&error))?;
        if !response.status().is_success() {
            return Err(status_error(response).await);
        }
        read_body(response, max_bytes).await
    }

    /// Asks for the metadata of the model; without such, nothing is read.
    pub(crate) async fn metadata(&self, max_bytes: usize) -> Result<Bytes, RequestError> {
        let Some(url) = self.metadata.clone() else { return Ok(Bytes::new()) };
        let response = self.client.get(url).send().await.map_err(|error| symptom_of_get(&error))?;
        if !response.status().is_success() {
            return Err(status_error(response).await);
        }
        read_body(response, max_bytes).await
    }

    /// Whether `POST /predict` with no transactions gets any HTTP response.
    pub(crate) async fn accepts_empty_predict(&self, timeout: Duration) -> bool {
        let request = self.client.post(self.predict.clone()).header(CONTENT_TYPE, self.content_type.clone());
        match request.body(self.empty_request.clone()).timeout(timeout).send().await {
            Ok(response) => {
                read_start(response).await;
                true
            }
            Err(_) => false,
        }
    }

    /// `GET /health`. Anything but success is `Err`.
    pub(crate) async fn health(&self, timeout: Duration) -> Result<(), RequestError> {
        let request = self.client.get(self.health.clone()).timeout(timeout);
        let response = request.send().await.map_err(|error| symptom_of_get(&error))?;
        if !response.status().is_success() {
            return Err(status_error(response).await);
        }
        read_start(response).await;
        Ok(())
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

/// What `ML_API_URL` may look like.
const FORM: AddressForm =
    AddressForm { name: "ML_API_URL", schemes: &["http", "https"], of: "an ML API", example: "http://localhost:8000" };

/// Parses an address: `http` or `https`, a host, and perhaps a path above the API's own.
fn parse_address(text: &str) -> Result<Url, ScoringError> {
    let address = FORM.read(text)?;
    let Some(host @ (Host::Name(_) | Host::Ip(_))) = &address.host else {
        return Err(FORM.wrong("it names no host").into());
    };
    if text.contains('?') {
        return Err(FORM.wrong("it must not end in a query").into());
    }
    // The parser's message may repeat a part of the address.
    let url = Url::parse(text.trim()).map_err(|_| FORM.wrong("HTTP clients cannot read it"))?;
    let is_same = url.scheme() == address.scheme
        && url.host_str().is_some_and(|theirs| host.is(theirs))
        && address.port.is_none_or(|port| url.port_or_known_default() == Some(port));
    if is_same { Ok(url) } else { Err(FORM.ambiguous().into()) }
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn without_credentials(mut url: Url) -> String {
    // They fail only for addresses without a host, which are rejected before.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// The error of a status other than success.
async fn status_error(response: Response) -> RequestError {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
    let body = read_start(response).await;
    let original = if status == FAILED_DEPENDENCY { sagemaker::original_status(&body) } else { None };
    RequestError { symptom: Symptom::status(original.unwrap_or(status)), retry_after }
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
            return Err(RequestError::from(Symptom::Unreadable("response is too long".into())));
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

/// The same where no row can be at fault.
fn symptom_of_get(error: &reqwest::Error) -> Symptom {
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
            let http = HttpClient::new(address, &Protocol::Native, &ApiOptions::default()).unwrap();
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
            let error = HttpClient::new(address, &Protocol::Native, &ApiOptions::default()).unwrap_err();
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

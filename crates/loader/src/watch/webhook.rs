//! Bucket events by HTTP: `POST /events/s3`.
//!
//! Guarantees: bodies of senders without the secret are not read; the memory of all bodies is bounded; the response is 200 only
//! once the run of the object and its lease are committed; if no load can begin soon, or a service is unreachable, it is 503 with
//! `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use assay_connect::{ExposeSecret as _, SecretString};
use assay_http_server::{BodyError, BodyReader, ReadBody, ServerLimits, serve};
use assay_source::{ObjectEvent, parse_events};
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::event_source::{Event, EventSource, WorkItem, WorkReceipt};
use super::options::Webhook;
use crate::LoadError;

/// Largest body, and the memory of all bodies, each held until its response.
const MAX_BODY_BYTES: u32 = 1024 * 1024;
const MAX_BODIES_BYTES: u32 = 8 * MAX_BODY_BYTES;
/// Longest time to receive a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: usize = 256;
/// Longest wait for room for another load.
const DISPATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the load to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);
/// `Retry-After`, in seconds.
const RETRY_AFTER: &str = "10";

/// The server, and its pending requests.
pub(crate) struct WebhookEvents {
    requests: mpsc::Receiver<PendingRequest>,
    _server: AbortOnDropHandle<()>,
}

/// A request that waits for its load to begin.
struct PendingRequest {
    objects: Vec<ObjectEvent>,
    taken: oneshot::Sender<()>,
    begun: oneshot::Sender<()>,
}

impl WebhookEvents {
    pub(crate) async fn serve(webhook: Webhook, shutdown: CancellationToken) -> Result<Self, LoadError> {
        let Webhook { address, secret } = webhook;
        let cannot = |error: std::io::Error| {
            LoadError::Setting(format!("cannot listen at {address} ({error}): check WEBHOOK_ADDR"))
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        info!("events are accepted at http://{address}/events/s3");
        Ok(Self::start(listener, secret, shutdown))
    }

    fn start(listener: TcpListener, secret: SecretString, shutdown: CancellationToken) -> Self {
        let (sender, requests) = mpsc::channel(1);
        let state =
            WebhookState { secret, sender, bodies: BodyReader::new(MAX_BODY_BYTES, MAX_BODIES_BYTES, BODY_TIMEOUT) };
        let router = Router::new().route("/events/s3", post(receive_events)).with_state(Arc::new(state));
        let limits = ServerLimits { max_connections: MAX_CONNECTIONS, ..ServerLimits::default() };
        let server = tokio::spawn(serve(listener, router, limits, shutdown));
        Self { requests, _server: AbortOnDropHandle::new(server) }
    }
}

#[async_trait]
impl EventSource for WebhookEvents {
    async fn next(&mut self) -> Event {
        loop {
            // None once the server has ended.
            let Some(PendingRequest { objects, taken, begun }) = self.requests.recv().await else {
                return std::future::pending().await;
            };
            // Fails if the sender has gone away: it sends the event again.
            if taken.send(()).is_ok() {
                let items = objects.into_iter().map(WorkItem::Object).collect();
                return Event { items, receipt: Box::new(WebhookReceipt(begun)) };
            }
        }
    }
}

/// If it is dropped, nothing has begun.
struct WebhookReceipt(oneshot::Sender<()>);

#[async_trait]
impl WorkReceipt for WebhookReceipt {
    async fn ack(self: Box<Self>) {
        // A sender that has gone away sends the event again, and there is nothing to do.
        let _ = self.0.send(());
    }
}

struct WebhookState {
    secret: SecretString,
    sender: mpsc::Sender<PendingRequest>,
    bodies: BodyReader,
}

async fn receive_events(State(state): State<Arc<WebhookState>>, request: axum::extract::Request) -> Response {
    if !state.is_authorized(request.headers()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    // Holds the room of the body until the response, as long as its objects live.
    let ReadBody { bytes, room: _room } = match state.bodies.read(request).await {
        Ok(body) => body,
        Err(error) => return body_error_response(error),
    };
    let objects = parse_events(&bytes);
    drop(bytes);
    match objects {
        Ok(objects) if objects.is_empty() => StatusCode::OK.into_response(),
        Ok(objects) => state.begin(objects).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// The response to a body that was not read.
fn body_error_response(error: BodyError) -> Response {
    match error.status() {
        StatusCode::SERVICE_UNAVAILABLE => retry_later(),
        status => (status, format!("{error}\n")).into_response(),
    }
}

impl WebhookState {
    /// Accepts `Bearer …`, or the secret alone.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(given) = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes) else {
            return false;
        };
        let given = match given.split_at_checked(b"Bearer ".len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
            _ => given,
        };
        is_same(given, self.secret.expose_secret().as_bytes())
    }

    async fn begin(&self, objects: Vec<ObjectEvent>) -> Response {
        let ((taken, is_taken), (begun, is_begun)) = (oneshot::channel(), oneshot::channel());
        let room = async {
            self.sender.send(PendingRequest { objects, taken, begun }).await.ok()?;
            is_taken.await.ok()
        };
        // On a timeout, the request is dropped and so withdrawn.
        let Ok(Some(())) = timeout(DISPATCH_TIMEOUT, room).await else { return retry_later() };
        match timeout(BEGIN_TIMEOUT, is_begun).await {
            Ok(Ok(())) => StatusCode::OK.into_response(),
            _ => retry_later(),
        }
    }
}

fn retry_later() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)]).into_response()
}

/// Compares in constant time.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let differences = given.iter().zip(secret).fold(0, |differences, (one, other)| differences | (one ^ other));
    given.len() == secret.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Timeout of a test that fails.
    const TEST_TIMEOUT: Duration = Duration::from_mins(1);

    async fn events() -> (WebhookEvents, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (WebhookEvents::start(listener, "hush".into(), CancellationToken::new()), port)
    }

    /// The response to a head with part of its body.
    async fn send(port: u16, secret: &str, length: usize, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!(
            "POST /events/s3 HTTP/1.1\r\nhost: test\r\nauthorization: {secret}\r\nconnection: close\r\ncontent-length: \
             {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(TEST_TIMEOUT, stream.read_u8()).await.expect("an answer comes").unwrap();
            answer.push(byte);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_body_without_the_secret_is_not_read() {
        let (_events, port) = events().await;
        for secret in ["", "Bearer nope", "Bearer", "hush2"] {
            // The body never comes.
            let answer = send(port, secret, 1_000_000, "{").await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{secret}: {answer}");
        }
        for secret in ["Bearer hush", "hush"] {
            let answer = send(port, secret, 1, "{").await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{secret}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_rejected_before_it_comes() {
        let (_events, port) = events().await;
        let answer = send(port, "hush", MAX_BODY_BYTES as usize + 1, "").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}

//! Events that come by HTTP: `POST /events/s3`.
//!
//! Guarantees: who has no secret is not read; bodies are bounded in all; the answer is 200 only once the run of the object and its
//! lease are committed; where no load can begin within some seconds, or something is away, the sender is told to come back (503).

use std::sync::Arc;
use std::time::Duration;

use assay_http_server::{Bodies, BodyError, Limits, ReadBody, serve};
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

use super::event_source::{Intake, Piece, Receipt, Told};
use super::options::Webhook;
use crate::LoadError;

/// The largest body that is read, and all that are in memory: each of them until its sender is answered.
const MAX_BODY_BYTES: u32 = 1024 * 1024;
const BODIES: u32 = 8 * MAX_BODY_BYTES;
/// How long a body may take to come.
const READ: Duration = Duration::from_secs(30);
/// Those that send events are few.
const CONNECTIONS: usize = 256;
/// How long a sender waits for a load that may begin.
const ROOM: Duration = Duration::from_secs(10);
/// How long it waits for the load to have begun.
const BEGIN: Duration = Duration::from_mins(1);
/// When a sender may come back, in seconds.
const RETRY_AFTER: &str = "10";

/// A server, and what it was told.
pub(crate) struct WebhookEvents {
    told: mpsc::Receiver<Request>,
    _server: AbortOnDropHandle<()>,
}

/// What one sender says, and waits for.
struct Request {
    objects: Vec<ObjectEvent>,
    taken: oneshot::Sender<()>,
    begun: oneshot::Sender<()>,
}

impl WebhookEvents {
    /// Listens until `shutdown`.
    pub(crate) async fn serve(webhook: Webhook, shutdown: CancellationToken) -> Result<Self, LoadError> {
        let Webhook { address, secret } = webhook;
        let cannot = |error: std::io::Error| {
            LoadError::Setting(format!("cannot listen at {address} ({error}): check WEBHOOK_ADDR"))
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        info!("events are taken at http://{address}/events/s3");
        Ok(Self::start(listener, secret, shutdown))
    }

    fn start(listener: TcpListener, secret: String, shutdown: CancellationToken) -> Self {
        let (tell, told) = mpsc::channel(1);
        let gate = Gate { secret, tell, bodies: Bodies::new(MAX_BODY_BYTES, BODIES, READ) };
        let router = Router::new().route("/events/s3", post(take)).with_state(Arc::new(gate));
        let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
        let server = tokio::spawn(serve(listener, router, limits, shutdown));
        Self { told, _server: AbortOnDropHandle::new(server) }
    }
}

#[async_trait]
impl Intake for WebhookEvents {
    async fn next(&mut self) -> Told {
        loop {
            // Nobody tells anything any more once the server has ended.
            let Some(Request { objects, taken, begun }) = self.told.recv().await else {
                return std::future::pending().await;
            };
            // Whoever has gone away meanwhile tells it again.
            if taken.send(()).is_ok() {
                let pieces = objects.into_iter().map(Piece::Object).collect();
                return Told { pieces, receipt: Box::new(Answer(begun)) };
            }
        }
    }
}

/// Dropped, it says that nothing has begun.
struct Answer(oneshot::Sender<()>);

#[async_trait]
impl Receipt for Answer {
    async fn ack(self: Box<Self>) {
        // A sender that has gone away tells it again, and hears that there is nothing to do.
        let _ = self.0.send(());
    }
}

struct Gate {
    secret: String,
    tell: mpsc::Sender<Request>,
    bodies: Bodies,
}

async fn take(State(gate): State<Arc<Gate>>, request: axum::extract::Request) -> Response {
    if !gate.lets_in(request.headers()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    // The room of the body is taken until the answer: so long live the objects that it names.
    let ReadBody { bytes, room: _room } = match gate.bodies.read(request).await {
        Ok(body) => body,
        Err(error) => return refuse(error),
    };
    let objects = parse_events(&bytes);
    drop(bytes);
    match objects {
        Ok(objects) if objects.is_empty() => StatusCode::OK.into_response(),
        Ok(objects) => gate.begin(objects).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// The answer to a body that was not read.
fn refuse(error: BodyError) -> Response {
    match error.status() {
        StatusCode::SERVICE_UNAVAILABLE => come_back(),
        status => (status, format!("{error}\n")).into_response(),
    }
}

impl Gate {
    /// `Bearer …`, or the secret alone.
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let Some(given) = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes) else {
            return false;
        };
        let given = match given.split_at_checked(b"Bearer ".len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
            _ => given,
        };
        is_same(given, self.secret.as_bytes())
    }

    async fn begin(&self, objects: Vec<ObjectEvent>) -> Response {
        let ((taken, is_taken), (begun, is_begun)) = (oneshot::channel(), oneshot::channel());
        let room = async {
            self.tell.send(Request { objects, taken, begun }).await.ok()?;
            is_taken.await.ok()
        };
        // Dropped, the request is withdrawn.
        let Ok(Some(())) = timeout(ROOM, room).await else { return come_back() };
        match timeout(BEGIN, is_begun).await {
            Ok(Ok(())) => StatusCode::OK.into_response(),
            _ => come_back(),
        }
    }
}

fn come_back() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)]).into_response()
}

/// Compares all bytes, however soon they differ: the time that it takes tells nothing of them.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let differences = given.iter().zip(secret).fold(0, |differences, (one, other)| differences | (one ^ other));
    given.len() == secret.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Longer than any test takes: what waits for it has failed.
    const PATIENCE: Duration = Duration::from_mins(1);

    async fn events() -> (WebhookEvents, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (WebhookEvents::start(listener, "hush".to_owned(), CancellationToken::new()), port)
    }

    /// What is answered to a head and as much of its body.
    async fn send(port: u16, secret: &str, length: usize, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!(
            "POST /events/s3 HTTP/1.1\r\nhost: test\r\nauthorization: {secret}\r\nconnection: close\r\ncontent-length: \
             {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer comes").unwrap();
            answer.push(byte);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn who_has_no_secret_is_not_read() {
        let (_events, port) = events().await;
        for secret in ["", "Bearer nope", "Bearer", "hush2"] {
            // The body never comes, and nobody waits for it.
            let answer = send(port, secret, 1_000_000, "{").await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{secret}: {answer}");
        }
        for secret in ["Bearer hush", "hush"] {
            let answer = send(port, secret, 1, "{").await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{secret}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_before_it_comes() {
        let (_events, port) = events().await;
        let answer = send(port, "hush", MAX_BODY_BYTES as usize + 1, "").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}

//! Events that come by HTTP: `POST /events/s3`.
//!
//! Guarantees: who has no secret is not read; the answer is 200 only once the run of the object and its lease are committed;
//! where no load can begin within some seconds, or something is away, the sender is told to come back (503).

use std::sync::Arc;
use std::time::Duration;

use assay_source::{ObjectEvent, parse_events};
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use super::intake::{Intake, Piece, Receipt, Told};
use super::options::Webhook;
use crate::LoadError;

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;
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
        let (tell, told) = mpsc::channel(1);
        let router = Router::new()
            .route("/events/s3", post(take))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(Arc::new(Gate { secret, tell }));
        let server = tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
            if let Err(error) = serving.await {
                error!("no events are taken by HTTP any more: {error}");
            }
        });
        Ok(Self { told, _server: AbortOnDropHandle::new(server) })
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
}

async fn take(State(gate): State<Arc<Gate>>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    if !gate.lets_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    match parse_events(&body) {
        Ok(objects) if objects.is_empty() => StatusCode::OK.into_response(),
        Ok(objects) => gate.begin(objects).await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
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

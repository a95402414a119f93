//! HTTP: routes, limits, and an orderly end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_http_server::{Bodies, BodyError, Limits};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Model;
use crate::metrics::Metrics;
use crate::predict::{RejectedRequest, ScoredBatch, predict};

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeOptions {
    /// The most transactions that one request may hold.
    pub max_batch: usize,
    /// Added to the time that each prediction takes, to see how a fleet does with a slow model.
    pub delay: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { max_batch: 1_000, delay: Duration::ZERO }
    }
}

/// The longest body that is read. A chunk holds at most 1 MiB of a source's bytes, of which JSON makes six times as much at
/// worst, beside its own words.
const MAX_BODY_BYTES: u32 = 16 * 1024 * 1024;
/// The bytes of all bodies that are read and answered at a time.
const MAX_BODIES_BYTES: u32 = 64 * 1024 * 1024;
/// How long a body may take to come.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long open requests may take once the server is asked to end; below the 10 s that compose gives.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// The description of this API, written by hand.
const OPENAPI: &str = include_str!("../openapi.json");

const JSON: &str = "application/json";

/// What all requests share.
struct ServerState {
    model: Arc<Model>,
    options: ServeOptions,
    metrics: Metrics,
    bodies: Bodies,
}

/// Answers on `listener` until `shutdown`, then finishes the requests that it has and returns.
pub async fn serve(listener: TcpListener, model: Arc<Model>, options: ServeOptions, shutdown: CancellationToken) {
    let bodies = Bodies::new(MAX_BODY_BYTES, MAX_BODIES_BYTES, READ_TIMEOUT);
    let state = Arc::new(ServerState { model, options, metrics: Metrics::default(), bodies });
    let router = axum::Router::new()
        .route("/predict", post(answer_predict))
        .route("/health", get(answer_health))
        .route("/metrics", get(answer_metrics))
        .route("/openapi.json", get(async || response(JSON, OPENAPI)))
        .with_state(state);
    let answering = assay_http_server::serve(listener, router, Limits::default(), shutdown.clone());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = answering => {}
        () = overdue => tracing::warn!("ending with requests that are still open after {DRAIN_TIMEOUT:?}"),
    }
}

async fn answer_predict(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let began = Instant::now();
    let body = state.bodies.read(request).await;
    if !state.options.delay.is_zero() {
        tokio::time::sleep(state.options.delay).await;
    }
    // On this thread: a thousand transactions take it a few milliseconds, which is less than to hand them over is worth.
    let scored = match body {
        Ok(body) => predict(&state.model, &body.bytes, state.options.max_batch),
        Err(error) => Err(rejected_body(error)),
    };
    let answer = match scored {
        Ok(ScoredBatch { body, transactions, fraud }) => {
            state.metrics.transactions(transactions, fraud);
            response(JSON, body)
        }
        Err(refusal) => {
            tracing::debug!(status = refusal.status.as_u16(), "refused: {}", refusal.error);
            (refusal.status, json(&refusal)).into_response()
        }
    };
    state.metrics.request(answer.status(), began.elapsed());
    answer
}

/// The refusal of a body that was not read.
fn rejected_body(error: BodyError) -> RejectedRequest {
    let message = match error {
        BodyError::TooLong(most) => format!("the body is too large: at most {} MiB are read", most / (1024 * 1024)),
        error => error.to_string(),
    };
    RejectedRequest::new(error.status(), message)
}

async fn answer_health(State(state): State<Arc<ServerState>>) -> Response {
    json(&serde_json::json!({ "status": "ok", "model_version": state.model.version() }))
}

async fn answer_metrics(State(state): State<Arc<ServerState>>) -> Response {
    response("text/plain; version=0.0.4; charset=utf-8", state.metrics.render(state.model.version()))
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => response(JSON, body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn response(content_type: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body.into()).into_response()
}

//! The HTTP server: routes, limits, and an orderly shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use assay_http_server::{BodyError, BodyReader, ServerLimits};
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

/// Settings of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelServerOptions {
    /// Most transactions of a request.
    pub max_batch: usize,
    /// Extra time for each request, to try out a slow model.
    pub delay: Duration,
}

impl Default for ModelServerOptions {
    fn default() -> Self {
        Self { max_batch: 1_000, delay: Duration::ZERO }
    }
}

/// Longest body. A chunk has at most 1 MiB of a source's bytes, which JSON escapes to at most six times as much, plus its own
/// syntax.
const MAX_BODY_BYTES: u32 = 16 * 1024 * 1024;
/// Most bytes of all bodies in memory.
const MAX_BODIES_BYTES: u32 = 64 * 1024 * 1024;
/// Longest time to receive a body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for open requests after the shutdown signal; less than the 10 s that compose allows.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// The OpenAPI description, written by hand.
const OPENAPI: &str = include_str!("../openapi.json");

const JSON: &str = "application/json";

/// What all requests share.
struct ApiServerState {
    model: Arc<Model>,
    options: ModelServerOptions,
    metrics: Metrics,
    bodies: BodyReader,
}

/// Serves on `listener` until `shutdown`, then finishes the open requests and returns.
pub async fn serve(listener: TcpListener, model: Arc<Model>, options: ModelServerOptions, shutdown: CancellationToken) {
    let bodies = BodyReader::new(MAX_BODY_BYTES, MAX_BODIES_BYTES, READ_TIMEOUT);
    let state = Arc::new(ApiServerState { model, options, metrics: Metrics::default(), bodies });
    let router = axum::Router::new()
        .route("/predict", post(answer_predict))
        .route("/health", get(answer_health))
        .route("/metrics", get(answer_metrics))
        .route("/openapi.json", get(async || response(JSON, OPENAPI)))
        .with_state(state);
    let serving = assay_http_server::serve(listener, router, ServerLimits::default(), shutdown.clone());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = serving => {}
        () = overdue => tracing::warn!("stopping with requests still open after {DRAIN_TIMEOUT:?}"),
    }
}

async fn answer_predict(State(state): State<Arc<ApiServerState>>, request: Request) -> Response {
    let began = Instant::now();
    let body = state.bodies.read(request).await;
    if !state.options.delay.is_zero() {
        tokio::time::sleep(state.options.delay).await;
    }
    // On this thread: a thousand transactions take a few milliseconds, too little to hand over to another.
    let scored = match body {
        Ok(body) => predict(&state.model, &body.bytes, state.options.max_batch),
        Err(error) => Err(rejected_body(error)),
    };
    let answer = match scored {
        Ok(ScoredBatch { body, transactions, fraud }) => {
            state.metrics.record_transactions(transactions, fraud);
            response(JSON, body)
        }
        Err(rejection) => {
            tracing::debug!(status = rejection.status.as_u16(), "rejected: {}", rejection.error);
            (rejection.status, json(&rejection)).into_response()
        }
    };
    state.metrics.record_request(answer.status(), began.elapsed());
    answer
}

/// The response to a body that was not read.
fn rejected_body(error: BodyError) -> RejectedRequest {
    let message = match error {
        BodyError::TooLong(most) => format!("the body is too large: the limit is {} MiB", most / (1024 * 1024)),
        error => error.to_string(),
    };
    RejectedRequest::new(error.status(), message)
}

async fn answer_health(State(state): State<Arc<ApiServerState>>) -> Response {
    json(&serde_json::json!({ "status": "ok", "model_version": state.model.version() }))
}

async fn answer_metrics(State(state): State<Arc<ApiServerState>>) -> Response {
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

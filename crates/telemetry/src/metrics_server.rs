//! Serves `/health/live`, `/health/ready` and `/metrics` over HTTP, for orchestrators and Prometheus.
//!
//! Without an address nothing listens and nothing is counted. Libraries and stages count through the facade `metrics`, each
//! in a module of that name.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use assay_http_server::{ServerLimits, serve};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Health;

/// Where a process serves its health and metrics.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Health and metrics")]
pub struct MetricsOptions {
    /// Address of health and metrics, such as 0.0.0.0:9464: plain HTTP, unauthenticated [default: off]
    #[arg(long, env = "METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,
}

/// Upper bounds of the histograms in seconds: from a write to a local database to a timeout of the ML API.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The same for what waits in a queue: from a live transaction to a backlog of hours.
const QUEUE_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 14_400.0];
/// Enough for a few probes and scrapers.
const MAX_CONNECTIONS: usize = 32;
/// Histograms are aggregated this often, so that they take no memory without a reader.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct MetricsState {
    health: Health,
    metrics: PrometheusHandle,
    process: Collector,
}

/// Starts counting, and serves at the address until the runtime ends. Metrics that are used before this are lost.
pub(crate) async fn serve_metrics(address: SocketAddr, program: &'static str, health: Health) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let state = MetricsState { health, metrics: install_recorder(program)?, process: Collector::default() };
    state.process.describe();
    let upkeep = state.metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    tracing::info!("health and metrics are at http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/health/live", get(async || "alive\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state);
    let limits = ServerLimits { max_connections: MAX_CONNECTIONS, ..ServerLimits::default() };
    // Until the runtime ends, so that the shutdown can be observed too.
    tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
    Ok(())
}

/// Installs the recorder of this process.
fn install_recorder(program: &'static str) -> io::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full("assay_queue_wait_seconds".to_owned()), &QUEUE_SECONDS)
        })
        .map_err(io::Error::other)?;
    let handle = builder.install_recorder().map_err(io::Error::other)?;
    metrics::describe_gauge!("assay_build_info", "Version of the program; always 1.");
    metrics::gauge!("assay_build_info", "version" => env!("CARGO_PKG_VERSION"), "program" => program).set(1.0);
    metrics::describe_gauge!("assay_dependency_up", "Whether a dependency was healthy at the last check.");
    Ok(handle)
}

async fn ready(State(state): State<MetricsState>) -> Response {
    match state.health.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
    }
}

async fn metrics(State(state): State<MetricsState>) -> Response {
    state.process.collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render()).into_response()
}

//! What a process shows of itself over HTTP, for orchestrators and for Prometheus: `/health/live`, `/health/ready`, `/metrics`.
//!
//! Without an address nothing listens and nothing is counted. Libraries and stages count through the facade `metrics`, each
//! in a module of that name.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use assay_http_server::{Limits, serve};
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

/// Where a process shows its health and its metrics.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Observation")]
pub struct MetricsOptions {
    /// Address to show health and metrics at, such as 0.0.0.0:9464: GET /health/live, /health/ready and /metrics, over plain
    /// HTTP and without asking who reads it [default: nowhere]
    #[arg(long, env = "METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,
}

/// Upper bounds of what is measured in seconds: from a write to a local database to an ML API that runs into its time-out.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// A few probes and scrapers come at a time, and no request has a body.
const CONNECTIONS: usize = 32;
/// What is measured is added up this often, so that it takes no memory where nobody reads it.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Observed {
    health: Health,
    metrics: PrometheusHandle,
    process: Collector,
}

/// Starts to count, and to answer at the address, until the runtime ends. Whatever counts must come after it.
pub(crate) async fn observe(address: SocketAddr, program: &'static str, health: Health) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let observed = Observed { health, metrics: install(program)?, process: Collector::default() };
    observed.process.describe();
    let upkeep = observed.metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    tracing::info!("health and metrics are at http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/health/live", get(async || "alive\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(observed);
    let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
    // To the end of the runtime: whoever watches over the process wants to see how it ends, too.
    tokio::spawn(serve(listener, router, limits, CancellationToken::new()));
    Ok(())
}

/// Makes this process count.
fn install(program: &'static str) -> io::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(io::Error::other)?;
    let handle = builder.install_recorder().map_err(io::Error::other)?;
    metrics::describe_gauge!("assay_build_info", "Version of the program; always 1.");
    metrics::gauge!("assay_build_info", "version" => env!("CARGO_PKG_VERSION"), "program" => program).set(1.0);
    metrics::describe_gauge!("assay_dependency_up", "Whether a dependency was well when it was last asked.");
    Ok(handle)
}

async fn ready(State(observed): State<Observed>) -> Response {
    match observed.health.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
    }
}

async fn metrics(State(observed): State<Observed>) -> Response {
    observed.process.collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], observed.metrics.render()).into_response()
}
